package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// epollDriver serves all connections from one thread. A goroutine a
// connection costs the scheduler and a second poller; with two cores shared
// between generator and server that is a tenth of the figure measured.
type epollDriver struct {
	epoll int
	conns []epollConn
}

type epollConn struct {
	fd       int
	out      []byte    // what is left of the request
	in       []byte    // the reply so far
	request  int       // number of the request in flight; -1: idle
	intended time.Time // its start
	writable bool      // waiting to write
}

func newDriver(ctx context.Context, cfg Config) (driver, error) {
	if cfg.TLS != nil || cfg.Goroutines {
		return newConnDriver(ctx, cfg)
	}
	addr, err := netip.ParseAddrPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	d := &epollDriver{epoll: epoll}
	for range cfg.Connections {
		if err := d.connect(addr); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (d *epollDriver) connect(addr netip.AddrPort) error {
	family, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
	if addr.Addr().Is4() {
		family, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.conns = append(d.conns, epollConn{fd: fd, request: -1, in: make([]byte, 0, 64<<10)})
	return errors.Join(
		unix.Connect(fd, sockaddr),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true),
		unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(d.conns) - 1)}),
	)
}

func (d *epollDriver) close() {
	for i := range d.conns {
		unix.Close(d.conns[i].fd)
	}
	unix.Close(d.epoll)
}

// epollRun is one run of the driver.
type epollRun struct {
	*epollDriver
	plan *Plan
	pace
	sent    int // requests started, and the number of the next
	idle    []int
	busy    int
	now     time.Time
	replies int64
	res     Result
}

func (d *epollDriver) run(ctx context.Context, plan *Plan, p pace) (Result, error) {
	defer steadyThread()()
	r := &epollRun{epollDriver: d, plan: plan, pace: p, now: p.start, res: Result{Latency: newHistogram()}}
	for i := range d.conns {
		r.idle = append(r.idle, i)
	}
	if err := r.loop(ctx); err != nil {
		return Result{}, err
	}
	r.res.Elapsed = r.now.Sub(p.measure)
	return r.res, nil
}

func (r *epollRun) loop(ctx context.Context) error {
	events := make([]unix.EpollEvent, len(r.conns))
	for {
		wait, err := r.startDue()
		if err != nil {
			return err
		}
		if r.busy == 0 && r.finished() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.now.After(r.stop.Add(drainTime)) {
			return fmt.Errorf("%d replies missing %v after the last request", r.busy, drainTime)
		}
		n, err := epollWait(r.epoll, events, wait)
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:n] {
			if err := r.serve(int(e.Fd), e.Events); err != nil {
				return err
			}
		}
		r.now = time.Now()
	}
}

// finished reports whether no request is left to start. In an open run those
// that should have started before stop are started however late it is.
func (r *epollRun) finished() bool {
	next := r.now
	if r.interval > 0 {
		next = r.start.Add(time.Duration(r.sent) * r.interval)
	}
	return !next.Before(r.stop) || r.limit > 0 && r.sent >= r.limit
}

// idleWait is how long to wait when nothing is going to be due.
const idleWait = 100 * time.Millisecond

// startDue starts what is due, as far as there are idle connections, and
// returns how long nothing more will be due.
func (r *epollRun) startDue() (wait time.Duration, err error) {
	for len(r.idle) > 0 && !r.finished() {
		intended := r.now
		if r.interval > 0 {
			intended = r.start.Add(time.Duration(r.sent) * r.interval)
			if wait := intended.Sub(r.now); wait > 0 {
				return wait, nil
			}
		}
		c := r.idle[len(r.idle)-1]
		r.idle = r.idle[:len(r.idle)-1]
		if err := r.begin(c, intended); err != nil {
			return 0, err
		}
	}
	return idleWait, nil
}

func (r *epollRun) begin(conn int, intended time.Time) error {
	c := &r.conns[conn]
	c.request = (r.first + r.sent) % len(r.plan.Requests)
	c.intended = intended
	c.out, c.in = r.plan.Requests[c.request], c.in[:0]
	r.sent++
	r.busy++
	return r.write(conn)
}

// serve handles what epoll says about one connection.
func (r *epollRun) serve(conn int, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := r.write(conn); err != nil {
			return err
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		return r.read(conn)
	}
	return nil
}

func (r *epollRun) write(conn int) error {
	c := &r.conns[conn]
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		c.out = c.out[n:]
	}
	if writable := len(c.out) > 0; writable != c.writable {
		c.writable = writable
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(conn)}
		if writable {
			event.Events |= unix.EPOLLOUT
		}
		return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, c.fd, &event)
	}
	return nil
}

func (r *epollRun) read(conn int) error {
	c := &r.conns[conn]
	if len(c.in) == cap(c.in) {
		c.in = append(make([]byte, 0, 2*cap(c.in)), c.in...)
	}
	n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if n == 0 {
		return errors.New("read: the server closed the connection")
	}
	if c.request < 0 {
		return errors.New("read: bytes that nobody asked for")
	}
	c.in = c.in[:len(c.in)+n]
	size, err := r.plan.Frame(c.in)
	if size == 0 || err != nil {
		return err
	}
	if size != len(c.in) {
		return fmt.Errorf("read: %d bytes too many", len(c.in)-size)
	}
	return r.done(conn)
}

// done takes a whole reply, and in a closed run sends the next request at
// once.
func (r *epollRun) done(conn int) error {
	c := &r.conns[conn]
	r.now = time.Now()
	r.busy--
	check := r.replies%int64(r.every) == 0
	r.replies++
	if check && r.plan.Check != nil {
		if err := r.plan.Check(c.request, c.in); err != nil {
			return fmt.Errorf("check reply: %w", err)
		}
		r.res.Checked++
	}
	if !r.now.Before(r.measure) {
		r.res.Requests++
		r.res.Items += int64(r.plan.Items)
		r.res.Latency.RecordValue(min(int64(r.now.Sub(c.intended)), int64(time.Minute)))
	}
	c.request = -1
	if r.interval == 0 && !r.finished() {
		return r.begin(conn, r.now)
	}
	r.idle = append(r.idle, conn)
	return nil
}

// epollWait waits for events. Short waits have the resolution of nanoseconds,
// which epoll_wait itself lacks: the epoll descriptor is polled.
func epollWait(epoll int, events []unix.EpollEvent, wait time.Duration) (int, error) {
	timeout := int(wait / time.Millisecond)
	if wait < idleWait {
		ts := unix.NsecToTimespec(int64(wait))
		_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(epoll), Events: unix.POLLIN}}, &ts, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		timeout = 0
	}
	n, err := unix.EpollWait(epoll, events, timeout)
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}
