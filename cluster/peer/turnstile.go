package peer

import "context"

// turnstile lets maxDialling dials to one address pass at a time.
type turnstile struct {
	places chan struct{}
	users  int // who passed or waits; under Port.mu
}

// enter waits for a place at the turnstile of an address, until ctx ends. Who got
// one leaves it.
func (p *Port) enter(ctx context.Context, addr string) (leave func(), err error) {
	p.mu.Lock()
	g := p.turnstiles[addr]
	if g == nil {
		g = &turnstile{places: make(chan struct{}, maxDialling)}
		p.turnstiles[addr] = g
	}
	g.users++
	p.mu.Unlock()
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(p.turnstiles, addr)
		}
	}
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
}
