package replica

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Stream is the network of one replica: connections that arrive for it, and
// connections to other replicas by their virtual address. Both ends have
// agreed on group, generation and identities before a connection is handed out.
type Stream interface {
	net.Listener
	// Dial connects to the replica with the virtual address addr.
	Dial(addr string, timeout time.Duration) (net.Conn, error)
}

var (
	errNobody = errors.New("this replica reaches nobody")
	errCutOff = errors.New("this replica is cut off")
)

// streams is the Stream of a replica as raft's transport sees it. It knows
// every open connection: raft's transport neither closes the ones it keeps for
// later nor waits for the goroutines that serve the others, and it would wait
// for hours for a peer that stops reading in the middle of a snapshot.
type streams struct {
	self     string
	below    Stream // nil: reaches nobody but itself
	accepted chan net.Conn
	closing  sync.Once
	closed   chan struct{}  // stops listen and Accept
	serving  sync.WaitGroup // listen, and every accepted wire until its handler has ended

	mu    sync.Mutex
	off   bool          // cut off for good
	ended chan struct{} // closed then
	wires map[*wire]struct{}

	shunned map[string]*time.Timer // address → runs out when it may be dialled again
}

func newStreams(self string, below Stream) *streams {
	s := &streams{self: self, below: below, accepted: make(chan net.Conn),
		closed: make(chan struct{}), ended: make(chan struct{}), wires: make(map[*wire]struct{}),
		shunned: make(map[string]*time.Timer)}
	if below != nil {
		s.serving.Go(s.listen) // stopped by Close
	}
	return s
}

// listen takes what arrives until the stream below is closed.
func (s *streams) listen() {
	const calm = 50 * time.Millisecond // after a failure to accept
	for {
		conn, err := s.below.Accept()
		if err == nil {
			s.hand(conn)
			continue
		}
		timer := time.NewTimer(calm)
		select {
		case <-s.closed:
			timer.Stop()
			return
		case <-timer.C:
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// hand gives conn to raft's transport, whose handler closes it.
func (s *streams) hand(conn net.Conn) {
	w := s.track(conn, "")
	if w == nil {
		return
	}
	select {
	case s.accepted <- w:
	case <-s.closed:
		w.Close()
	}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *streams) Close() (err error) {
	s.closing.Do(func() {
		close(s.closed)
		if s.below != nil {
			err = s.below.Close()
		}
	})
	return err
}

// Addr implements net.Listener: the virtual address.
func (s *streams) Addr() net.Addr { return virtual(s.self) }

// virtual is a net.Addr that leads nowhere by itself.
type virtual string

func (virtual) Network() string  { return "cloakroom" }
func (v virtual) String() string { return string(v) }

// Dial implements raft.StreamLayer.
func (s *streams) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(addr) == s.self {
		return s.dialSelf()
	}
	if s.below == nil {
		return nil, errNobody
	}
	if s.isOff() || s.isShunned(string(addr)) {
		return nil, errCutOff
	}
	conn, err := s.below.Dial(string(addr), min(timeout, dialTimeout))
	if err != nil {
		return nil, fmt.Errorf("dial replica: %w", err)
	}
	if w := s.track(conn, string(addr)); w != nil {
		return w, nil
	}
	return nil, errCutOff
}

// dialSelf is for the one message a founder sends to itself.
func (s *streams) dialSelf() (net.Conn, error) {
	near, far := net.Pipe()
	w := s.track(near, s.self)
	if w == nil {
		far.Close()
		return nil, errCutOff
	}
	s.hand(far)
	return w, nil
}

// track notes an open connection; it closes it and returns nil when the
// replica is cut off.
func (s *streams) track(conn net.Conn, to string) *wire {
	w := &wire{Conn: conn, streams: s, to: to}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		conn.Close()
		return nil
	}
	if to == "" {
		s.serving.Add(1)
	}
	s.wires[w] = struct{}{}
	return w
}

// forget drops w from the list.
func (s *streams) forget(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wires, w)
}

func (s *streams) isOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.off
}

// dialled reports whether a connection to addr is open.
func (s *streams) dialled(addr raft.ServerAddress) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.wires {
		if w.to == string(addr) {
			return true
		}
	}
	return false
}

// shunTime is how long a shunned peer is not dialled: long enough for raft to
// fail a few times, too short for it to miss the leader.
const shunTime = 200 * time.Millisecond

// shun closes all connections to addr and makes none for a moment.
func (s *streams) shun(addr raft.ServerAddress) {
	s.mu.Lock()
	s.shunned[string(addr)] = time.NewTimer(shunTime)
	s.mu.Unlock()
	s.cutTo(addr)
}

// isShunned reports whether addr must not be dialled now.
func (s *streams) isShunned(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	timer := s.shunned[addr]
	if timer == nil {
		return false
	}
	select {
	case <-timer.C:
		delete(s.shunned, addr)
		return false
	default:
		return true
	}
}

// cutTo closes all connections this replica dialled to addr.
func (s *streams) cutTo(addr raft.ServerAddress) {
	s.cutAll(func(w *wire) bool { return w.to == string(addr) })
}

// cut closes every connection, and lets no new one happen.
func (s *streams) cut() {
	s.mu.Lock()
	if !s.off {
		s.off = true
		close(s.ended)
	}
	s.mu.Unlock()
	s.cutAll(func(*wire) bool { return true })
}

// cutAll cuts the open wires that want holds for.
func (s *streams) cutAll(want func(*wire) bool) {
	s.mu.Lock()
	var picked []*wire
	for w := range s.wires {
		if want(w) {
			picked = append(picked, w)
		}
	}
	s.mu.Unlock()
	for _, w := range picked {
		w.cut()
	}
}

// sweep is called once a second and cuts the connections on which somebody has
// waited for the whole second and not one byte moved, and those that were not
// used for long.
func (s *streams) sweep() {
	s.cutAll(func(w *wire) bool {
		stalled, idle := w.look()
		return stalled || idle
	})
}
