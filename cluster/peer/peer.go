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
	"errors"
	"fmt"
	"net"
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
)

// Port is the cluster port of a node.
type Port struct {
	cfg Config
}

// Open listens and serves.
func Open(cfg Config) (*Port, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	return nil, errors.ErrUnsupported
}

// Addr returns the address that others dial.
func (p *Port) Addr() string { return p.cfg.Advertise }

// Close closes the listener and every connection, and waits until all that
// served them has returned.
func (p *Port) Close() {}

// Cut drops everything at once, like a crash, and does not wait. Close must
// still be called.
func (p *Port) Cut() {}

// Review asks Admit and Resolve again about every connection, and cuts those
// that may not be any more. To be called when the directory has changed.
func (p *Port) Review() {}

// Call asks a registered node. The reply is the caller's to keep. A call
// without a deadline gets one of [MaxCall].
//
// ErrUnreachable (ErrRefused among them): nothing was sent. One of the
// sentinels Handle may return: the peer did nothing. Everything else is
// [cloakroom.ErrOutcomeUnknown].
func (p *Port) Call(ctx context.Context, node string, method uint8, body []byte) ([]byte, error) {
	return nil, ErrUnreachable
}

// CallAt asks whoever is at addr, by a connection of its own, as a guest: for
// a node that is not registered yet. Errors as for Call.
func (p *Port) CallAt(ctx context.Context, addr string, method uint8, body []byte) ([]byte, Peer, error) {
	return nil, Peer{}, ErrUnreachable
}

// Stream opens the stream layer of a replica that lives here.
func (p *Port) Stream(cfg StreamConfig) (*Stream, error) { return nil, errors.ErrUnsupported }

// Stats returns the counters of the port.
func (p *Port) Stats() Stats { return Stats{} }

// Stats are the counters of a port since it was opened.
type Stats struct {
	Connections int               // open now, those in their handshake included
	Calls       uint64            // made from here
	Served      uint64            // answered here
	Refused     map[string]uint64 // handshakes refused here, by reason
}

// Stream is the stream layer of one replica: connections to it and from it.
type Stream struct {
	address virtual
}

// Accept waits for the next connection to this replica. It returns
// [net.ErrClosed] when the stream or the port is closed.
func (s *Stream) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Addr returns the virtual address of the replica.
func (s *Stream) Addr() net.Addr { return s.address }

// Close ends Accept and cuts the connections of this replica in both
// directions.
func (s *Stream) Close() error { return nil }

// Dial connects to the replica with this virtual address.
func (s *Stream) Dial(virtualAddr string, timeout time.Duration) (net.Conn, error) {
	return nil, ErrUnreachable
}
