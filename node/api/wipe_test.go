package api

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// residue looks for the marker in what net/http and crypto/tls read into on
// all connections of f, after the server has stopped: nobody writes there any
// more, and the slices keep the memory from being reused by others.
func residue(f *front) int {
	f.stop()
	found := 0
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		for _, buf := range [][]byte{c.reader, c.room[:], input(c)} {
			found += bytes.Count(buf, []byte("Lovelace-marker"))
		}
	}
	return found
}

func input(c *conn) []byte {
	if c.below == nil {
		return nil
	}
	return c.below.input
}

// deposits are ways to send a value to a server, most of which end badly. Each
// reads what the server says until it may stop.
var deposits = map[string]func(f *front, c net.Conn){
	"a good deposit, kept": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody))
		readAnswer(f.t, bufio.NewReader(c), "POST")
	},
	"a good deposit, closed": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Connection: close"))
		io.Copy(io.Discard, c)
	},
	"HTTP/1.0": func(f *front, c net.Conn) {
		io.WriteString(c, strings.Replace(request("POST", "/v1/subjects", depositBody), "HTTP/1.1", "HTTP/1.0", 1))
		io.Copy(io.Discard, c)
	},
	"chunked": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", chunked(depositBody, 100), "Transfer-Encoding: chunked", "Connection: close"))
		io.Copy(io.Discard, c)
	},
	"no token": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Authorization:", "Connection: close"))
		io.Copy(io.Discard, c)
	},
	"no token, kept": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Authorization:"))
		readAnswer(f.t, bufio.NewReader(c), "POST")
	},
	"malformed": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody+"x", "Connection: close"))
		io.Copy(io.Discard, c)
	},
	"half a body": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Content-Length: 100000"))
		closeWrite(c)
		io.Copy(io.Discard, c)
	},
	"a stalled body": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Content-Length: 100000"))
		io.Copy(io.Discard, c)
	},
	"a stalled body without token": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Content-Length: 100000", "Authorization:"))
		io.Copy(io.Discard, c)
	},
	"a body over the limit": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Content-Length: 100000000"))
		io.Copy(io.Discard, c)
	},
	"a malformed header before it": func(f *front, c net.Conn) {
		io.WriteString(c, "POST /v1/subjects HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n"+depositBody)
		io.Copy(io.Discard, c)
	},
	"an unknown expectation": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody, "Expect: "+"miracles"))
		io.Copy(io.Discard, c)
	},
	"a header that never ends": func(f *front, c net.Conn) {
		io.WriteString(c, "POST /v1/subjects HTTP/1.1\r\nHost: x\r\nX: "+depositBody)
		io.Copy(io.Discard, c)
	},
	"two pipelined, the second cut off": func(f *front, c net.Conn) {
		one := request("POST", "/v1/subjects", depositBody)
		io.WriteString(c, one+one[:len(one)-10])
		closeWrite(c)
		io.Copy(io.Discard, c)
	},
	"the client goes away": func(f *front, c net.Conn) {
		io.WriteString(c, request("POST", "/v1/subjects", depositBody))
		c.Close()
		until(f.t, "the connection to be served and closed", func() bool {
			now := f.server.Stats()
			return now.Requests > 0 && now.Connections == 0 // before it is accepted there is none either
		})
	},
	"a panic": func(f *front, c net.Conn) {
		f.service.panicNow = true
		io.WriteString(c, request("POST", "/v1/subjects", depositBody))
		io.Copy(io.Discard, c)
	},
}

// depositBody fills more than one buffer with values.
var depositBody = func() string {
	var b strings.Builder
	for i := range 60 {
		b.WriteString(`,"f` + itoa(i) + `":"` + strings.Repeat(marker+" ", 4) + `"`)
	}
	return `{"fields":{` + b.String()[1:] + `}}`
}()

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// TestNoResidue sends values in every way a request can go, and finds none of
// them in the buffers of net/http and crypto/tls afterwards.
func TestNoResidue(t *testing.T) {
	short := limits(func(l *Limits) {
		l.Header, l.Stall = 50*time.Millisecond, 50*time.Millisecond
	})
	for what, send := range deposits {
		for _, kind := range []string{"plain", "TLS"} {
			t.Run(what+", "+kind, func(t *testing.T) {
				f := (*front)(nil)
				if kind == "TLS" {
					f = startTLS(t, new(fakeService), short)
				} else {
					f = start(t, new(fakeService), short)
				}
				send(f, f.dial())
				if n := residue(f); n != 0 {
					t.Errorf("%d values are left in buffers", n)
				}
				if len(f.conns) == 0 || f.conns[0].reader == nil {
					t.Error("no buffer was looked at")
				}
			})
		}
	}
}

