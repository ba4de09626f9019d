package api

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	lingerTime  = 500 * time.Millisecond // as net/http's rstAvoidanceDelay
	lingerBytes = 1 << 20
)

var errNotGuarded = errors.New("only a guarded payload is written")

// conn is a connection as net/http sees it, above TLS if there is TLS. It
// wipes the buffers that net/http reads into and writes from, and writes a
// guarded reply together with its header.
//
// All but Close is for the goroutine that serves the connection.
type conn struct {
	net.Conn          // a socket, or a tls.Conn
	below    *records // below TLS, or nil
	socket   *socket  // at the bottom
	server   *Server

	reader  []byte // net/http's read buffer, learnt at the first Read
	header  int    // length of the request's header, 0: not known
	came    int    // bytes handed to net/http since the header began
	drained bool   // the last Read took all that TLS had opened
	serving bool   // a handler runs
	dead    bool   // nothing more is read

	hold bool // keep the next small write back: it is a header
	held []byte
	room [headroom]byte

	fresh  atomic.Bool // no byte has come yet
	linger atomic.Bool // unread input is left: let the client read our answer
	closed atomic.Bool
}

// payload is a reply in guarded memory: content with headroom in front. It is
// handed through net/http, which must see an io.Reader, to conn.ReadFrom.
type payload struct{ buf []byte }

// Read refuses: the content never passes through a buffer of somebody else.
func (*payload) Read([]byte) (int, error) { return 0, errNotGuarded }

// Read clears p before it waits, so that a connection that is kept alive does
// not hold the body before. A failed Read clears all of net/http's buffer,
// since net/http puts it back into a pool before it closes the connection.
func (c *conn) Read(p []byte) (int, error) {
	if c.reader == nil {
		c.reader = p[:cap(p)]
	} else if c.isWatch(p) {
		return 0, nil
	}
	if c.dead {
		return 0, io.EOF
	}
	clear(p)
	n, err := c.Conn.Read(p)
	c.count(p, n)
	if n > 0 && c.fresh.Load() {
		c.fresh.Store(false)
	}
	if n == 0 && err != nil {
		c.wipe()
	}
	return n, err
}

// count keeps account of a Read, so that bodyRead knows whether net/http's
// buffer holds anything of another request.
func (c *conn) count(p []byte, n int) {
	c.drained = n < len(p)
	if c.serving {
		c.came += n
		return
	}
	c.came, c.header = n, 0
	if n > 0 && &p[0] == &c.reader[0] { // the buffer was empty
		if end := bytes.Index(p[:n], headerEnd); end >= 0 {
			c.header = end + len(headerEnd)
		}
	}
}

var headerEnd = []byte("\r\n\r\n")

// bodyRead wipes what a body of that length left in net/http's buffer and in
// that of crypto/tls, once all of it was copied out, unless the client sent
// more behind it: then the next Read wipes it.
func (c *conn) bodyRead(length int) {
	if c.header == 0 || c.came != c.header+length || !c.drained {
		return
	}
	clear(c.reader)
	if c.below != nil {
		c.below.wipe()
	}
}

// isWatch reports whether p is the one byte that net/http reads beside the
// handler to learn early that the client went away. Answered with nothing at
// once, it costs no system call and no wake-up; a request is bounded by its
// deadline instead. The last byte of net/http's read buffer is another matter.
func (c *conn) isWatch(p []byte) bool {
	return len(p) == 1 && cap(p) == 1 && &p[0] != &c.reader[len(c.reader)-1]
}

// Write clears p, a buffer of net/http, after it was written. A write while no
// handler runs means that net/http refuses the request by itself and closes:
// then what it has read is wiped, and no more is read.
func (c *conn) Write(p []byte) (int, error) {
	if c.hold && len(c.held) == 0 && len(p) <= len(c.room) {
		c.held = append(c.room[:0], p...)
		return len(p), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	if !c.serving {
		c.retire()
	}
	n, err := c.Conn.Write(p)
	clear(p)
	return n, err
}

// flush writes a header that was held back.
func (c *conn) flush() error {
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = nil
	return err
}

// ReadFrom writes a payload, the held header copied into its headroom, in one
// write straight from guarded memory. It returns the length of the content.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	body, ok := src.(*payload)
	if !ok {
		return 0, errNotGuarded
	}
	if c.below != nil && len(c.held) > 0 && len(c.held)+maxPadding <= headroom {
		if n := c.server.sizes.padding(len(c.held) + len(body.buf) - headroom); n > 0 {
			c.held = appendPadding(c.held, n)
		}
	}
	start := headroom - len(c.held)
	copy(body.buf[start:], c.held)
	c.held = nil
	n, err := c.Conn.Write(body.buf[start:])
	return max(0, int64(n-headroom+start)), err
}

// wipe clears what net/http and crypto/tls hold of the input. Nothing may be
// parsed from it afterwards.
func (c *conn) wipe() {
	clear(c.reader)
	if c.socket != nil {
		c.socket.ahead.drop()
	}
	if c.below != nil {
		c.below.wipe()
	}
}

// retire ends the reading: this was the connection's last request.
func (c *conn) retire() {
	c.dead = true
	c.wipe()
}

// CloseWrite lets net/http end our side before it closes.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection, once. It does not touch net/http's buffer,
// which may serve another connection by now.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.linger.Load() && !c.server.closing.Load() {
		c.drainAway()
	}
	c.server.forget(c)
	return c.Conn.Close()
}

// drainAway reads and drops what the client still sends, for a moment: closing
// with unread input resets the connection, and the client would lose our
// answer (RFC 9112, 9.6).
func (c *conn) drainAway() {
	if c.CloseWrite() != nil {
		return
	}
	raw := c.socket
	raw.SetReadDeadline(time.Now().Add(lingerTime)) //nolint:errcheck // a failed Read ends the loop
	var drop [4 << 10]byte
	for read := 0; read < lingerBytes; {
		n, err := raw.Read(drop[:])
		clear(drop[:n])
		if err != nil {
			return
		}
		read += n
	}
}

// secureConn is a conn above TLS.
type secureConn struct {
	*conn
	tls *tls.Conn
}

// ConnectionState is asked by net/http when it begins to serve the connection;
// it shakes hands first, so that Request.TLS says who the client is. A failed
// handshake fails the first Read as well.
func (c secureConn) ConnectionState() tls.ConnectionState {
	c.SetDeadline(time.Now().Add(c.server.limits.Header)) //nolint:errcheck // as in socket
	c.tls.Handshake()                                     //nolint:errcheck // see above
	c.SetDeadline(time.Time{})                            //nolint:errcheck // as in socket
	return c.tls.ConnectionState()
}
