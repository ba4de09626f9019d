package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// drivers are the ways to drive connections; every behaviour holds for all.
var drivers = map[string]func(*Config, *httptest.Server){
	"epoll":      func(*Config, *httptest.Server) {},
	"goroutines": func(c *Config, _ *httptest.Server) { c.Goroutines = true },
	"tls": func(c *Config, s *httptest.Server) {
		c.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}
	},
}

func forEachDriver(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, g *Generator)) {
	for name, set := range drivers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			if name == "tls" {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			cfg := Config{Addr: server.Listener.Addr().String(), Connections: 4, CheckEvery: 3}
			set(&cfg, server)
			g, err := Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			test(t, g)
		})
	}
}

// echoPlan asks an echo server for bodies of its number and some length.
func echoPlan(n, size int) *Plan {
	plan := &Plan{Items: 10, Frame: HTTP}
	for i := range n {
		body := fmt.Sprintf("%d:%s", i, strings.Repeat("x", size))
		plan.Requests = append(plan.Requests, fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	plan.Check = func(i int, reply []byte) error {
		if want := plan.Requests[i]; !bytes.Equal(Body(reply), Body(want)) {
			return fmt.Errorf("request %d got the wrong body", i)
		}
		return nil
	}
	return plan
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Write(body)
}

func TestClosedRun(t *testing.T) {
	forEachDriver(t, echo, func(t *testing.T, g *Generator) {
		res, err := g.Closed(t.Context(), echoPlan(7, 100), 20*time.Millisecond, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if res.Items != 10*res.Requests || res.Requests != res.Latency.TotalCount() {
			t.Errorf("got %d requests, %d items, %d latencies", res.Requests, res.Items, res.Latency.TotalCount())
		}
		if res.Checked == 0 || res.Elapsed < 100*time.Millisecond {
			t.Errorf("got %d checked in %v", res.Checked, res.Elapsed)
		}
	})
}

func TestOnceSendsEachRequestOnce(t *testing.T) {
	var seen [50]atomic.Int32
	count := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var i int
		fmt.Sscanf(string(body), "%d:", &i)
		seen[i].Add(1)
		w.WriteHeader(http.StatusCreated)
	}
	runs := int32(0)
	forEachDriver(t, count, func(t *testing.T, g *Generator) {
		plan := echoPlan(len(seen), 10)
		plan.Check = nil
		res, err := g.Once(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		runs++
		if res.Requests != int64(len(seen)) {
			t.Errorf("got %d replies, want %d", res.Requests, len(seen))
		}
		for i := range seen {
			if got := seen[i].Load(); got != runs {
				t.Errorf("request %d was sent %d times in %d runs", i, got, runs)
			}
		}
	})
}

// TestLargeRequestsAndReplies does not fit into socket buffers either way.
func TestLargeRequestsAndReplies(t *testing.T) {
	forEachDriver(t, echo, func(t *testing.T, g *Generator) {
		plan := echoPlan(6, 5<<20)
		g.cfg.CheckEvery = 1
		if res, err := g.Once(t.Context(), plan); err != nil || res.Checked != 6 {
			t.Errorf("got %d checked, %v", res.Checked, err)
		}
	})
}

// TestOpenRunCountsFromTheIntendedStart stalls the server once: every request
// that should have started meanwhile must show the wait, not just those in
// flight (coordinated omission).
func TestOpenRunCountsFromTheIntendedStart(t *testing.T) {
	const stall = 100 * time.Millisecond
	var stalled atomic.Bool
	var release atomic.Pointer[chan struct{}]
	handler := func(w http.ResponseWriter, r *http.Request) {
		if stalled.CompareAndSwap(false, true) {
			time.AfterFunc(stall, func() { close(*release.Load()) })
		}
		<-*release.Load()
		echo(w, r)
	}
	forEachDriver(t, handler, func(t *testing.T, g *Generator) {
		stalled.Store(false)
		gate := make(chan struct{})
		release.Store(&gate)
		res, err := g.Open(t.Context(), echoPlan(5, 10), 0, 300*time.Millisecond, 500)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Requests; got != 150 { // however late the generator itself was
			t.Errorf("got %d requests in 300 ms at 500 a second", got)
		}
		// A third of the run was stalled, so a sixth waited half the stall.
		if got := time.Duration(res.Latency.ValueAtQuantile(90)); got < stall/3 {
			t.Errorf("got p90 %v after a stall of %v with 4 connections", got, stall)
		}
		if got := time.Duration(res.Latency.Max()); got < stall*9/10 {
			t.Errorf("got max %v after a stall of %v", got, stall)
		}
	})
}

func TestFailuresEndTheRun(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"status":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"wrong body":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "something else") },
		"no length":   func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "x"); w.(http.Flusher).Flush() },
		"hangs up":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not allowed": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachDriver(t, handler, func(t *testing.T, g *Generator) {
				if res, err := g.Closed(t.Context(), echoPlan(3, 10), 0, 50*time.Millisecond); err == nil {
					t.Errorf("got %d requests and no error", res.Requests)
				}
			})
		})
	}
}

func TestRunHonoursTheContext(t *testing.T) {
	forEachDriver(t, echo, func(t *testing.T, g *Generator) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := g.Closed(ctx, echoPlan(3, 10), 0, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func TestDialRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":       {},
		"too many":      {Addr: "127.0.0.1:1", Connections: MaxConnections + 1},
		"nobody there":  {Addr: "127.0.0.1:1"},
		"no port":       {Addr: "127.0.0.1"},
		"nobody, slow":  {Addr: "127.0.0.1:1", Goroutines: true},
		"negative rate": {Addr: "127.0.0.1:1", CheckEvery: -1},
	} {
		if g, err := Dial(t.Context(), cfg); err == nil {
			g.Close()
			t.Errorf("%s: dialled", name)
		}
	}
}

// TestRedisProtocol runs GET and MGET against a few lines of Redis.
func TestRedisProtocol(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					if _, err := in.ReadString('\n'); err != nil {
						return
					}
					io.WriteString(conn, "*2\r\n$5\r\nhello\r\n$0\r\n\r\n")
				}
			}()
		}
	}()
	g, err := Dial(t.Context(), Config{Addr: listener.Addr().String(), CheckEvery: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	plan := &Plan{Requests: [][]byte{[]byte("MGET a b\n")}, Items: 2, Frame: RESP, Check: func(_ int, reply []byte) error {
		if !bytes.Contains(reply, []byte("hello")) {
			return errors.New("no hello")
		}
		return nil
	}}
	if res, err := g.Closed(t.Context(), plan, 0, 50*time.Millisecond); err != nil || res.Checked == 0 {
		t.Errorf("got %+v, %v", res, err)
	}
}
