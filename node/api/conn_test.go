package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func limits(change func(*Limits)) func(*Config) {
	return func(c *Config) { change(&c.Limits) }
}

// closed reports whether the server ended the connection without a word.
func closed(c net.Conn) bool {
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	f := start(t, new(fakeService), limits(func(l *Limits) { l.Header = 30 * time.Millisecond }))
	for _, text := range []string{"", "POST /v1/res", "POST /v1/resolve HTTP/1.1\r\nHost: x\r\n"} {
		c := f.dial()
		io.WriteString(c, text)
		// net/http takes a line that was cut off for a malformed one.
		said, err := io.ReadAll(c)
		if err != nil || len(said) > 0 && !bytes.HasPrefix(said, []byte("HTTP/1.1 400 ")) {
			t.Errorf("after %q the connection is still served: %q, %v", text, said, err)
		}
	}
}

func TestSlowHandshakeIsCutOff(t *testing.T) {
	f := startTLS(t, new(fakeService), limits(func(l *Limits) { l.Header = 30 * time.Millisecond }))
	f.client = nil // speaks no TLS
	c := f.dial()
	io.WriteString(c, "\x16\x03\x01")
	io.Copy(io.Discard, c) // an alert may come
	until(t, "the connection to be closed", func() bool { return f.server.Stats().Connections == 0 })
}

func TestIdleConnectionIsClosed(t *testing.T) {
	f := start(t, new(fakeService), limits(func(l *Limits) { l.Idle = 30 * time.Millisecond }))
	c := f.dial()
	io.WriteString(c, request("POST", "/v1/resolve", okIDs))
	if a := readAnswer(t, bufio.NewReader(c), "POST"); a.status != 200 {
		t.Fatalf("status %d", a.status)
	}
	if !closed(c) {
		t.Error("an idle connection stays open")
	}
}

func TestStalledBodyIsCutOff(t *testing.T) {
	service := new(fakeService)
	f := start(t, service, limits(func(l *Limits) { l.Stall = 30 * time.Millisecond }))
	for _, framing := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		a := f.do("POST", "/v1/resolve", "5\r\n{\"ids", framing)
		checkProblem(t, a, 408, "slow-body")
		if !a.close || service.calls != 0 {
			t.Errorf("%s: close %v, calls %d", framing, a.close, service.calls)
		}
	}
}

// TestEndlessBodyIsCutOff trickles a body that never stalls and never ends.
func TestEndlessBodyIsCutOff(t *testing.T) {
	service := new(fakeService)
	f := start(t, service, limits(func(l *Limits) { l.Body = 50 * time.Millisecond }))
	c := f.dial()
	io.WriteString(c, request("POST", "/v1/subjects/batch", "1\r\n{\r\n", "Transfer-Encoding: chunked"))
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c, "1\r\n \r\n"); err != nil {
				return
			}
		}
	}()
	checkProblem(t, readAnswer(t, bufio.NewReader(c), "POST"), 408, "slow-body")
	if service.calls != 0 {
		t.Error("the service was called")
	}
}

func TestSlowReaderIsCutOff(t *testing.T) {
	f := start(t, new(fakeService), fixedBytes(8<<20), limits(func(l *Limits) { l.Write = 50 * time.Millisecond }))
	c := f.dial()
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	io.WriteString(c, request("GET", sub, ""))
	until(t, "the request to begin", func() bool { return f.server.Stats().Requests == 1 })
	until(t, "the connection to be closed", func() bool { return f.server.Stats().Connections == 0 })
}

