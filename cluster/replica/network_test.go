package replica

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// network connects the replicas of a test by their virtual addresses, through
// pipes in memory. Lines between two of them can be cut, and what passes in
// one direction can be held back.
type network struct {
	mu     sync.Mutex
	ports  map[string]*port
	conns  map[*line]bool
	cuts   map[[2]string]bool          // from, to: no connection is made, open ones are closed
	holds  map[[2]string]chan struct{} // from, to: bytes wait until it is closed
	opened int
	moved  map[[2]string]int // bytes, from, to
	trips  map[[2]string]int // bytes from which on to hold
}

func newNetwork() *network {
	return &network{ports: make(map[string]*port), conns: make(map[*line]bool), cuts: make(map[[2]string]bool),
		holds: make(map[[2]string]chan struct{}), moved: make(map[[2]string]int), trips: make(map[[2]string]int)}
}

// port is the Stream of one replica.
type port struct {
	net    *network
	addr   string
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// open makes the Stream of the replica at addr.
func (n *network) open(addr string) *port {
	p := &port{net: n, addr: addr, queue: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[addr] = p
	return p
}

func (p *port) Addr() net.Addr { return virtual(p.addr) }

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.queue:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		if p.net.ports[p.addr] == p {
			delete(p.net.ports, p.addr)
		}
	})
	return nil
}

func (p *port) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	p.net.mu.Lock()
	to := p.net.ports[addr]
	down := p.net.cuts[[2]string{p.addr, addr}]
	p.net.mu.Unlock()
	if to == nil || down {
		return nil, errors.New("unreachable")
	}
	near, far := net.Pipe()
	a := &line{Conn: near, net: p.net, from: addr, to: p.addr, closed: make(chan struct{})}
	b := &line{Conn: far, net: p.net, from: p.addr, to: addr, closed: make(chan struct{})}
	a.peer, b.peer = b, a
	p.net.mu.Lock()
	p.net.conns[a], p.net.conns[b] = true, true
	p.net.opened++
	p.net.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case to.queue <- b:
		return a, nil
	case <-to.closed:
	case <-timer.C:
	}
	a.Close()
	b.Close()
	return nil, errors.New("refused")
}

// cut takes the lines between a and b down, in both directions.
func (n *network) cut(a, b string) {
	n.mu.Lock()
	n.cuts[[2]string{a, b}], n.cuts[[2]string{b, a}] = true, true
	var gone []*line
	for c := range n.conns {
		if c.from == a && c.to == b || c.from == b && c.to == a {
			gone = append(gone, c)
		}
	}
	n.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

// heal undoes cut.
func (n *network) heal(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cuts, [2]string{a, b})
	delete(n.cuts, [2]string{b, a})
}

// hold keeps what goes from one to the other until release.
func (n *network) hold(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.holds[[2]string{from, to}] == nil {
		n.holds[[2]string{from, to}] = make(chan struct{})
	}
}

func (n *network) release(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch := n.holds[[2]string{from, to}]; ch != nil {
		close(ch)
		delete(n.holds, [2]string{from, to})
	}
}

// open connections, counted once for both ends.
func (n *network) alive() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns) / 2
}

// line is one end of a connection: what it reads came from the replica from.
type line struct {
	net.Conn
	net      *network
	peer     *line
	from, to string
	once     sync.Once
	closed   chan struct{}

	mu       sync.Mutex
	deadline time.Time
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	for {
		gate := l.net.pass([2]string{l.from, l.to}, n)
		if gate == nil || n == 0 {
			return n, err
		}
		if err := l.await(gate); err != nil {
			return 0, err
		}
	}
}

// pass counts n bytes that pass, unless they have to wait for the gate it
// returns.
func (n *network) pass(way [2]string, bytes int) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if limit, ok := n.trips[way]; ok && n.moved[way] >= limit {
		delete(n.trips, way)
		n.holds[way] = make(chan struct{})
	}
	if gate := n.holds[way]; gate != nil {
		return gate
	}
	n.moved[way] += bytes
	return nil
}

// await waits for a gate as long as the connection may be read.
func (l *line) await(gate chan struct{}) error {
	l.mu.Lock()
	deadline := l.deadline
	l.mu.Unlock()
	var over <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-gate:
		return nil
	case <-over:
		return os.ErrDeadlineExceeded
	case <-l.closed:
		return net.ErrClosed
	}
}

func (l *line) SetDeadline(t time.Time) error {
	l.mu.Lock()
	l.deadline = t
	l.mu.Unlock()
	return l.Conn.SetDeadline(t)
}

func (l *line) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	l.deadline = t
	l.mu.Unlock()
	return l.Conn.SetReadDeadline(t)
}

func (l *line) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		delete(l.net.conns, l)
		l.net.mu.Unlock()
	})
	return l.Conn.Close()
}

// trip has the line hold once n more bytes have passed.
func (n *network) trip(from, to string, bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trips[[2]string{from, to}] = n.moved[[2]string{from, to}] + bytes
}

// held reports whether bytes are held back on the line.
func (n *network) held(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.holds[[2]string{from, to}] != nil
}
