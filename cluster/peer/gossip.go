package peer

import (
	"context"
	"fmt"
	"net"
)

// DialGossip connects to a node to gossip with it, to the life that is
// registered. Errors wrap [ErrUnreachable]. The connection carries whatever is
// written; the other side's [Config.Gossip] gets it.
func (p *Port) DialGossip(ctx context.Context, node string) (net.Conn, error) {
	addr, registered, ok := p.cfg.Resolve(node)
	if !ok {
		return nil, fmt.Errorf("gossip with %s: %w: not registered", node, ErrUnreachable)
	}
	life, err := parseLife(registered)
	if err != nil {
		return nil, fmt.Errorf("gossip with %s: %w: %w", node, ErrUnreachable, err)
	}
	l, err := p.dial(ctx, addr, hello{kind: gossip, wantNode: node, wantLife: life})
	if err != nil {
		return nil, fmt.Errorf("gossip with %s: %w", node, err)
	}
	return &conn{link: l, local: virtual(p.cfg.Node), remote: virtual(node)}, nil
}

// hearGossip hands an accepted connection over.
func (p *Port) hearGossip(l *link) {
	p.cfg.Gossip(&conn{link: l, local: virtual(p.cfg.Node), remote: virtual(l.peer.Node)}, l.peer)
}
