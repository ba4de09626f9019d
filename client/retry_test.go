package client_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/client/clienttest"
)

// fail answers the first n requests with a problem.
func fail(n, status int, name, retryAfter string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if n--; n < 0 {
			return false
		}
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		clienttest.Problem(w, status, name)
		return true
	}
}

func deposit(ctx context.Context, c *client.Client) error {
	_, err := c.Deposit(ctx, client.Subject{Fields: client.Fields{"display_name": client.Text(name)}})
	return err
}

func TestRetryOnlyWhereSafe(t *testing.T) {
	put := func(ctx context.Context, c *client.Client) error {
		_, err := c.Put(ctx, client.Subject{ID: cloakroom.Pseudonym{0: 1, 6: 0x40, 8: 0x80}})
		return err
	}
	for _, test := range []struct {
		what       string
		call       func(context.Context, *client.Client) error
		fail       func(http.ResponseWriter, *http.Request) bool
		want       error
		wantCalled int
	}{
		{"503 with Retry-After, nothing was done", deposit, fail(2, 503, "overloaded", "1"), nil, 3},
		{"503 without", deposit, fail(1, 503, "memory-full", ""), cloakroom.ErrMemoryFull, 1},
		{"503 that asks for longer than an attempt may take", deposit, fail(1, 503, "sealed", "3600"), cloakroom.ErrSealed, 1},
		{"504 with the same key", deposit, fail(1, 504, "outcome-unknown", ""), nil, 2},
		{"504 without a key", put, fail(1, 504, "outcome-unknown", ""), cloakroom.ErrOutcomeUnknown, 1},
		{"bounded", deposit, fail(99, 503, "overloaded", "1"), cloakroom.ErrOverloaded, 5},
		{"429 is the caller's to pace", deposit, fail(1, 429, "rate", "1"), cloakroom.ErrRate, 1},
		{"409", deposit, fail(1, 409, "conflict", "1"), cloakroom.ErrConflict, 1},
	} {
		s, c, _ := start(t)
		s.Hook(test.fail)
		if err := test.call(t.Context(), c); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.what, err, test.want)
		}
		requests := s.Requests()
		if len(requests) != test.wantCalled {
			t.Errorf("%s: %d requests, want %d", test.what, len(requests), test.wantCalled)
		}
		for _, r := range requests {
			if r.Key != requests[0].Key {
				t.Errorf("%s: the Idempotency-Key changed between attempts", test.what)
			}
		}
	}
}

func TestRetryWaits(t *testing.T) {
	s, c, slept := start(t)
	s.Hook(fail(2, 503, "overloaded", "2"))
	if err := deposit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, d := range *slept {
		if d < 2*time.Second || d > 4*time.Second {
			t.Errorf("waited %v, want what Retry-After said and a bit", d)
		}
	}
	if len(*slept) != 2 || (*slept)[0] == (*slept)[1] {
		t.Errorf("waited %v: no jitter", *slept)
	}
}

func TestRetryStopsWithContext(t *testing.T) {
	s, c, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		cancel()
		return fail(99, 503, "overloaded", "1")(w, r)
	})
	if err := deposit(ctx, c); err == nil {
		t.Fatal("no error")
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestProblemFromAProxy(t *testing.T) {
	s, c, _ := start(t)
	s.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "<html>"+name, http.StatusBadGateway)
		return true
	})
	err := deposit(t.Context(), c)
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != 502 || strings.Contains(err.Error(), "Ada") {
		t.Errorf("got %v", err)
	}
}

func TestNoAnswerHidesThePseudonym(t *testing.T) {
	s, c, _ := start(t)
	s.Server.Close()
	id := cloakroom.Pseudonym{0: 1, 6: 0x40, 8: 0x80}
	_, err := c.Get(t.Context(), id, client.Query{Fields: []string{"email"}})
	var unreachable *client.UnreachableError
	if !errors.As(err, &unreachable) || strings.Contains(err.Error(), id.String()[:8]) {
		t.Errorf("got %v", err)
	}
}

func TestBrokenAnswers(t *testing.T) {
	for _, body := range []string{"", "{", `{"id":"x"}`, `{"results":[]}`, `{"subjects":{"x":{}},"missing":[]}`, "[]"} {
		s, c, _ := start(t)
		s.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Write([]byte(body))
			return true
		})
		if err := deposit(t.Context(), c); err == nil {
			t.Errorf("Deposit takes %q", body)
		}
		if _, err := c.DepositBatch(t.Context(), make([]client.Subject, 1)); err == nil {
			t.Errorf("DepositBatch takes %q", body)
		}
		if _, err := c.Resolve(t.Context(), make([]cloakroom.Pseudonym, 1), client.Query{}); err == nil {
			t.Errorf("Resolve takes %q", body)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := clienttest.Start(t)
	s, c, _ := start(t)
	s.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	if err := deposit(t.Context(), c); err == nil {
		t.Error("no error")
	}
	if n := len(elsewhere.Requests()); n != 0 {
		t.Errorf("%d requests went to where the redirect pointed", n)
	}
}

func TestCACert(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for ca, want := range map[string]bool{path: true, "": false} {
		c, err := client.New(client.Config{Addr: server.URL, CACert: ca})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ready(t.Context()); (err == nil) != want {
			t.Errorf("CA %q: %v", ca, err)
		} else if err != nil && !strings.Contains(err.Error(), "CA certificate") {
			t.Errorf("error does not say what to do: %v", err)
		}
		c.Close()
	}
}

// lateTransport answers at once and lets go of the request body afterwards, as
// net/http may.
type lateTransport struct{ released atomic.Bool }

func (l *lateTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	go func() { // ends by itself
		for range 1000 {
			runtime.Gosched()
		}
		l.released.Store(true)
		req.Body.Close()
	}()
	return &http.Response{StatusCode: 413, Header: http.Header{}, Body: http.NoBody}, nil
}

// An importer uses the memory of a body again as soon as a call returns.
func TestBodyIsLetGoOf(t *testing.T) {
	late := &lateTransport{}
	c, err := client.New(client.Config{Addr: "127.0.0.1:1", Transport: late})
	if err != nil {
		t.Fatal(err)
	}
	if err := deposit(t.Context(), c); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Fatal(err)
	}
	if !late.released.Load() {
		t.Error("the call returned while the body was in use")
	}
}
