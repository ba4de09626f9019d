package peer

import (
	"context"
	"fmt"
	"net"
)

// route is the way to one life of one node, being made or made.
type route struct {
	addr, life string
	ready      chan struct{} // closed when caller or err is set
	caller     *caller
	err        error
}

// reach returns the connection to a node. One caller's wait is not another's:
// dialling goes on beside them.
func (p *Port) reach(ctx context.Context, node string) (*caller, error) {
	addr, life, ok := p.cfg.Resolve(node)
	if !ok {
		return nil, fmt.Errorf("%w: not registered", ErrUnreachable)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, net.ErrClosed)
	}
	r, stale := p.routes[node], (*route)(nil)
	if r == nil || r.addr != addr || r.life != life {
		stale = r
		r = &route{addr: addr, life: life, ready: make(chan struct{})}
		p.routes[node] = r
		p.running.Go(func() { p.open(node, r) }) // ends with p.ctx at the latest
	}
	p.mu.Unlock()
	stale.drop()
	select {
	case <-r.ready:
		return r.caller, r.err
	case <-ctx.Done():
		return nil, late(ctx)
	}
}

// drop cuts the connection of a route that is not the node's any more. One
// that is being made finds out by itself.
func (r *route) drop() {
	if r == nil {
		return
	}
	select {
	case <-r.ready:
		if r.caller != nil {
			r.caller.link.cut(refusedMember)
		}
	default:
	}
}

// open dials, and lets a failure stand for a moment: whoever comes next gets
// the same answer and does not dial again.
func (p *Port) open(node string, r *route) {
	c, err := p.connect(node, r)
	if err == nil {
		if err = p.settle(node, r, c); err == nil {
			return
		}
		c.link.cut(err)
	}
	r.err = err
	close(r.ready)
	p.pause(dialPause)
	p.forget(node, r)
}

// settle makes c the way to the node, unless the node has moved meanwhile or c
// was lost, which has the route forgotten.
func (p *Port) settle(node string, r *route, c *caller) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes[node] != r {
		return fmt.Errorf("%w: lost at once, or the node has moved", ErrUnreachable)
	}
	r.caller = c
	close(r.ready)
	return nil
}

func (p *Port) connect(node string, r *route) (*caller, error) {
	life, err := parseLife(r.life)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	l, err := p.dial(p.ctx, r.addr, hello{kind: calls, wantNode: node, wantLife: life})
	if err != nil {
		return nil, err
	}
	c := p.newCaller(l, func() { p.forget(node, r) })
	if c == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, net.ErrClosed)
	}
	return c, nil
}

// forgetDead makes the next call dial anew.
func (p *Port) forgetDead(node string, c *caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.routes[node]; r != nil && r.caller == c {
		delete(p.routes, node)
	}
}

func (p *Port) forget(node string, r *route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes[node] == r {
		delete(p.routes, node)
	}
}
