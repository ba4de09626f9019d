// Package gossip hears, through memberlist, which nodes of the cluster others
// still hear: a second opinion beside this node's own calls. It gives hints and
// decides nothing; who is a member stands in the directory.
//
// A name in the gossip is a node and its life. Addresses in it are made up from
// the life, so that nothing real, personal or authoritative travels; where a
// node is, the cluster port knows. Connections come in through [Config], from a
// port that lets members in and nobody else.
//
// A Gossip is safe for concurrent use. No func of the Config may call it.
package gossip

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Member is one life of a node.
type Member struct{ Node, Life string }

// name is what a member is called in the gossip.
func (m Member) name() string { return m.Node + ":" + m.Life }

// parseName reads what name writes.
func parseName(name string) (Member, bool) {
	node, life, found := strings.Cut(name, ":")
	raw, err := hex.DecodeString(life)
	return Member{node, life}, found && node != "" && !strings.Contains(node, "/") &&
		err == nil && len(raw) == 16 && hex.EncodeToString(raw) == life
}

// Config is what a Gossip is made from. All but Logger, Heard and Probe must be
// given.
type Config struct {
	Self    Member // Life: 32 hex digits
	Cluster [16]byte

	// Members returns the registered nodes with their registered lives, this one
	// or not. It is asked often, also under memberlist's lock: it must be quick.
	Members func() []Member
	// Dial connects to the registered life of a node; the other side's Serve
	// gets the connection.
	Dial   func(ctx context.Context, node string) (net.Conn, error)
	Now    func() time.Time
	Logger *slog.Logger // default: none

	// Heard is called when a member has answered a ping of this one.
	Heard func(Member)
	// Probe is how often a member is asked, one after the other; default 1 s.
	Probe time.Duration
}

const (
	// roundTime lies between two looks for members that nobody here speaks of.
	roundTime = 5 * time.Second
	// leaveTime is how long word of a leaving has to get out.
	leaveTime = time.Second
	// metLimit is how many strangers are met in one look by who knows nobody.
	metLimit = 3
)

// check fills defaults and reports every fault.
func (c *Config) check() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Heard == nil {
		c.Heard = func(Member) {}
	}
	if c.Probe == 0 {
		c.Probe = time.Second
	}
	var faults []error
	if _, ok := parseName(c.Self.name()); !ok {
		faults = append(faults, errors.New("gossip: Self needs a node and a life of 32 hex digits"))
	}
	if c.Members == nil || c.Dial == nil || c.Now == nil {
		faults = append(faults, errors.New("gossip: Members, Dial and Now are needed"))
	}
	if c.Probe < 0 {
		faults = append(faults, errors.New("gossip: Probe is negative"))
	}
	return errors.Join(faults...)
}

// Gossip is this node's part of the gossip.
type Gossip struct {
	cfg       Config
	transport *transport
	list      *memberlist.Memberlist // nil before Start

	news    chan struct{} // of length 1: something has changed
	alive   atomic.Pointer[map[Member]struct{}]
	next    int // where the next look begins; of the goroutine that looks
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once
}

// New makes a Gossip that takes connections. It speaks from Start on.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, news: make(chan struct{}, 1)}
	g.alive.Store(&map[Member]struct{}{})
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.transport = newTransport(&g.cfg)
	return g, nil
}

// Start begins to gossip. It is called once.
func (g *Gossip) Start() error {
	conf := g.cfg.memberlist()
	conf.Transport = g.transport
	conf.Events, conf.Alive, conf.Ping = (*events)(g), (*gate)(g), (*pings)(g)
	list, err := memberlist.Create(conf)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	g.list = list
	g.running.Go(g.look) // ends with Close
	return nil
}