func TestFloodIsShed(t *testing.T) {
	service := &fakeService{entered: make(chan struct{}), blocked: make(chan struct{})}
	f := start(t, service, limits(func(l *Limits) { l.Requests = 2 }))
	var waiting []net.Conn
	for range 2 {
		c := f.dial()
		io.WriteString(c, request("POST", "/v1/resolve", okIDs))
		<-service.entered
		waiting = append(waiting, c)
	}
	used := f.server.pool.Stats().InUse
	for range 10 {
		a := f.do("POST", "/v1/resolve", manyIDs(1000))
		checkProblem(t, a, 503, "overloaded")
		if a.header.Get("Retry-After") != "1" {
			t.Error("no Retry-After")
		}
	}
	if now := f.server.pool.Stats().InUse; now != used {
		t.Errorf("shedding took guarded memory: %d bytes, before %d", now, used)
	}
	if stats := f.server.Stats(); stats.Shed != 10 || stats.InFlight != 2 {
		t.Errorf("stats %+v", stats)
	}
	close(service.blocked)
	for _, c := range waiting {
		if a := readAnswer(t, bufio.NewReader(c), "POST"); a.status != 200 {
			t.Errorf("a request under way got %d", a.status)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	f := start(t, new(fakeService), limits(func(l *Limits) { l.Connections = 1 }))
	first := f.dial()
	io.WriteString(first, request("GET", sub, ""))
	answers := bufio.NewReader(first)
	readAnswer(t, answers, "GET")
	a := readAnswer(t, bufio.NewReader(f.dial()), "GET")
	if a.status != 503 || a.header.Get("Retry-After") != "1" || !a.close {
		t.Errorf("got %+v", a)
	}
	if stats := f.server.Stats(); stats.Refused != 1 || stats.Connections != 1 {
		t.Errorf("stats %+v", stats)
	}
	io.WriteString(first, request("GET", sub, ""))
	if a := readAnswer(t, answers, "GET"); a.status != 200 {
		t.Errorf("the first connection got %d", a.status)
	}
}

// TestConnectionIsKept sends good and refused requests on one connection.
func TestConnectionIsKept(t *testing.T) {
	for _, f := range []*front{start(t, new(fakeService)), startTLS(t, new(fakeService))} {
		c := f.dial()
		r := bufio.NewReader(c)
		for i, text := range []string{
			request("POST", "/v1/resolve", okIDs),
			request("POST", "/v1/resolve", `{"ids":`),
			request("POST", "/v1/resolve", okIDs, "Authorization:"),
			request("POST", "/v1/resolve", strings.Repeat(" ", MaxResolveBytes+1)),
			request("POST", "/v1/resolve", chunked(okIDs, 7), "Transfer-Encoding: chunked"),
			request("GET", sub, ""),
			request("POST", "/v1/resolve", manyIDs(1000)),
		} {
			io.WriteString(c, text)
			want := []int{200, 400, 401, 413, 200, 200, 200}[i]
			if a := readAnswer(t, r, "POST"); a.status != want || a.close {
				t.Errorf("request %d: status %d, close %v; want %d", i, a.status, a.close, want)
			}
		}
	}
}

func TestPipelining(t *testing.T) {
	for _, f := range []*front{start(t, new(fakeService)), startTLS(t, new(fakeService))} {
		c := f.dial()
		one := request("POST", "/v1/resolve", manyIDs(50))
		go io.WriteString(c, strings.Repeat(one, 20))
		r := bufio.NewReader(c)
		for i := range 20 {
			if a := readAnswer(t, r, "POST"); a.status != 200 {
				t.Fatalf("request %d: %d %s", i, a.status, a.body)
			}
		}
	}
}

func TestExpectContinue(t *testing.T) {
	f := start(t, new(fakeService))
	c := f.dial()
	r := bufio.NewReader(c)
	text := request("POST", "/v1/resolve", okIDs, "Expect: 100-continue")
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	io.WriteString(c, head+"\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v, %v; want 100", resp, err)
	}
	io.WriteString(c, body)
	if a := readAnswer(t, r, "POST"); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	// Refused before the body was asked for: the connection ends.
	a := f.raw(strings.TrimSuffix(request("POST", "/v1/resolve", okIDs, "Expect: 100-continue", "Authorization:"), okIDs))
	if checkProblem(t, a, 401, "unauthenticated"); !a.close {
		t.Error("the connection stays open with the body on its way or not")
	}
}

func TestOldAndBroken(t *testing.T) {
	f := start(t, new(fakeService))
	for text, want := range map[string]int{
		"GET /livez HTTP/1.0\r\n\r\n":                                                            200,
		"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                            200,
		"GET /livez HTTP/1.1\r\n\r\n":                                                            400,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                       404,
		"GET /livez HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n" + marker:                              400,
		"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n":       431,
		"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":                501,
		"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
	} {
		a := f.raw(text)
		if a.status != want || strings.Contains(a.body, marker) {
			t.Errorf("%.40q: status %d, body %q; want %d", text, a.status, a.body, want)
		}
	}
}

// TestHeadIsAnswered: health checks like to ask with HEAD. They hear which
// methods there are, without a body, and the connection goes on.
func TestHeadIsAnswered(t *testing.T) {
	f := start(t, new(fakeService))
	c := f.dial()
	if _, err := io.WriteString(c, request("HEAD", "/livez", "")+request("GET", "/livez", "")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if a := readAnswer(t, r, "HEAD"); a.status != 405 || a.header.Get("Allow") != "GET" || a.body != "" {
		t.Errorf("HEAD: %+v", a)
	}
	if a := readAnswer(t, r, "GET"); a.status != 200 || a.body != `{"live":true}` {
		t.Errorf("the GET behind it: %+v", a)
	}
}

// TestLongHeader answers with a header that does not fit the headroom.
func TestLongHeader(t *testing.T) {
	f := start(t, new(fakeService))
	c := &conn{Conn: discardConn{}, server: f.server, hold: true, serving: true}
	if n, err := c.Write(make([]byte, headroom+1)); n != headroom+1 || err != nil || len(c.held) != 0 {
		t.Errorf("a long header: %d, %v, held %d", n, err, len(c.held))
	}
	if n, err := c.Write(make([]byte, headroom)); n != headroom || err != nil || len(c.held) != headroom {
		t.Errorf("a header as long as the headroom: %d, %v, held %d", n, err, len(c.held))
	}
	if n, err := c.ReadFrom(&payload{make([]byte, headroom+10)}); n != 10 || err != nil {
		t.Errorf("the payload: %d, %v", n, err)
	}
	if _, err := c.ReadFrom(strings.NewReader(marker)); err == nil {
		t.Error("a foreign reader was written")
	}
}

type discardConn struct{ net.Conn }

func (discardConn) Write(p []byte) (int, error) { return len(p), nil }

// TestOneWrite checks that header and body of an answer leave together.
func TestOneWrite(t *testing.T) {
	f := start(t, fastService(), func(c *Config) { c.Listener = &countingListener{Listener: c.Listener} })
	l := f.server.listener.(*countingListener)
	if a := f.do("POST", "/v1/resolve", manyIDs(100)); a.status != 200 {
		t.Fatalf("status %d", a.status)
	}
	f.stop()
	if got := l.last.writes; got != 1 {
		t.Errorf("the answer took %d writes", got)
	}
}

type countingListener struct {
	net.Listener
	last *countingConn
}

type countingConn struct {
	net.Conn
	writes int
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.last = &countingConn{Conn: c}
	return l.last, nil
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestCloseWaitsForRequests(t *testing.T) {
	service := &fakeService{entered: make(chan struct{}), blocked: make(chan struct{})}
	f := start(t, service)
	fresh := f.dial()
	until(t, "the connection to be accepted", func() bool { return f.server.Stats().Connections == 1 })
	c := f.dial()
	io.WriteString(c, request("POST", "/v1/resolve", okIDs))
	<-service.entered
	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }()
	if !closed(fresh) {
		t.Error("a connection that said nothing is still open")
	}
	close(service.blocked)
	if a := readAnswer(t, bufio.NewReader(c), "POST"); a.status != 200 {
		t.Errorf("the request under way got %d", a.status)
	}
	<-stopped
}

// A front door that is cut answers nobody, and its handlers can be waited for.
func TestCutAnswersNobody(t *testing.T) {
	service := &fakeService{entered: make(chan struct{}), blocked: make(chan struct{})}
	f := start(t, service)
	fresh, c := f.dial(), f.dial()
	until(t, "both connections to be accepted", func() bool { return f.server.Stats().Connections == 2 })
	io.WriteString(c, request("POST", "/v1/resolve", okIDs))
	<-service.entered
	f.server.Cut()
	if !closed(fresh) || !closed(c) {
		t.Error("a connection is still open, or was answered")
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.server.Quiesce(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a handler runs: %v", err)
	}
	close(service.blocked)
	if err := f.server.Quiesce(t.Context()); err != nil {
		t.Error(err)
	}
	if n := f.server.Stats().InFlight; n != 0 {
		t.Errorf("%d handlers run after all were waited for", n)
	}
}

func TestProtocolIsHTTP1(t *testing.T) {
	f := startTLS(t, new(fakeService))
	f.client.NextProtos = []string{"h2", "http/1.1"}
	c := f.dial().(*tls.Conn)
	io.WriteString(c, request("GET", sub, ""))
	if a := readAnswer(t, bufio.NewReader(c), "GET"); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("negotiated %q", got)
	}
}

// TestSocketDeadlines covers the deadlines that are armed late: an earlier one
// in the poller must not end a later wait, and a later one not delay it.
func TestSocketDeadlines(t *testing.T) {
	client, server := tcpPair(t)
	s := newSocket(server)
	s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read: %v; want a timeout", err)
	}
	s.SetReadDeadline(time.Now().Add(time.Hour)) // the poller still has the past one
	client.Write([]byte("a"))
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("Read: %d, %v", n, err)
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // before what is armed
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read: %v; want a timeout", err)
	}
	s.SetReadDeadline(time.Time{})
	client.Write([]byte("b"))
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("Read without deadline: %d, %v", n, err)
	}
	s.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := s.Write([]byte("c")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write: %v; want a timeout", err)
	}
	s.SetWriteDeadline(time.Now().Add(time.Hour))
	big := bytes.Repeat([]byte("d"), 1<<20)
	go s.Write(big)
	if _, err := io.ReadFull(client, make([]byte, len(big))); err != nil {
		t.Fatalf("a write after one that timed out: %v", err)
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