// TestResidueWhileIdle looks while the connection waits for its next request,
// and checks that the look finds something when the wiping is left out.
func TestResidueWhileIdle(t *testing.T) {
	for _, wiped := range []bool{true, false} {
		spy := &spyConn{}
		client, server := tcpPair(t)
		spy.Conn = server
		var top net.Conn = spy
		if wiped {
			top = &conn{Conn: spy, server: new(Server), serving: true}
		}
		go io.WriteString(client, depositBody)
		r := bufio.NewReader(top)
		if _, err := io.CopyN(io.Discard, r, int64(len(depositBody))); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		r.Peek(4)
		if left := spy.residue() > 0; left == wiped {
			t.Errorf("wiped %v: values left %v", wiped, left)
		}
	}
}

// spyConn remembers all memory that was read into through it.
type spyConn struct {
	net.Conn
	seen map[*byte][]byte // by the end of the array
}

func (s *spyConn) Read(p []byte) (int, error) {
	if s.seen == nil {
		s.seen = make(map[*byte][]byte)
	}
	whole := p[:cap(p)]
	end := unsafe.SliceData(whole[len(whole)-1:])
	if len(whole) > len(s.seen[end]) {
		s.seen[end] = whole
	}
	return s.Conn.Read(p)
}

func (s *spyConn) residue() int {
	n := 0
	for _, buf := range s.seen {
		n += bytes.Count(buf, []byte("Lovelace-marker"))
	}
	return n
}

// TestTLSLeavesNothing sends records of all sizes, so that crypto/tls moves
// its buffer, and looks at every place the buffer ever was.
func TestTLSLeavesNothing(t *testing.T) {
	for _, wiped := range []bool{true, false} {
		serverTLS, clientTLS := testTLS(t)
		client, server := tcpPair(t)
		low := &records{Conn: server}
		spy := &spyConn{Conn: low}
		if !wiped {
			spy.Conn = server
		}
		secure := tls.Server(spy, serverTLS)
		go func() {
			c := tls.Client(client, clientTLS)
			for _, n := range []int{1, 3, 10, 1, 200, 2, 500, 1, 60} {
				io.WriteString(c, strings.Repeat(marker+" ", n))
			}
			c.CloseWrite()
		}()
		n, err := io.Copy(io.Discard, struct{ io.Reader }{secure})
		if want := int64(778 * (len(marker) + 1)); err != nil || n != want {
			t.Fatalf("read %d bytes, %v; want %d", n, err, want)
		}
		if wiped {
			low.wipe()
		}
		if left := spy.residue() > 0; left == wiped {
			t.Errorf("wiped %v: values left %v in %d buffers", wiped, left, len(spy.seen))
		}
	}
}

// TestWriteClears checks that Write clears net/http's own write buffer.
func TestWriteClears(t *testing.T) {
	c := &conn{Conn: discardConn{}, server: new(Server), serving: true}
	p := []byte(marker)
	if n, err := c.Write(p); n != len(marker) || err != nil {
		t.Fatal(n, err)
	}
	if !bytes.Equal(p, make([]byte, len(p))) {
		t.Errorf("Write left %q", p)
	}
}

// TestRequestTLS checks that a handler would see the client's TLS state.
func TestRequestTLS(t *testing.T) {
	f := startTLS(t, new(fakeService))
	var state *tls.ConnectionState
	f.server.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state = r.TLS
		f.server.ServeHTTP(w, r)
	})
	f.do("GET", sub, "")
	if state == nil || !state.HandshakeComplete {
		t.Errorf("TLS state %+v", state)
	}
}
