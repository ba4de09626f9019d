package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// accept takes connections until the listener is closed. Out of descriptors
// is a state that passes.
func (p *Port) accept() {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		raw, err := p.listener.Accept()
		if err == nil {
			pause = shortest
			if l := p.track(raw, true); l != nil && !p.spawn(func() { p.receive(l) }) {
				l.cut(net.ErrClosed)
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || p.ctx.Err() != nil {
			return
		}
		p.cfg.Logger.Warn("cannot accept on the cluster port", "error", err)
		if !p.pause(pause) {
			return
		}
		pause = min(2*pause, longest)
	}
}

// pause waits, and returns false if the port was closed meanwhile.
func (p *Port) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// receive is the life of an accepted connection. It returns when the
// connection is gone, or belongs to a stream.
func (p *Port) receive(l *link) {
	ctx, cancel := context.WithTimeout(l.ctx, p.cfg.Handshake)
	inTime := context.AfterFunc(ctx, func() { l.cut(refusedSlow) })
	err := p.welcome(ctx, l)
	p.shaken(l)
	if !inTime() && (err == nil || errors.Is(err, refusedGone)) {
		err = refusedSlow
	}
	cancel()
	if err != nil {
		l.cut(err)
		if errors.Is(err, refusedGone) || errors.Is(err, refusedSlow) {
			err = l.why(err) // it was cut for another reason, perhaps
		}
		p.turnedAway(l, err)
		return
	}
	switch l.kind {
	case raft:
		p.deliver(l)
	case gossip:
		p.hearGossip(l)
	case stranger:
		p.answerStranger(l)
	default:
		p.serve(l)
	}
}

// welcome is the accepting side of both handshakes.
func (p *Port) welcome(ctx context.Context, l *link) error {
	l.tls = tls.Server(l.raw, p.server)
	if err := l.tls.HandshakeContext(ctx); err != nil {
		return tlsFailure(err)
	}
	if l.tls.ConnectionState().NegotiatedProtocol == joinProtocol {
		return p.hearStranger(l)
	}
	h, err := readHello(l.tls)
	if err != nil && !errors.Is(err, errShake) {
		return refusedGone
	}
	reply := answer{life: p.life, boot: p.boot.Load(), node: p.cfg.Node}
	if err != nil {
		reply.refusal = refusedMalformed
	} else if reply.refusal = p.examine(l, h); reply.refusal == admitted {
		reply.end = h.want
	}
	if _, err := l.tls.Write(reply.append(nil)); err != nil && reply.refusal == admitted {
		return refusedGone
	}
	if reply.refusal != admitted {
		return reply.refusal
	}
	return nil
}

// examine decides about a hello, the certificate first.
func (p *Port) examine(l *link, h *hello) refusal {
	peer, err := l.present()
	switch {
	case err != nil || h.cluster != p.cfg.Cluster:
		return refusedCluster
	case peer.Node != h.node:
		return refusedIdentity
	case l.tls.ConnectionState().NegotiatedProtocol != h.kind.protocol():
		return refusedMalformed
	case h.wantNode != p.cfg.Node && h.wantNode != "":
		return refusedNode
	case h.wantLife != p.life && h.wantLife != life{}:
		return refusedLife
	}
	peer.Life, peer.Boot = h.life.String(), h.boot
	if !p.cfg.pinned(peer.Node, peer.Key) || h.kind == overdue && !p.cfg.pinnedSurely(peer.Node, peer.Key) {
		return refusedKey
	}
	if h.kind.member() {
		if why := p.examineMember(peer, h); why != admitted {
			return why
		}
		peer.Admitted = true
	}
	return p.seat(l, peer, h)
}

// examineMember decides whether a node may come in, and to whom a replica.
func (p *Port) examineMember(peer Peer, h *hello) refusal {
	var s *Stream
	if h.kind == raft {
		p.mu.Lock()
		s = p.streams[h.want.replica]
		p.mu.Unlock()
	}
	if s == nil || s.cfg.Admit == nil {
		if p.cfg.Admit(peer.Node, peer.Life) != nil {
			return refusedMember
		}
	}
	if h.kind == raft {
		return examineReplica(s, peer, h)
	}
	return admitted
}

// examineReplica decides whether a raft connection has found whom it wants. A
// wrong one must not get through: an empty replica would grant votes, and be
// credited with writes, that belong to another.
func examineReplica(s *Stream, peer Peer, h *hello) refusal {
	switch {
	case s == nil:
		return refusedReplica
	case s.end.group != h.want.group:
		return refusedGroup
	case s.end.generation != h.want.generation:
		return refusedGeneration
	case s.cfg.Admit != nil:
		return sourceRefusal(s.cfg.Admit(peer, h.source))
	}
	return admitted
}

// ErrBoot is for [StreamConfig.Admit] and Meet: the node counts a start of its
// folder that was counted before, so the folder was copied or rolled back.
var ErrBoot = errors.New("a start that was counted before: the folder was copied or rolled back")

// sourceRefusal is what a peer hears of an error of [StreamConfig.Admit].
func sourceRefusal(err error) refusal {
	switch {
	case err == nil:
		return admitted
	case errors.Is(err, ErrBoot):
		return refusedBoot
	default:
		return refusedSource
	}
}

// seat gives an admitted connection its place, and bounds how many one node has.
func (p *Port) seat(l *link, peer Peer, h *hello) refusal {
	p.mu.Lock()
	var oldest *link
	same := 0
	for other := range p.links {
		if other.accepted && other.peer.Node == peer.Node && other.kind.class() == h.kind.class() {
			same++
			if oldest == nil || other.seated < oldest.seated {
				oldest = other
			}
		}
	}
	if h.kind == raft && same >= maxStreams {
		p.mu.Unlock()
		return refusedCrowd
	}
	p.seats++
	l.kind, l.peer, l.end, l.source, l.seated = h.kind, peer, h.want, h.source, p.seats
	p.mu.Unlock()
	if h.kind != raft && same >= maxPerNode {
		oldest.cut(refusedCrowd)
	}
	return admitted
}

// tlsFailure tells a peer that went away from one that TLS would not have.
func tlsFailure(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "read" || op.Op == "write") || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return refusedGone
	}
	return tlsRefused{err}
}

// tlsRefused keeps the cause for the log.
type tlsRefused struct{ cause error }

func (t tlsRefused) Error() string   { return "TLS failed: " + t.cause.Error() }
func (t tlsRefused) Unwrap() []error { return []error{refusedTLS, t.cause} }

// turnedAway counts a failed handshake, and complains about it.
func (p *Port) turnedAway(l *link, err error) {
	why := refusedGone
	if errors.As(err, &why); p.ctx.Err() != nil {
		return // we ended it
	}
	p.refused[why].Add(1)
	p.complain(l, why, err)
}
