package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
)

// dial connects to addr and does both handshakes. Whatever fails, nothing was
// sent that anybody would act on: errors wrap ErrUnreachable.
func (p *Port) dial(ctx context.Context, addr string, h hello) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Handshake)
	defer cancel()
	leave, err := p.enter(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w: %w", addr, ErrUnreachable, err)
	}
	defer leave()
	raw, err := p.cfg.Carrier.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w: %w", addr, ErrUnreachable, err)
	}
	l := p.track(raw, false)
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w: %w", addr, ErrUnreachable, net.ErrClosed)
	}
	inTime := context.AfterFunc(ctx, func() { l.cut(context.Cause(ctx)) })
	err = p.introduce(ctx, l, h)
	if !inTime() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		l.cut(err)
		return nil, fmt.Errorf("dial %s: %w", addr, asUnreachable(l.why(err)))
	}
	return l, nil
}

// asUnreachable keeps a refusal, and makes everything else ErrUnreachable.
func asUnreachable(err error) error {
	var verification *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrUnreachable):
		return err
	case errors.As(err, &verification), isAlert(err):
		return tlsRefused{err}
	default:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
}

// isAlert says whether the other side ended TLS, and said why.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// introduce is the dialling side of both handshakes.
func (p *Port) introduce(ctx context.Context, l *link, h hello) error {
	settings := p.papers.Load().client.Clone()
	if h.kind == overdue {
		settings = p.papers.Load().lateClient.Clone()
	}
	settings.NextProtos = []string{h.kind.protocol()}
	l.tls = tls.Client(l.raw, settings)
	if err := l.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	peer, err := l.present()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", refusedCluster, err)
	case peer.Node != h.wantNode && h.wantNode != "":
		return refusedNode // before it learns anything
	case !p.cfg.pinned(peer.Node, peer.Key), h.kind == overdue && !p.cfg.pinnedSurely(peer.Node, peer.Key):
		return refusedKey
	case l.tls.ConnectionState().NegotiatedProtocol != h.kind.protocol():
		return refusedMalformed
	}
	h.cluster, h.life, h.boot, h.node = p.cfg.Cluster, p.life, p.boot.Load(), p.cfg.Node
	_, unwritten := l.tls.Write(h.append(nil))
	a, err := readAnswer(l.tls) // also then: it may have hung up on us, and said why
	switch {
	case unwritten != nil && !isAlert(err):
		return unwritten
	case errors.Is(err, errShake):
		return refusedMalformed
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return errors.New("hung up during the handshake")
	case err != nil:
		return err
	case a.refusal != admitted:
		return refusedBy{a.refusal}
	}
	if why := h.agrees(peer.Node, a); why != admitted {
		return why
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.kind, l.end, l.source = h.kind, h.want, h.source
	peer.Boot = a.boot
	peer.Life, peer.Admitted = a.life.String(), h.kind.member()
	l.peer = peer
	return nil
}

// agrees says whether the one who answers is the one who was asked for, by
// certificate and by its own word.
func (h *hello) agrees(node string, a *answer) refusal {
	switch {
	case a.node != node:
		return refusedIdentity
	case a.life != h.wantLife && h.wantLife != life{}:
		return refusedLife
	case a.end.replica != h.want.replica:
		return refusedReplica
	case a.end.group != h.want.group:
		return refusedGroup
	case a.end.generation != h.want.generation:
		return refusedGeneration
	}
	return admitted
}