// memberlist returns the settings. Packets travel over TCP, so there is no
// second way to ping by, and nothing to compress or encrypt.
func (c *Config) memberlist() *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name = c.Self.name()
	conf.Label = hex.EncodeToString(c.Cluster[:])
	conf.RequireNodeNames = true
	conf.ProbeInterval, conf.ProbeTimeout = c.Probe, c.Probe/2
	conf.AwarenessMaxMultiplier = 2 // after Close a probe goes on for as long
	conf.DisableTcpPings = true
	conf.TCPTimeout = streamTime
	conf.EnableCompression = false
	conf.UDPBufferSize = maxPacket / 2
	conf.LogOutput = logLines{c.Logger}
	return conf
}

// Serve takes a connection from another node's Dial, and owns it. It is to be
// given to the cluster port.
func (g *Gossip) Serve(conn net.Conn, from Member) { g.transport.serve(conn, from) }

// Alive reports whether word has it that a member lives. That it does not may
// also mean that nobody has spoken of it yet.
func (g *Gossip) Alive(m Member) bool {
	_, there := (*g.alive.Load())[m]
	return there
}

// Look has the members looked through soon: the directory has changed.
func (g *Gossip) Look() {
	select {
	case g.news <- struct{}{}:
	default: // it will be
	}
}

// look keeps what Alive says up to date, and meets members nobody here speaks
// of: new ones, and those that were cut off for so long that they were
// forgotten.
func (g *Gossip) look() {
	ticker := time.NewTicker(roundTime)
	defer ticker.Stop()
	for {
		known := g.sync()
		if g.meet(known) {
			g.sync()
		}
		select {
		case <-g.news:
		case <-ticker.C:
		case <-g.ctx.Done():
			return
		}
	}
}

// sync takes over whom memberlist takes for alive.
func (g *Gossip) sync() map[Member]struct{} {
	alive := map[Member]struct{}{}
	for _, node := range g.list.Members() {
		if m, ok := parseName(node.Name); ok && m != g.cfg.Self {
			alive[m] = struct{}{}
		}
	}
	g.alive.Store(&alive)
	return alive
}

// meet exchanges everything with one registered member of whom nothing is
// known, or with a few if nobody is. It returns whether one answered.
func (g *Gossip) meet(known map[Member]struct{}) bool {
	var strangers []Member
	for _, m := range g.cfg.Members() {
		if _, is := known[m]; !is && m != g.cfg.Self {
			strangers = append(strangers, m)
		}
	}
	tries := 1
	if len(known) == 0 {
		tries = metLimit
	}
	for range min(tries, len(strangers)) {
		m := strangers[g.next%len(strangers)]
		g.next++
		if n, err := g.list.Join([]string{m.name() + "/" + virtual(m).String()}); err == nil && n > 0 {
			return true
		}
		if g.ctx.Err() != nil {
			return false
		}
	}
	return false
}

// Leave tells the others that this node will not come back, so that nobody
// looks for it. For a node that was decommissioned only: one that restarts is
// found missing, and then found again, as another life.
func (g *Gossip) Leave() error {
	if g.list == nil || g.ctx.Err() != nil {
		return nil
	}
	if err := g.list.Leave(leaveTime); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Close stops gossiping and closes the connections that were dialled from
// here. memberlist may finish a probe for two of [Config.Probe] after that: it
// offers no way to wait for it. It is to be called before the port is closed
// and not at the same time as Start.
func (g *Gossip) Close() {
	g.once.Do(func() {
		g.cancel()
		g.transport.Shutdown()
		g.running.Wait()
		if g.list != nil {
			g.list.Shutdown() //nolint:errcheck // it returns none
		}
	})
}

// Stats are the counters of a Gossip since it was made.
type Stats struct {
	Alive   int    // members that word has it are alive, this one apart
	Sent    uint64 // packets
	Dropped uint64 // packets that nobody took: there is no way to the member, or it is slow
}

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	return Stats{Alive: len(*g.alive.Load()), Sent: g.transport.sent.Load(), Dropped: g.transport.dropped.Load()}
}
