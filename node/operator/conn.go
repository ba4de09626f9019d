package operator

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// connKey finds the connection in a request's context.
type connKey struct{}

// wiper is a connection that can forget what came.
type wiper interface{ retire() }

// buffered notes the buffers that somebody reads into, so that they can be
// wiped: below TLS those of crypto/tls, above it those of net/http. All but
// Close is for the goroutine that serves the connection.
type buffered struct {
	net.Conn
	into [][]byte // distinct, the whole of each as far as it was seen
	dead bool     // nothing more is read
}

// maxNoted bounds the buffers of one connection; each layer has one or two.
const maxNoted = 8

// Read answers with nothing when net/http asks for the one byte by which it
// learns early, beside the handler, that the caller went away: a buffer must
// not be written to while it is wiped. A request is bounded by its deadline.
func (b *buffered) Read(p []byte) (int, error) {
	switch {
	case len(p) == 1 && cap(p) == 1:
		return 0, nil // on a goroutine of its own
	case b.dead:
		return 0, io.EOF
	}
	b.note(p[:cap(p)])
	return b.Conn.Read(p)
}

// note remembers a buffer, unless one that holds it is there.
func (b *buffered) note(p []byte) {
	if len(p) == 0 {
		return
	}
	last := &p[len(p)-1]
	for i, known := range b.into {
		if &known[len(known)-1] == last { // slices of one array end in the same place
			if len(p) > len(known) {
				b.into[i] = p
			}
			return
		}
	}
	if len(b.into) < maxNoted {
		b.into = append(b.into, p)
	}
}

func (b *buffered) wipe() {
	for _, p := range b.into {
		clear(p)
	}
	b.dead = true
}

// plainConn is a connection without TLS.
type plainConn struct{ *buffered }

func (c plainConn) retire() { c.wipe() }

// secureConn is one above TLS.
type secureConn struct {
	*buffered
	below *buffered
	tls   *tls.Conn
}

func (c secureConn) retire() {
	c.wipe()
	c.below.wipe()
}

// ConnectionState is asked by net/http when it begins to serve.
func (c secureConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// CloseWrite ends our side first.
func (c secureConn) CloseWrite() error { return c.tls.CloseWrite() }

// doorway wraps accepted connections and bounds how many are open.
type doorway struct {
	net.Listener
	tls  *tls.Config
	free chan struct{}
}

func newDoorway(cfg Config) *doorway {
	d := &doorway{Listener: cfg.Listener, tls: cfg.TLS, free: make(chan struct{}, cfg.Limits.Connections)}
	if d.tls != nil {
		d.tls = d.tls.Clone()
		d.tls.NextProtos = []string{"http/1.1"}
		d.tls.MinVersion = tls.VersionTLS13
	}
	return d
}

// Accept returns the next connection; those beyond the limit are closed.
func (d *doorway) Accept() (net.Conn, error) {
	for {
		raw, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case d.free <- struct{}{}:
		default:
			raw.Close() //nolint:errcheck // nothing was promised
			continue
		}
		counted := &countedConn{Conn: raw, leave: sync.OnceFunc(func() { <-d.free })}
		if d.tls == nil {
			return plainConn{&buffered{Conn: counted}}, nil
		}
		below := &buffered{Conn: counted}
		secure := tls.Server(below, d.tls)
		return secureConn{&buffered{Conn: secure}, below, secure}, nil
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
