package gossip

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// streamTime bounds an exchange of everything, and the way to it.
	streamTime = 3 * time.Second
	// streamBytes is the most that is read of one. A member takes about 200.
	streamBytes = 1 << 20
	// idleTime is how long a connection for packets stays unused.
	idleTime = time.Minute
	// writeTime is how long a packet may take to be written.
	writeTime = time.Second
	// laneQueue is how many packets wait for one member, arrivals for memberlist.
	laneQueue, arrivals = 32, 256
	// waitingStreams is how many exchanges wait for memberlist.
	waitingStreams = 16
)

// transport is memberlist's network. A packet that can't be sent at once is
// dropped, as UDP would.
type transport struct {
	cfg     *Config
	packets chan *memberlist.Packet
	streams chan net.Conn
	sent    atomic.Uint64
	dropped atomic.Uint64
	ctx     context.Context // ends with Shutdown
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	lanes  map[Member]*lane
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(cfg *Config) *transport {
	t := &transport{cfg: cfg, lanes: map[Member]*lane{},
		packets: make(chan *memberlist.Packet, arrivals), streams: make(chan net.Conn, waitingStreams)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// virtual is the address of a member in the gossip: one of a local network,
// made up from its life.
type virtual Member

func (virtual) Network() string  { return "cloakroom-gossip" }
func (v virtual) String() string { return net.JoinHostPort(v.ip().String(), "1") }
func (v virtual) ip() (ip net.IP) {
	ip = make(net.IP, net.IPv6len)
	life, _ := hex.DecodeString(v.Life) // parsed before
	copy(ip[1:], life)
	ip[0] = 0xfd
	return ip
}

// FinalAdvertiseAddr returns the address that is gossiped.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return virtual(t.cfg.Self).ip(), 1, nil
}

var errNameless = errors.New("gossip goes to names only")

// WriteTo and DialTimeout belong to transports that know addresses.
func (t *transport) WriteTo([]byte, string) (time.Time, error) { return time.Time{}, errNameless }
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errNameless
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

// WriteToAddress sends a packet, or drops it. It waits for nothing.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	now := t.cfg.Now()
	m, ok := parseName(to.Name)
	if !ok {
		return now, errNameless
	}
	if len(b) > maxPacket {
		return now, fmt.Errorf("packet of %d bytes: %w", len(b), errPacket)
	}
	if !t.cfg.registered(m) || !t.push(m, b) {
		t.dropped.Add(1)
		return now, nil
	}
	t.sent.Add(1)
	return now, nil
}

// DialAddressTimeout connects for an exchange of everything.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	m, ok := parseName(to.Name)
	if !ok {
		return nil, errNameless
	}
	if !t.cfg.registered(m) {
		return nil, errUnknown
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := t.connect(ctx, m, streams)
	if err != nil {
		return nil, err
	}
	return &stream{Conn: conn, left: streamBytes}, nil
}

// connect dials a member and says what the connection is for.
func (t *transport) connect(ctx context.Context, m Member, use byte) (net.Conn, error) {
	conn, err := t.cfg.Dial(ctx, m.Node)
	if err != nil {
		return nil, err
	}
	if err := writeInTime(ctx, conn, []byte{use}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// writeInTime writes b, and closes the connection if ctx ends first.
func writeInTime(ctx context.Context, conn net.Conn, b []byte) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_, err := conn.Write(b)
	return err
}

// Shutdown drops everything and waits for the lanes. memberlist calls it, too.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
	for {
		select {
		case conn := <-t.streams:
			conn.Close()
		default:
			return nil
		}
	}
}

// stream bounds what is read of an exchange.
type stream struct {
	net.Conn
	left int // bytes
}

var errLong = errors.New("more than an exchange may have")

func (s *stream) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, errLong
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}
