package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloakroom"
)

type say = func(context.Context, *EventReply) error

// talking is a service whose streams say what is sent to the channel.
func talking() *fakeService { return &fakeService{says: make(chan say)} }

// watch opens a stream and returns its header and what follows.
func (f *front) watch(headers ...string) (*http.Response, *bufio.Reader, net.Conn) {
	f.t.Helper()
	c := f.dial()
	io.WriteString(c, request("GET", "/v1/events", "", headers...))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.t.Fatalf("read response: %v", err)
	}
	return resp, bufio.NewReader(resp.Body), c
}

// block reads one event, up to its empty line.
func block(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", b.String(), err)
		}
		b.WriteString(line)
		if line == "\n" {
			return b.String()
		}
	}
}

// naming says that n subjects are gone and n others changed.
func (f *front) naming(n int, at time.Duration) say {
	return func(ctx context.Context, r *EventReply) error {
		if err := r.Begin(ctx, f.server.pool, []byte("cur"), 2*n); err != nil {
			return err
		}
		for range n {
			r.Erased(mustID(testID))
		}
		for range n {
			r.Changed(mustID(testID))
		}
		r.End(at)
		return nil
	}
}

func TestAStreamSaysWhatItIsTold(t *testing.T) {
	for name, open := range map[string]func(testing.TB, *fakeService, ...func(*Config)) *front{"plain": start, "TLS": startTLS} {
		t.Run(name, func(t *testing.T) {
			service := talking()
			f := open(t, service)
			resp, stream, _ := f.watch("Last-Event-ID: here")
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.ContentLength != -1 ||
				!resp.Close || len(resp.TransferEncoding) != 0 || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("header %+v", resp)
			}
			if service.cursor != "here" {
				t.Errorf("cursor %q", service.cursor)
			}
			id := `"` + testID + `"`
			for _, c := range []struct {
				say  say
				want string
			}{
				{nil, "event: hello\ndata: {\"lease_ms\":3000}\n\n"},
				{func(_ context.Context, r *EventReply) error { r.Reset([]byte("c1")); return nil }, "event: reset\nid: c1\ndata: {}\n\n"},
				{func(_ context.Context, r *EventReply) error { r.Alive(1500 * time.Millisecond); return nil }, "event: alive\ndata: {\"at_ms\":1500}\n\n"},
				{func(_ context.Context, r *EventReply) error { r.Quiet(); return nil }, ":\n\n"},
				{f.naming(1, 7*time.Second), "event: changes\nid: cur\ndata: {\"erased\":[" + id + "],\"changed\":[" + id + "],\"at_ms\":7000}\n\n"},
				{f.naming(2, -1), "event: changes\nid: cur\ndata: {\"erased\":[" + id + "," + id + "],\"changed\":[" + id + "," + id + "]}\n\n"},
				{f.naming(0, 0), "event: changes\nid: cur\ndata: {\"erased\":[],\"changed\":[],\"at_ms\":0}\n\n"},
			} {
				if c.say != nil {
					service.says <- c.say
				}
				got := block(t, stream)
				for strings.HasPrefix(got, ":.") { // padding behind the event before
					_, got, _ = strings.Cut(got, "\n")
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
			until(t, "guarded memory to be given back", func() bool { return f.server.pool.Stats().InUse == 0 })
			service.says <- func(context.Context, *EventReply) error { return io.EOF }
			if rest, err := io.ReadAll(stream); err != nil || strings.Trim(string(rest), ".:\n") != "" {
				t.Errorf("at the end %q, %v", rest, err)
			}
			until(t, "the stream to be closed", func() bool { return service.closed.Load() == 1 && f.server.Stats().Streams == 0 })
		})
	}
}

// Pseudonyms are personal data: none stays in a buffer of net/http or TLS.
func TestAStreamLeavesNothingBehind(t *testing.T) {
	for name, open := range map[string]func(testing.TB, *fakeService, ...func(*Config)) *front{"plain": start, "TLS": startTLS} {
		t.Run(name, func(t *testing.T) {
			service := talking()
			f := open(t, service)
			_, stream, c := f.watch()
			block(t, stream)
			for n := 1; n <= 250; n++ { // all lengths that matter to TLS
				service.says <- f.naming(n, 0)
				block(t, stream)
			}
			f.mu.Lock()
			conn := f.conns[0]
			f.mu.Unlock()
			c.Close()
			until(t, "the stream to be closed", func() bool {
				select {
				case service.says <- f.naming(1, 0):
				default:
				}
				return f.server.Stats().Streams == 0
			})
			for _, buf := range [][]byte{conn.reader, conn.room[:], input(conn)} {
				if bytes.Contains(buf, []byte(testID[:13])) {
					t.Error("a pseudonym was left behind")
				}
			}
		})
	}
}

// Over TLS no event has a length at which crypto/tls would leave plaintext
// behind (sizes.go).
func TestEventsArePaddedForTLS(t *testing.T) {
	sizes := findRecordSizes()
	padded := 0
	pool := testPool(t)
	for n := range 300 {
		var r EventReply
		if err := r.Begin(t.Context(), pool, bytes.Repeat([]byte("c"), n), 3); err != nil {
			t.Fatal(err)
		}
		r.Changed(mustID(testID))
		r.End(0)
		before := len(r.buf)
		buf, err := r.finish(true, sizes)
		if err != nil || !sizes.safe(len(buf)-headroom) {
			t.Errorf("cursor of %d bytes: %d bytes of event, %v", n, len(buf)-headroom, err)
		}
		if len(buf) > before {
			padded++
			if tail := buf[before:]; tail[0] != ':' || tail[len(tail)-1] != '\n' || bytes.Count(tail, []byte("\n")) != 1 {
				t.Errorf("padding %q is no comment", tail)
			}
		}
		r.Release()
	}
	if padded == 0 {
		t.Error("nothing was padded")
	}
}

func TestARefusedStreamIsAnAnswer(t *testing.T) {
	service := &fakeService{}
	f := start(t, service)
	service.err = cloakroom.ErrDenied
	checkProblem(t, f.do("GET", "/v1/events", ""), 403, "denied")
	service.err = nil
	for _, c := range []struct {
		path    string
		headers []string
	}{
		{"/v1/events?token=" + testToken, nil},
		{"/v1/events?access_token=x&cursor=y", nil},
		{"/v1/events?cursor=a%20b", nil},
		{"/v1/events?cursor=", nil},
		{"/v1/events?cursor=a&cursor=b", nil},
		{"/v1/events?cursor=a", []string{"Last-Event-ID: b"}},
		{"/v1/events", []string{"Last-Event-ID: a", "Last-Event-ID: b"}},
		{"/v1/events", []string{"Last-Event-ID: " + strings.Repeat("a", MaxCursorBytes+1)}},
		{"/v1/events?cursor=" + strings.Repeat("a", MaxCursorBytes+1), nil},
	} {
		checkProblem(t, f.do("GET", c.path, "", c.headers...), 400, "malformed")
	}
	checkProblem(t, f.do("GET", "/v1/events", "", "Authorization:"), 401, "unauthenticated")
	checkProblem(t, f.do("POST", "/v1/events", "{}"), 405, "method-not-allowed")
	if n := f.server.Stats().Streams; n != 0 {
		t.Errorf("%d streams are counted", n)
	}
	if a := f.do("GET", "/v1/events?cursor=same", "", "Last-Event-ID: same"); a.status != 200 || service.cursor != "same" {
		t.Errorf("status %d, cursor %q", a.status, service.cursor)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	service := talking()
	service.others = make(chan say)
	f := start(t, service, limits(func(l *Limits) { l.Streams, l.StreamsEach, l.Requests = 3, 2, 1 }))
	for range 2 {
		_, stream, _ := f.watch()
		block(t, stream)
	}
	checkProblem(t, f.do("GET", "/v1/events", ""), 429, "rate")
	service.name = "another"
	f.watch()
	a := f.do("GET", "/v1/events", "")
	checkProblem(t, a, 503, "overloaded")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// Streams take no place of a request.
	if a := f.do("POST", "/v1/resolve", okIDs); a.status != 200 {
		t.Errorf("a resolve beside %d streams: %d", f.server.Stats().Streams, a.status)
	}
	for _, says := range []chan say{service.says, service.says, service.others} {
		says <- func(context.Context, *EventReply) error { return io.EOF }
	}
	until(t, "the places to be given back", func() bool { return f.server.Stats().Streams == 0 })
	until(t, "a new stream", func() bool {
		resp, _, c := f.watch()
		c.Close()
		return resp.StatusCode == 200
	})
}

// A subscriber that does not read is dropped; another hears everything, and
// never has to wait for the first.
func TestASubscriberThatDoesNotReadIsDropped(t *testing.T) {
	service := talking()
	service.others = make(chan say)
	f := start(t, service, limits(func(l *Limits) { l.Write = 300 * time.Millisecond }))
	_, stream, c := f.watch()
	block(t, stream)
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	service.name = "another"
	_, quick, _ := f.watch()
	block(t, quick)
	until(t, "it to be dropped", func() bool {
		for range 100 {
			select {
			case service.says <- f.naming(250, 0):
			case <-time.After(time.Millisecond):
			}
		}
		begun := time.Now()
		service.others <- f.naming(3, 0)
		block(t, quick)
		if took := time.Since(begun); took > 250*time.Millisecond {
			t.Errorf("the other waited %v", took)
		}
		return f.server.Stats().Streams == 1
	})
	if got := f.server.Stats(); got.Dropped != 1 {
		t.Errorf("stats %+v, want 1 dropped", got)
	}
	until(t, "the service to hear of it", func() bool { return service.closed.Load() == 1 })
	service.others <- f.naming(1, 0)
	block(t, quick)
}

func TestAStreamEndsInTime(t *testing.T) {
	service := talking()
	f := start(t, service, limits(func(l *Limits) { l.Stream = 50 * time.Millisecond }))
	_, stream, _ := f.watch()
	if text, err := io.ReadAll(stream); err != nil || !strings.HasPrefix(string(text), "event: hello") {
		t.Errorf("got %q, %v", text, err)
	}
}

// A server that closes does not wait for streams, not even for one that is
// being written to and does not read.
func TestClosingEndsStreams(t *testing.T) {
	for name, end := range map[string]func(*Server) error{
		"close": func(s *Server) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return s.Close(ctx)
		},
		"cut": func(s *Server) error { s.Cut(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			service := talking()
			f := start(t, service)
			_, stream, _ := f.watch()
			block(t, stream)
			_, idle, c := f.watch()
			block(t, idle)
			c.(*net.TCPConn).SetReadBuffer(4 << 10)
			stuck := false
			for !stuck { // one of them reads, the other fills up
				select {
				case service.says <- f.naming(250, 0):
				case <-time.After(200 * time.Millisecond):
					stuck = true
				}
			}
			begun := time.Now()
			if err := end(f.server); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := f.server.Quiesce(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			if n := service.closed.Load(); n != 2 {
				t.Errorf("%d of 2 streams were closed", n)
			}
		})
	}
}

func TestAPanicEndsAStream(t *testing.T) {
	service := talking()
	f := start(t, service)
	_, stream, _ := f.watch()
	block(t, stream)
	service.says <- func(context.Context, *EventReply) error { panic("with " + marker) }
	if rest, err := io.ReadAll(stream); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	until(t, "the stream to be gone", func() bool { return f.server.Stats().Streams == 0 && service.closed.Load() == 1 })
	if strings.Contains(f.log.String(), marker) {
		t.Error("the panic's text was logged")
	}
	if err := f.server.streams.enter("tester"); err != nil {
		t.Error(err)
	}
}

// The caller of a stream is past being told why; the operator is not.
func TestWhyAStreamEndedIsLogged(t *testing.T) {
	service := talking()
	f := start(t, service)
	for _, c := range []struct {
		err    error
		logged bool
	}{{cloakroom.ErrDenied, false}, {context.Canceled, false}, {errors.New("a broken record"), true}} {
		_, stream, _ := f.watch()
		block(t, stream)
		service.says <- func(context.Context, *EventReply) error { return c.err }
		if rest, err := io.ReadAll(stream); err != nil || len(rest) != 0 {
			t.Errorf("got %q, %v", rest, err)
		}
		until(t, "the stream to be gone", func() bool { return f.server.Stats().Streams == 0 })
		if got := strings.Contains(f.log.String(), c.err.Error()); got != c.logged {
			t.Errorf("%v: logged: %v", c.err, got)
		}
	}
}

func TestAThousandStreamsLeaveNoGoroutine(t *testing.T) {
	service := talking()
	f := start(t, service, limits(func(l *Limits) { l.StreamsEach = 1024 }))
	f.do("GET", sub, "")
	before := runtime.NumGoroutine()
	for range 10 {
		var open []net.Conn
		for range 100 {
			_, stream, c := f.watch()
			block(t, stream)
			open = append(open, c)
		}
		if n := f.server.Stats().Streams; n != 100 {
			t.Fatalf("%d streams, want 100", n)
		}
		for _, c := range open {
			c.Close()
		}
		until(t, "all to be found out, by writing", func() bool {
			select {
			case service.says <- f.naming(1, 0):
			case <-time.After(time.Millisecond):
			}
			return f.server.Stats().Streams == 0
		})
	}
	until(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	if n := service.closed.Load(); n != 1000 {
		t.Errorf("%d streams were closed, want 1000", n)
	}
}
