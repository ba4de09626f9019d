package simnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// addr is host:port.
type addr string

func (a addr) Network() string { return "sim" }
func (a addr) String() string  { return string(a) }

// Conn is one end of a connection. Its deadlines follow the bubble's clock.
type Conn struct {
	net           *Net
	host          *Host // whose it is
	peer          *Conn
	in, out       *half
	local, remote addr

	// Net.mu guards the rest.
	err               error // why this end is over
	readBy, writeBy   time.Time
	lost, telledReset bool
}

// Read implements net.Conn. A connection that ended in order gives [io.EOF].
func (c *Conn) Read(p []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if err := c.over(c.readBy); err != nil {
			return 0, c.fault("read", err)
		}
		got, end, again := c.in.take(p)
		switch {
		case got > 0 || len(p) == 0:
			return got, nil
		case end == finished:
			return 0, io.EOF
		case end == wasReset:
			c.die(syscall.ECONNRESET)
			return 0, c.fault("read", syscall.ECONNRESET)
		}
		n.await(earlier(again, c.readBy), nil, &c.in.bell, &c.in.bell)
	}
}

// Write implements net.Conn. It blocks while a window of bytes is on its way.
func (c *Conn) Write(p []byte) (int, error) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	written := 0
	for {
		if err := c.over(c.writeBy); err != nil {
			return written, c.fault("write", err)
		}
		gone, again := c.refused()
		if gone {
			c.die(syscall.ECONNRESET)
			return written, c.fault("write", syscall.ECONNRESET)
		}
		if written == len(p) {
			return written, nil
		}
		if room := c.out.window - c.out.bytes; room > 0 {
			k := min(room, len(p)-written)
			c.carry(p[written : written+k])
			written += k
			continue
		}
		n.await(earlier(again, c.writeBy), nil, &c.out.bell, &c.in.bell)
	}
}

// carry sends p, unless the link loses the connection over it.
func (c *Conn) carry(p []byte) {
	n := c.net
	n.inspect(c.out, p)
	n.stats.Bytes += int64(len(p))
	if l := c.out.link; l.loss > 0 && c.out.random.Float64() < l.loss {
		n.stats.Broken++
		if c.out.random.IntN(2) == 0 {
			n.reset(c)
			n.reset(c.peer)
			return
		}
		c.out.dead = true
	}
	if c.peer.lost && c.peer.host.place.life != nil && !c.telledReset {
		// Another life answers there, and knows nothing of this connection.
		c.telledReset = true
		c.in.dead = false
		c.in.send(piece{end: wasReset})
	}
	c.out.send(piece{data: append([]byte(nil), p...)})
}

// refused reports whether word has come that the other end is gone, and if it
// is on its way, when to look again.
func (c *Conn) refused() (bool, time.Time) {
	h := c.in
	if h.dead || len(h.queue) == 0 || h.queue[len(h.queue)-1].end == goesOn || h.link.held() {
		return false, time.Time{}
	}
	due := h.queue[len(h.queue)-1].due
	return !due.After(time.Now()), due
}

// over returns why this end can do nothing now.
func (c *Conn) over(deadline time.Time) error {
	if c.err != nil {
		return c.err
	}
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *Conn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: "sim", Source: c.local, Addr: c.remote, Err: err}
}

// die ends this end, and wakes whoever waits in it. The other end learns
// nothing by it.
func (c *Conn) die(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.in.link.remove(c.in)
	c.host.forget(c)
	c.in.bell.ring()
	c.out.bell.ring()
}

// reset ends c and tells its peer, if the link lets it. The caller holds mu.
func (n *Net) reset(c *Conn) {
	if c.err == nil {
		c.die(syscall.ECONNRESET)
		c.out.send(piece{end: wasReset})
	}
}

// Close implements net.Conn: what was written arrives, then the end.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.err == nil {
		c.die(net.ErrClosed)
		c.out.send(piece{end: finished})
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) setDeadlines(read, write *time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.err != nil {
		return c.fault("set", c.err)
	}
	if read != nil {
		c.readBy = *read
	}
	if write != nil {
		c.writeBy = *write
	}
	c.in.bell.ring()
	c.out.bell.ring()
	return nil
}

// earlier returns the earlier of two moments of which zero ones never come.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
