package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"cloakroom/cluster/cert"
)

// link is one connection, in its handshake or past it.
type link struct {
	port     *Port
	raw      *counted
	tls      *tls.Conn
	accepted bool // by the listener, else dialled
	ctx      context.Context
	cancel   context.CancelFunc

	once  sync.Once
	cause atomic.Pointer[error] // why it was cut

	// Set once, under Port.mu, at the end of the handshake.
	kind     kind // 0: still in it
	peer     Peer
	end      end    // raft: the replica at the accepting side
	source   string // raft: the replica at the other
	question []byte // of a stranger
	seated   uint64 // accepted: the order of admission

	gone  func()       // under Port.mu: called by cut
	watch func() error // under Port.mu: called at every tick; an error cuts the link
}

// counted counts the reads and writes of a connection that moved something.
type counted struct {
	net.Conn
	reads, writes atomic.Uint64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.writes.Add(1)
	}
	return n, err
}

// track makes a link of a connection. It returns nil, and the connection is
// closed, if the port is.
func (p *Port) track(raw net.Conn, accepted bool) *link {
	l := &link{port: p, raw: &counted{Conn: raw}, accepted: accepted}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.cancel()
		raw.Close()
		return nil
	}
	p.links[l] = struct{}{}
	var oldest *link
	if accepted {
		if p.shaking = append(p.shaking, l); len(p.shaking) > maxShaking {
			oldest = p.shaking[0]
			p.shaking = slices.Delete(p.shaking, 0, 1)
		}
	}
	p.mu.Unlock()
	if oldest != nil {
		oldest.cut(refusedCrowd)
	}
	return l
}

// shaken says that the handshake of an accepted link is over.
func (p *Port) shaken(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.shaking, l); at >= 0 {
		p.shaking = slices.Delete(p.shaking, at, at+1)
	}
}

// cut closes the link, without a goodbye: one could wait for a peer that does
// not read, and everything that travels here has its length in front. Only the
// first cause counts.
func (l *link) cut(cause error) {
	l.once.Do(func() {
		l.cause.Store(&cause)
		l.raw.Close() // first: no answer of a handler whose context ends gets out
		l.cancel()
		l.port.mu.Lock()
		delete(l.port.links, l)
		gone := l.gone
		l.port.mu.Unlock()
		if gone != nil {
			gone()
		}
	})
}

// attend has watch called at every tick, and gone when the link is cut, at
// once if it was.
func (l *link) attend(watch func() error, gone func()) {
	l.port.mu.Lock()
	_, open := l.port.links[l]
	if open {
		l.watch, l.gone = watch, gone
	}
	l.port.mu.Unlock()
	if !open && gone != nil {
		gone()
	}
}

// why returns what the link was cut for, or err if it was not.
func (l *link) why(err error) error {
	if cause := l.cause.Load(); cause != nil {
		return *cause
	}
	return err
}

// linger has the connection reset when it is closed, if it is TCP's.
func (l *link) linger() {
	if conn, ok := l.raw.Conn.(*net.TCPConn); ok {
		conn.SetLinger(0)
	}
}

// identify returns the node that the other side's certificate names. The
// chain was verified by TLS.
func (l *link) identify() (string, error) {
	state := l.tls.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	return cert.NodeOf(state.PeerCertificates[0], l.port.cfg.Cluster)
}

// reviewReplica says why the replica at the other end may not speak any more.
func (l *link) reviewReplica(peer Peer) error {
	p := l.port
	p.mu.Lock()
	s, source := p.streams[l.end.replica], l.source
	p.mu.Unlock()
	switch {
	case s != nil && s.cfg.Admit != nil:
		if why := sourceRefusal(s.cfg.Admit(peer, source)); why != admitted {
			return why
		}
	case p.cfg.Admit(peer.Node, peer.Life) != nil:
		return refusedMember
	}
	return nil
}

// review says why the link may not be any more.
func (l *link) review() error {
	p := l.port
	p.mu.Lock()
	peer, kind := l.peer, l.kind
	p.mu.Unlock()
	switch {
	case kind == 0 || !kind.member() || kind == stranger: // in its handshake, or never admitted
		return nil
	case !p.cfg.pinned(peer.Node, peer.Key):
		return refusedKey
	case l.accepted && kind == raft:
		return l.reviewReplica(peer)
	case l.accepted:
		if p.cfg.Admit(peer.Node, peer.Life) != nil {
			return refusedMember
		}
	case kind == calls || kind == gossip:
		if _, life, ok := p.cfg.Resolve(peer.Node); !ok || life != peer.Life {
			return refusedMember
		}
	}
	return nil
}
