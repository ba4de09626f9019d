package replicas

import (
	"context"
	"net"
	"sync"

	"cloakroom/cluster/peer"
)

// gate is a node's way to the network that can be closed: nothing comes in
// and nothing leaves, and no connection breaks, as when a process is stopped.
type gate struct {
	peer.Carrier

	mu   sync.Mutex
	open chan struct{} // closed while traffic may pass
}

func newGate() *gate {
	g := &gate{Carrier: peer.TCP(), open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// pass waits until traffic may pass.
func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

func (g *gate) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := g.Carrier.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return gated{c, g}, nil
}

func (g *gate) Listen(addr string) (net.Listener, error) {
	l, err := g.Carrier.Listen(addr)
	if err != nil {
		return nil, err
	}
	return gatedListener{l, g}, nil
}

type gatedListener struct {
	net.Listener
	gate *gate
}

func (l gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gated{c, l.gate}, nil
}

type gated struct {
	net.Conn
	gate *gate
}

func (c gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.gate.pass()
	return n, err
}

func (c gated) Write(p []byte) (int, error) {
	c.gate.pass()
	return c.Conn.Write(p)
}
