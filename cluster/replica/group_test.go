package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
)

// ledger is a machine that keeps what it is given, in order.
type ledger struct {
	fail  atomic.Bool
	gate  atomic.Pointer[chan struct{}] // entries wait until it is closed
	pad   int                           // bytes in a snapshot for each entry
	views atomic.Int32                  // open
	load  func()                        // called when a snapshot is read
	mu    sync.Mutex
	ids   []uint64
	loads int // snapshots taken in
}

// refused is what a poison entry comes to, on every replica.
type refused struct{}

const poison = ^uint64(0)

func (l *ledger) Apply(_ uint64, data []byte) (any, error) {
	if gate := l.gate.Load(); gate != nil {
		<-*gate
	}
	if l.fail.Load() {
		return nil, errors.New("allocation failed")
	}
	id := binary.BigEndian.Uint64(data)
	if id == poison {
		return refused{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
	return len(l.ids), nil
}

func (l *ledger) Snapshot() (View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.views.Add(1)
	return page{slices.Clone(l.ids), l.pad, &l.views}, nil
}

func (l *ledger) Restore(r io.Reader) error {
	if l.load != nil {
		l.load()
	}
	state, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if len(state)%(8+l.pad) != 0 {
		return fmt.Errorf("restore: %d bytes", len(state))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids, l.loads = l.ids[:0], l.loads+1
	for at := 0; at < len(state); at += 8 + l.pad {
		l.ids = append(l.ids, binary.BigEndian.Uint64(state[at:]))
	}
	return nil
}

func (l *ledger) all() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

// page is a view of a ledger.
type page struct {
	ids  []uint64
	pad  int
	open *atomic.Int32
}

func (p page) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for _, id := range p.ids {
		k, err := w.Write(append(binary.BigEndian.AppendUint64(nil, id), make([]byte, p.pad)...))
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p page) Release() { p.open.Add(-1) }

// peer is one replica of a group under test.
type peer struct {
	*Replica
	name   string
	self   Identity
	ledger *ledger
	mem    *memory
}

// group is a group under test.
type group struct {
	t      testing.TB
	net    *network
	change func(*Config) // applied to the config of every replica
	peers  map[string]*peer
	stream func(addr string) Stream // default: net.open
	next   uint64                   // id of the next entry
	acked  []uint64
}

// newGroup founds a group of the named replicas; the first is its founder.
func newGroup(t testing.TB, change func(*Config), names ...string) *group {
	t.Helper()
	g := &group{t: t, net: newNetwork(), change: change, peers: make(map[string]*peer)}
	g.stream = func(addr string) Stream { return g.net.open(addr) }
	t.Cleanup(g.close)
	for i, name := range names {
		if i == 0 {
			g.found(name)
		} else {
			g.join(name)
		}
	}
	return g
}

// found starts the founder and waits until it leads.
func (g *group) found(name string) *peer {
	g.t.Helper()
	p := g.start(name, func(c *Config) { c.Found = true })
	g.await("the founder leads", p.Leads)
	return p
}

// start starts a replica and returns it.
func (g *group) start(name string, change func(*Config)) *peer {
	g.t.Helper()
	p := &peer{name: name, self: Identity{ID: "r-" + name, Addr: "at-" + name}, ledger: &ledger{}, mem: &memory{}}
	cfg := Config{Group: "test", Generation: 1, Identity: p.self, Machine: p.ledger,
		MapLog: p.mem.Map, UnmapLog: p.mem.Unmap, LogBudget: 1 << 20}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(g.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", name)
	}
	if g.change != nil {
		g.change(&cfg)
	}
	if change != nil {
		change(&cfg)
	}
	if l, ok := cfg.Machine.(*ledger); ok {
		p.ledger = l
	}
	p.self = cfg.Identity
	cfg.Stream = g.stream(cfg.Identity.Addr)
	r, err := New(cfg)
	if err != nil {
		g.t.Fatalf("New %s: %v", name, err)
	}
	p.Replica = r
	g.peers[name] = p
	return p
}

// join starts a replica and makes it a voter.
func (g *group) join(name string) *peer {
	g.t.Helper()
	p := g.start(name, nil)
	g.add(p)
	g.promote(p)
	return p
}

func (g *group) add(p *peer) {
	g.t.Helper()
	g.steer("add "+p.name, func(lead *peer, ctx context.Context, prev uint64) error {
		return lead.AddNonvoter(ctx, p.self, prev)
	})
}

// promote waits until p has caught up and gives it its vote.
func (g *group) promote(p *peer) {
	g.t.Helper()
	g.await(p.name+" has caught up", func() bool {
		lead := g.leader()
		at := lead.Progress()
		lead.Nudge()
		return p.Progress().CaughtUp(at, 0)
	})
	g.steer("promote "+p.name, func(lead *peer, ctx context.Context, prev uint64) error {
		return lead.Promote(ctx, p.self, prev)
	})
	g.await(p.name+" has heard of it", func() bool {
		_, members, _ := p.Members()
		return slices.Contains(members, Member{p.self, true})
	})
}

func (g *group) remove(id string) {
	g.t.Helper()
	g.steer("remove "+id, func(lead *peer, ctx context.Context, prev uint64) error {
		return lead.Remove(ctx, id, prev)
	})
}

// steer changes the members, again while nothing was done.
func (g *group) steer(what string, step func(*peer, context.Context, uint64) error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		lead := g.leader()
		prev, _, err := lead.Members()
		if err == nil {
			err = step(lead, ctx, prev)
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil || !errors.Is(err, cloakroom.ErrUnavailable) {
			g.t.Fatalf("%s: %v", what, err)
		}
	}
}

// await waits for a condition.
func (g *group) await(what string, condition func() bool) {
	g.t.Helper()
	await(g.t, what, condition)
}

func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// leader waits for a leader among those that can reach each other.
func (g *group) leader() *peer {
	g.t.Helper()
	var found *peer
	g.await("somebody leads", func() bool {
		var best uint64
		for _, p := range g.peers {
			if term, ok := p.Lead(); ok && term > best {
				best, found = term, p
			}
		}
		return best > 0
	})
	return found
}

// entry makes the next entry, of n bytes or 8.
func (g *group) entry(n int) []byte {
	g.next++
	data := make([]byte, max(n, 8))
	binary.BigEndian.PutUint64(data, g.next)
	return data
}

// write proposes one entry at p and demands that it succeeds.
func (g *group) write(p *peer, n int) uint64 {
	g.t.Helper()
	if err := p.AwaitRoom(context.Background()); err != nil {
		g.t.Fatalf("AwaitRoom: %v", err)
	}
	index, _, err := p.Apply(g.entry(n))
	if err != nil {
		g.t.Fatalf("write at %s: %v", p.name, err)
	}
	g.acked = append(g.acked, g.next)
	return index
}

// lost returns the acknowledged entries that p does not have.
func (g *group) lost(p *peer) (lost []uint64) {
	has := make(map[uint64]bool)
	for _, id := range p.ledger.all() {
		has[id] = true
	}
	for _, id := range g.acked {
		if !has[id] {
			lost = append(lost, id)
		}
	}
	return lost
}

// same waits until the named replicas have all that was acknowledged, and
// nothing twice, in the same order.
func (g *group) same(names ...string) {
	g.t.Helper()
	first := g.peers[names[0]]
	for _, name := range names {
		p := g.peers[name]
		g.await(name+" has everything", func() bool { return len(g.lost(p)) == 0 })
	}
	g.await("all are the same", func() bool {
		for _, name := range names {
			if !slices.Equal(first.ledger.all(), g.peers[name].ledger.all()) {
				return false
			}
		}
		return true
	})
	ids := first.ledger.all()
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		g.t.Errorf("entries applied twice: %v", ids)
	}
}

// kill takes a replica away like a crash: its lines first.
func (g *group) kill(name string) {
	p := g.peers[name]
	for _, other := range g.peers {
		g.net.cut(p.self.Addr, other.self.Addr)
	}
	g.end(p)
	delete(g.peers, name)
}

func (g *group) end(p *peer) {
	p.Close()
	if open := p.ledger.views.Load(); open != 0 {
		g.t.Errorf("%s: %d views not released", p.name, open)
	}
	if mapped := p.mem.now(); mapped != 0 {
		g.t.Errorf("%s: %d bytes of log memory not given back", p.name, mapped)
	}
}

func (g *group) close() {
	var wg sync.WaitGroup
	for _, p := range g.peers {
		wg.Go(func() { g.end(p) })
	}
	wg.Wait()
	if n := g.net.alive(); n != 0 {
		g.t.Errorf("%d connections left open", n)
	}
}
