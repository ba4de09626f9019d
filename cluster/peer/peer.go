// Package peer is the cluster port of a node: one listener for everything
// nodes say to each other, TLS 1.3 with certificates of the cluster's CA on
// both sides, and a handshake in which both say who they are and whom they
// want. Over it go calls ([Port.Call]) and the byte streams of raft replicas
// ([Port.Stream]).
//
// It carries sealed bytes and does not look into them. It owns the connections:
// each is tracked, and gone when the port is closed. No peer, silent, slow or
// hostile, holds up another. All types are safe for concurrent use.
package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
)

var (
	// ErrUnreachable means that nothing of the call was sent: it can be tried
	// again, there or elsewhere. It wraps [cloakroom.ErrUnavailable].
	ErrUnreachable = fmt.Errorf("peer not reached: %w", cloakroom.ErrUnavailable)
	// ErrRefused means that one side refused the other in the handshake. It
	// wraps [ErrUnreachable].
	ErrRefused = fmt.Errorf("refused: %w", ErrUnreachable)
	// ErrTLS means that one side would not have the other's certificate. It
	// wraps [ErrRefused].
	ErrTLS error = refusedTLS
)

// Port is the cluster port of a node.
type Port struct {
	cfg      Config
	life     life
	boot     atomic.Uint64
	listener net.Listener
	server   *tls.Config
	papers   atomic.Pointer[papers]
	strange  chan struct{}   // one for each stranger that is being answered
	ctx      context.Context // ends with Close or Cut
	cancel   context.CancelFunc
	running  sync.WaitGroup // every goroutine of the port
	bodies   sync.Pool      // *[]byte, of calls that are being answered

	mu         sync.Mutex // guards what follows
	closed     bool
	links      map[*link]struct{}
	shaking    []*link               // accepted and in their handshake, oldest first
	routes     map[string]*route     // by node
	streams    map[string]*Stream    // by replica
	turnstiles map[string]*turnstile // by address; who dials it holds a place
	seats      uint64                // accepted connections that were admitted so far

	ticked       atomic.Pointer[time.Time] // when the watch last looked, by the clock that timers go by
	made, served atomic.Uint64
	refused      refusalCounts
	complaints   complaints
}

// Open listens and serves.
func Open(cfg Config) (*Port, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	listener, err := cfg.Carrier.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	if cfg.Advertise == "" {
		cfg.Advertise = listener.Addr().String()
	}
	p := &Port{
		cfg: cfg, listener: listener,
		links: map[*link]struct{}{}, routes: map[string]*route{}, streams: map[string]*Stream{},
		turnstiles: map[string]*turnstile{},
	}
	p.life, _ = parseLife(cfg.Life) // checked
	p.boot.Store(cfg.Boot)
	p.papers.Store(cfg.newPapers(cfg.Certificate, cfg.Roots))
	p.server, p.strange = p.listening(), make(chan struct{}, maxStrangers)
	p.bodies.New = func() any { return new([]byte) }
	p.ctx, p.cancel = context.WithCancel(context.Background())
	now := <-time.NewTimer(0).C
	p.ticked.Store(&now)
	p.running.Go(p.accept) // ends when stop closes the listener
	p.running.Go(p.watch)  // ends with p.ctx
	return p, nil
}

// Addr returns the address that others dial.
func (p *Port) Addr() string { return p.cfg.Advertise }

// SetBoot has the port say another boot number from now on.
func (p *Port) SetBoot(boot uint64) { p.boot.Store(boot) }

// Close closes the listener and every connection, and waits until all that
// served them has returned; the context of Handle ends at once. Not to be
// called from Handle.
func (p *Port) Close() {
	p.stop(false)
	p.running.Wait()
}

// Cut drops everything at once, like a crash, and does not wait. Close must
// still be called.
func (p *Port) Cut() { p.stop(true) }

// stop ends everything; hard: connections are reset where the carrier can.
func (p *Port) stop(hard bool) {
	p.mu.Lock()
	p.closed = true // from here on no link, stream or goroutine is added
	links, streams := p.openLinks(), p.openStreams()
	p.mu.Unlock()
	p.listener.Close()
	for _, l := range links {
		if hard {
			l.linger()
		}
		l.cut(net.ErrClosed)
	}
	p.cancel() // after the links: see link.cut
	for _, s := range streams {
		s.Close()
	}
}

// spawn runs f in a goroutine that Close waits for, unless the port is closed.
func (p *Port) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Go(f)
	return true
}

// openLinks needs mu.
func (p *Port) openLinks() []*link {
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// openStreams needs mu.
func (p *Port) openStreams() []*Stream {
	streams := make([]*Stream, 0, len(p.streams))
	for _, s := range p.streams {
		streams = append(streams, s)
	}
	return streams
}

// Review asks Admit again about every connection that was accepted, and
// Resolve about every one that calls go out by, and cuts those that may not be
// any more. To be called when the directory has changed.
func (p *Port) Review() {
	p.mu.Lock()
	links := p.openLinks()
	p.mu.Unlock()
	for _, l := range links {
		if err := l.review(); err != nil {
			l.cut(err)
		}
	}
}

// Stats are the counters of a port since it was opened.
type Stats struct {
	Connections int               // open now, those in their handshake included
	Calls       uint64            // made from here and answered
	Served      uint64            // answered here
	Refused     map[string]uint64 // handshakes that failed here, by reason
}

// Stats returns the counters of the port.
func (p *Port) Stats() Stats {
	p.mu.Lock()
	open := len(p.links)
	p.mu.Unlock()
	return Stats{
		Connections: open,
		Calls:       p.made.Load(),
		Served:      p.served.Load(),
		Refused:     p.refused.byReason(),
	}
}
