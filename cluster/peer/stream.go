package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Stream is the stream layer of one replica: connections to it and from it.
type Stream struct {
	port   *Port
	cfg    StreamConfig
	end    end
	queue  chan net.Conn
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	once   sync.Once
}

// Stream opens the stream layer of a replica that lives here. Until it is
// closed no other can be opened for that replica.
func (p *Port) Stream(cfg StreamConfig) (*Stream, error) {
	var faults []error
	if cfg.Address == "" {
		faults = append(faults, errors.New("no virtual address"))
	}
	if cfg.Locate == nil {
		faults = append(faults, errors.New("no func Locate"))
	}
	if err := errors.Join(append(faults, checkReplica(cfg.Replica))...); err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	s := &Stream{port: p, cfg: cfg, end: end{cfg.Group, cfg.Generation, cfg.Replica}, queue: make(chan net.Conn, maxQueued)}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("open stream: %w", net.ErrClosed)
	}
	if p.streams[cfg.Replica] != nil {
		return nil, fmt.Errorf("open stream: replica %q has one", cfg.Replica)
	}
	p.streams[cfg.Replica] = s
	return s, nil
}

// Addr returns the virtual address of the replica.
func (s *Stream) Addr() net.Addr { return virtual(s.cfg.Address) }

// Accept waits for the next connection to this replica. It returns
// [net.ErrClosed] when the stream or the port is closed.
func (s *Stream) Accept() (net.Conn, error) {
	if s.ctx.Err() == nil {
		select {
		case c := <-s.queue:
			return c, nil
		case <-s.ctx.Done():
		}
	}
	return nil, net.ErrClosed
}

// Close ends Accept and Dial, and cuts the connections of this replica in both
// directions.
func (s *Stream) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.port.mu.Lock()
		delete(s.port.streams, s.cfg.Replica)
		links := s.port.openLinks()
		s.port.mu.Unlock()
		for _, l := range links {
			if l.belongsTo(s.cfg.Replica) {
				l.cut(net.ErrClosed)
			}
		}
	})
	return nil
}

// belongsTo says whether the replica at this end is the one named.
func (l *link) belongsTo(replica string) bool {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	if l.accepted {
		return l.kind == raft && l.end.replica == replica
	}
	return l.kind == raft && l.source == replica
}

// deliver hands an accepted connection to the replica it is for.
func (p *Port) deliver(l *link) {
	p.mu.Lock()
	s := p.streams[l.end.replica]
	p.mu.Unlock()
	if s == nil || s.end != l.end {
		l.cut(refusedReplica)
		return
	}
	select {
	case s.queue <- &conn{link: l, local: virtual(s.cfg.Address), remote: virtual(l.source)}:
	default:
		l.cut(refusedCrowd) // nobody accepts
	}
	if s.ctx.Err() != nil { // closed meanwhile: Close may have missed this link
		l.cut(net.ErrClosed)
	}
}

// Dial connects to the replica with this virtual address. A timeout of 0 or
// less, or beyond Config.Handshake, is Config.Handshake. Errors wrap
// [ErrUnreachable].
func (s *Stream) Dial(virtualAddr string, timeout time.Duration) (net.Conn, error) {
	node, addr, replica, ok := s.cfg.Locate(virtualAddr)
	if !ok {
		return nil, fmt.Errorf("dial replica at %s: %w: not known", virtualAddr, ErrUnreachable)
	}
	if timeout <= 0 {
		timeout = s.port.cfg.Handshake
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	want := end{s.cfg.Group, s.cfg.Generation, replica}
	l, err := s.port.dial(ctx, addr, hello{kind: raft, wantNode: node, want: want, source: s.cfg.Replica})
	if err != nil {
		return nil, fmt.Errorf("dial replica at %s: %w", virtualAddr, err)
	}
	if s.cfg.Meet != nil {
		if err := s.cfg.Meet(l.peer); err != nil {
			l.cut(sourceRefusal(err))
			return nil, fmt.Errorf("dial replica at %s: %w", virtualAddr, sourceRefusal(err))
		}
	}
	if s.ctx.Err() != nil { // closed meanwhile: Close may have missed this link
		l.cut(net.ErrClosed)
	}
	return &conn{link: l, local: virtual(s.cfg.Address), remote: virtual(virtualAddr)}, nil
}

// conn is one raft connection.
type conn struct {
	link          *link
	local, remote virtual
}

func (c *conn) Read(b []byte) (int, error)  { return c.link.tls.Read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.link.tls.Write(b) }

func (c *conn) Close() error {
	c.link.cut(net.ErrClosed)
	return nil
}

func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetDeadline(t time.Time) error      { return c.link.tls.SetDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.link.tls.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.link.tls.SetWriteDeadline(t) }
