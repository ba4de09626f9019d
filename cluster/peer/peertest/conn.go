package peertest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipe is one direction of a connection: a bounded buffer.
type pipe struct {
	mu      sync.Mutex
	buf     []byte
	window  int
	ended   bool          // the writer closed: EOF after what is in buf
	cut     bool          // the reader closed: writing is futile
	changed chan struct{} // closed and replaced at every change; nil: nobody waits
}

// await returns a channel that is closed at the next change. Needs mu.
func (p *pipe) await() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// ring wakes everybody who waits. Needs mu.
func (p *pipe) ring() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *pipe) read(b []byte, limit *deadline) (int, error) {
	for {
		over := limit.now()
		p.mu.Lock()
		if passed(over) {
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		if p.cut {
			p.mu.Unlock()
			return 0, net.ErrClosed
		}
		if len(p.buf) > 0 || len(b) == 0 {
			n := copy(b, p.buf)
			p.buf = p.buf[:copy(p.buf, p.buf[n:])]
			p.ring()
			p.mu.Unlock()
			return n, nil
		}
		if p.ended {
			p.mu.Unlock()
			return 0, io.EOF
		}
		changed := p.await()
		p.mu.Unlock()
		select {
		case <-changed:
		case <-over.Done():
		}
	}
}

func (p *pipe) write(b []byte, limit *deadline) (n int, err error) {
	for {
		over := limit.now()
		p.mu.Lock()
		switch {
		case p.ended:
			err = net.ErrClosed
		case p.cut:
			err = syscall.EPIPE
		case passed(over):
			err = os.ErrDeadlineExceeded
		}
		if err == nil {
			some := min(len(b)-n, p.window-len(p.buf))
			p.buf = append(p.buf, b[n:n+some]...)
			n += some
			p.ring()
		}
		if err != nil || n == len(b) {
			p.mu.Unlock()
			return n, err
		}
		changed := p.await()
		p.mu.Unlock()
		select {
		case <-changed:
		case <-over.Done():
		}
	}
}

// end is what the writer's Close does, drop the reader's.
func (p *pipe) end()  { p.mu.Lock(); p.ended = true; p.ring(); p.mu.Unlock() }
func (p *pipe) drop() { p.mu.Lock(); p.cut, p.buf = true, nil; p.ring(); p.mu.Unlock() }

// deadline is a point in time that can be moved.
type deadline struct {
	mu   sync.Mutex
	ctx  context.Context // nil: never asked for nor set
	stop context.CancelFunc
}

// now returns a context that ends when the deadline has passed, with
// [context.DeadlineExceeded], or is moved.
func (d *deadline) now() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		d.ctx, d.stop = context.WithCancel(context.Background())
	}
	return d.ctx
}

func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		d.stop()
	}
	if at.IsZero() {
		d.ctx, d.stop = context.WithCancel(context.Background())
	} else {
		d.ctx, d.stop = context.WithDeadline(context.Background(), at)
	}
}

func passed(ctx context.Context) bool { return ctx.Err() == context.DeadlineExceeded }

// conn is one end of a connection.
type conn struct {
	in, out             *pipe
	readLimit, outLimit deadline
	local, remote       address
}

func pair(near, far address, window int) (*conn, *conn) {
	there, back := &pipe{window: window}, &pipe{window: window}
	return &conn{in: back, out: there, local: near, remote: far},
		&conn{in: there, out: back, local: far, remote: near}
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b, &c.readLimit) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b, &c.outLimit) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.out.end()
	c.in.drop()
	c.readLimit.set(time.Time{})
	c.outLimit.set(time.Time{})
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error  { c.readLimit.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.outLimit.set(t); return nil }
func (c *conn) SetDeadline(t time.Time) error {
	c.readLimit.set(t)
	c.outLimit.set(t)
	return nil
}
