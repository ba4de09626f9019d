package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

// fakeServer is a transport: streams of events whose text a test writes, and
// reads that a test answers.
type fakeServer struct {
	mu      sync.Mutex
	cursors []string // of the streams that were begun
	refuse  func(n int) (status int, problem string)
	streams chan *io.PipeWriter
	resolve func(ids []string) string
}

func newFakeServer() *fakeServer {
	return &fakeServer{streams: make(chan *io.PipeWriter, 100)}
}

func (f *fakeServer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/v1/events" {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body.Close()
		answer := f.resolve(idsIn(string(body)))
		return &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer))}, nil
	}
	f.mu.Lock()
	f.cursors = append(f.cursors, req.Header.Get("Last-Event-ID"))
	n := len(f.cursors)
	status, name := 0, ""
	if f.refuse != nil {
		status, name = f.refuse(n)
	}
	f.mu.Unlock()
	if status != 0 {
		text := fmt.Sprintf(`{"type":"/problems/%s","title":"no","status":%d}`, name, status)
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/problem+json"}},
			ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}, nil
	}
	r, w := io.Pipe()
	context.AfterFunc(req.Context(), func() { w.CloseWithError(req.Context().Err()) })
	f.streams <- w
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, ContentLength: -1, Body: r}, nil
}

// idsIn finds what stands between quotes and looks like a pseudonym.
func idsIn(body string) (ids []string) {
	for _, part := range strings.Split(body, `"`) {
		if len(part) == cloakroom.PseudonymTextLen {
			ids = append(ids, part)
		}
	}
	return ids
}

