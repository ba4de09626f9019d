package simnet

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// End is how a host goes.
type End uint8

const (
	// Reset: the process died; the machine answers for it with resets.
	Reset End = iota
	// Silent: the machine died. Nobody is told anything until another life
	// answers there.
	Silent
)

// Host is one life of a host, and the way of its process to the network.
type Host struct {
	net   *Net
	place *place

	// Net.mu guards the rest.
	dead      bool
	port      int // the last one given away
	listeners map[string]*listener
	conns     []*Conn
}

// Start begins a life of the host of that name; one before it must have
// crashed.
func (n *Net) Start(name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.place(name)
	if p.life != nil {
		return nil, fmt.Errorf("simnet: host %s lives", name)
	}
	h := &Host{net: n, place: p, port: 40000, listeners: make(map[string]*listener)}
	p.life, p.paused, p.silent = h, false, false
	n.ringAround(name)
	return h, nil
}

// Name returns the host's name, the first half of its addresses.
func (h *Host) Name() string { return h.place.name }

// Crash ends this life: its connections and listeners are gone, what it does
// from now on fails and reaches nobody.
func (h *Host) Crash(end End) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.dead {
		return
	}
	h.dead = true
	h.place.life, h.place.paused, h.place.silent = nil, false, end == Silent
	for _, c := range slices.Clone(h.conns) {
		c.lost = end == Silent
		if c.lost && c.out.link.held() {
			c.out.dead, c.out.queue = true, nil // nobody sends it again
		}
		c.die(net.ErrClosed)
		if end == Reset {
			c.out.send(piece{end: wasReset})
		}
	}
	for _, l := range h.listeners {
		l.shut()
	}
	n.ringAround(h.place.name)
}

func (h *Host) forget(c *Conn) {
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
}

// Listen listens on a port of this host: "name:port", ":port", or port 0 for
// any.
func (h *Host) Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "" && host != h.place.name {
		return nil, fmt.Errorf("listen on %s: not an address of %s", address, h.place.name)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.dead {
		return nil, fmt.Errorf("listen on %s: %w", address, net.ErrClosed)
	}
	if port == "0" {
		port = h.nextPort()
	}
	if h.listeners[port] != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, syscall.EADDRINUSE)
	}
	l := &listener{host: h, port: port, addr: addr(net.JoinHostPort(h.place.name, port))}
	h.listeners[port] = l
	h.net.changed.ring()
	return l, nil
}

func (h *Host) nextPort() string {
	h.port++
	return strconv.Itoa(h.port)
}

// Dial connects to a listener. It takes a round trip. While either direction
// is cut it waits; a paused host is connected to, as by its kernel.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	fault := func(err error) error {
		return &net.OpError{Op: "dial", Net: "sim", Addr: addr(address), Err: err}
	}
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault(err)
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Dials++
	there, back := n.link(h.place.name, name), n.link(name, h.place.name)
	moment := time.Now().Add(there.delay.Base + back.delay.Base + (there.delay.Jitter+back.delay.Jitter)/2)
	for {
		switch {
		case h.dead:
			return nil, fault(net.ErrClosed)
		case ctx.Err() != nil:
			return nil, fault(ctx.Err())
		case time.Now().Before(moment):
			n.await(moment, ctx.Done(), &n.changed, &n.changed)
			continue
		case there.cut != Open || back.cut != Open || h.place.paused || there.to.life == nil && there.to.silent:
			n.await(time.Time{}, ctx.Done(), &n.changed, &n.changed)
			continue
		}
		c, err := h.connect(there, back, port)
		if err != nil {
			return nil, fault(err)
		}
		return c, nil
	}
}

// connect makes both ends and leaves one with the listener.
func (h *Host) connect(there, back *link, port string) (*Conn, error) {
	n, other := h.net, there.to.life
	if other == nil {
		return nil, syscall.ECONNREFUSED
	}
	l := other.listeners[port]
	if l == nil || len(l.waiting) == backlog {
		return nil, syscall.ECONNREFUSED
	}
	near := &Conn{net: n, host: h, local: addr(net.JoinHostPort(h.place.name, h.nextPort())), remote: l.addr}
	far := &Conn{net: n, host: other, peer: near, local: l.addr, remote: near.local}
	near.peer = far
	near.out = &half{link: there, writer: near, random: n.source(there), window: n.cfg.Window}
	near.in = &half{link: back, writer: far, random: n.source(back), window: n.cfg.Window}
	far.in, far.out = near.out, near.in
	there.halves, back.halves = append(there.halves, near.out), append(back.halves, near.in)
	h.conns, other.conns = append(h.conns, near), append(other.conns, far)
	n.stats.Connections++
	l.waiting = append(l.waiting, far)
	l.bell.ring()
	return near, nil
}

// listener is a port that takes connections.
type listener struct {
	host *Host
	port string
	addr addr

	// Net.mu guards the rest.
	waiting []*Conn
	closed  bool
	bell    bell
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	n := l.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if l.closed {
			return nil, &net.OpError{Op: "accept", Net: "sim", Addr: l.addr, Err: net.ErrClosed}
		}
		if len(l.waiting) > 0 {
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			return c, nil
		}
		n.await(time.Time{}, nil, &l.bell, &l.bell)
	}
}

// Close implements net.Listener. Connections nobody accepted are reset.
func (l *listener) Close() error {
	n := l.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.closed {
		return fmt.Errorf("close listener: %w", net.ErrClosed)
	}
	delete(l.host.listeners, l.port)
	for _, c := range l.waiting {
		n.reset(c)
	}
	l.shut()
	return nil
}

func (l *listener) shut() {
	l.closed, l.waiting = true, nil
	l.bell.ring()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