func (f *fakeServer) client(t *testing.T, cache *CacheConfig) *Client {
	t.Helper()
	c, err := New(Config{Addr: "localhost:1", Transport: f, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	hello = "event: hello\ndata: {\"lease_ms\":3000}\n\n"
	reset = "event: reset\nid: c0\ndata: {}\n\n"
)

func alive(at time.Duration) string {
	return fmt.Sprintf("event: alive\ndata: {\"at_ms\":%d}\n\n", at.Milliseconds())
}

func changes(cursor string, erased, changed []string) string {
	quote := func(ids []string) string {
		if len(ids) == 0 {
			return ""
		}
		return `"` + strings.Join(ids, `","`) + `"`
	}
	return fmt.Sprintf("event: changes\nid: %s\ndata: {\"erased\":[%s],\"changed\":[%s]}\n\n", cursor, quote(erased), quote(changed))
}

const (
	adaID   = "0b5d8a3e-8c3f-4a1e-9d7a-0f6f3c1b2a4d"
	graceID = "1c6e9b4f-9d40-4b2f-8e8b-107041c2b3e5"
)

func parse(t *testing.T, text string) cloakroom.Pseudonym {
	t.Helper()
	id, err := cloakroom.ParsePseudonym([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// watching runs Events in a bubble and returns what it hands over, and how it
// ends.
func watching(t *testing.T, c *Client, w Watch) (events chan Event, ended chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, ended = make(chan Event, 100), make(chan error, 1)
	go func() {
		ended <- c.Events(ctx, w, func(e Event) error {
			events <- e
			return nil
		})
	}()
	return events, ended, func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestEventsAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer()
		c := f.client(t, nil)
		begun := time.Now()
		events, _, stop := watching(t, c, Watch{})
		defer stop()
		s := <-f.streams
		io.WriteString(s, ":\n\n"+hello+reset+changes("c1", []string{adaID}, []string{graceID}))
		first, second := <-events, <-events
		if !first.Reset || first.Cursor != "c0" || !first.Known.IsZero() {
			t.Errorf("first %+v", first)
		}
		if second.Reset || second.Cursor != "c1" || !slices.Equal(second.Erased, []cloakroom.Pseudonym{parse(t, adaID)}) ||
			!slices.Equal(second.Changed, []cloakroom.Pseudonym{parse(t, graceID)}) {
			t.Errorf("second %+v", second)
		}
		// What was a minute on its way is a minute old.
		<-time.After(4 * time.Second)
		io.WriteString(s, alive(time.Second))
		if e := <-events; !e.Known.Equal(begun.Add(time.Second)) || e.Cursor != "c1" {
			t.Errorf("known as of %v after the beginning, cursor %q; want 1s and c1", e.Known.Sub(begun), e.Cursor)
		}
		// A server whose clock runs fast knows nothing from the future.
		io.WriteString(s, alive(time.Hour))
		if e := <-events; !e.Known.Equal(time.Now()) {
			t.Errorf("known as of %v from now", time.Until(e.Known))
		}
	})
}

func TestEventsGoOnBehindTheCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer()
		f.refuse = func(n int) (int, string) {
			switch n {
			case 3:
				return 503, "starting"
			case 4:
				return 429, "rate"
			case 6:
				return 400, "malformed"
			}
			return 0, ""
		}
		c := f.client(t, nil)
		events, _, stop := watching(t, c, Watch{Cursor: "mine"})
		defer stop()
		s := <-f.streams
		io.WriteString(s, hello+changes("c7", []string{adaID}, nil)+"event: changes\nid: c8\ndata: {\"era")
		s.Close() // in the middle of an event, which is none then
		<-events
		s = <-f.streams
		io.WriteString(s, hello) // and no more: the client gives it up
		quiet := time.Now()
		s = <-f.streams
		if took := time.Since(quiet); took > defaultSilence+2*time.Second {
			t.Errorf("given up after %v", took)
		}
		io.WriteString(s, hello+changes("c9", nil, []string{graceID}))
		<-events
		s.Close()
		s = <-f.streams
		io.WriteString(s, hello+reset)
		if e := <-events; !e.Reset {
			t.Errorf("after a cursor of another cluster: %+v, want a reset", e)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if want := []string{"mine", "c7", "c7", "c7", "c7", "c9", ""}; !slices.Equal(f.cursors, want) {
			t.Errorf("cursors sent: %q, want %q", f.cursors, want)
		}
	})
}

func TestEventsEndWhereTheyMust(t *testing.T) {
	ours := errors.New("enough")
	for name, c := range map[string]struct {
		status  int
		problem string
		handle  error
		cursor  string
		want    error
	}{
		"a token that is not known":        {status: 401, problem: "unauthenticated", want: cloakroom.ErrUnauthenticated},
		"no right":                         {status: 403, problem: "denied", want: cloakroom.ErrDenied},
		"a cursor of another cluster":      {status: 400, problem: "malformed", cursor: "other", want: cloakroom.ErrMalformed},
		"an error of the caller's handler": {handle: ours, want: ours},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeServer()
				f.refuse = func(int) (int, string) { return c.status, c.problem }
				client := f.client(t, nil)
				go func() {
					select {
					case s := <-f.streams:
						io.WriteString(s, hello+reset)
					case <-t.Context().Done():
					}
				}()
				err := client.Events(t.Context(), Watch{Cursor: c.cursor}, func(Event) error { return c.handle })
				if !errors.Is(err, c.want) {
					t.Errorf("ended with %v, want %v", err, c.want)
				}
			})
		})
	}
	c := newFakeServer().client(t, nil)
	if err := c.Events(t.Context(), Watch{Silence: time.Second}, nil); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Errorf("a silence of 1 s: %v", err)
	}
}

// What a server sends that is no event ends the connection, not the program.
func TestEventsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"event: changes\ndata: {\"erased\":[\"x\"]}\n\n",
		"event: changes\ndata: nonsense\n\n",
		"event: changes\n\n",
		"event: hello\ndata: {\"lease_ms\":-1}\n\n",
		"event: hello\ndata: {\"lease_ms\":99999999999}\n\n",
		"data: " + strings.Repeat("x", maxEventLine) + "\n\n",
		"event: changes\n" + strings.Repeat("data: "+strings.Repeat(" ", maxEventLine/2)+"\n", 3) + "data: {}\n\n",
	} {
		r := newEventReader(strings.NewReader(text), func() {})
		m, err := r.next()
		if err == nil {
			_, err = m.event(time.Now(), time.Now())
		}
		if err == nil {
			t.Errorf("%.60q was taken", text)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte(hello + reset + alive(time.Second)))
	f.Add([]byte(changes("c1", []string{adaID}, []string{graceID})))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newEventReader(strings.NewReader(string(text)), func() {})
		now := time.Now()
		for range len(text) + 1 {
			m, err := r.next()
			if err != nil {
				return
			}
			if e, err := m.event(now, now); err == nil && e.Known.After(now) {
				t.Errorf("known as of %v from now", e.Known.Sub(now))
			}
		}
		t.Error("the stream does not end")
	})
}
