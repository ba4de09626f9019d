package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/securemem"
)

// brittle is a machine whose memory runs out when it is told to.
type brittle struct {
	Machine
	broken *atomic.Bool
}

func (b brittle) Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	if b.broken.Load() {
		return nil, errors.New("allocation failed")
	}
	return b.Machine.Apply(index, batch, results)
}

func (b brittle) Close() error { return b.Machine.(stateMachine).Close() }

// brittleHouse is a house where the replicas of shard 0 can be broken, by
// node. Those made later are whole.
func brittleHouse(t *testing.T, nodes int) (*house, map[string]*atomic.Bool) {
	var mu sync.Mutex
	switches := make(map[string]*atomic.Bool)
	h := newHouse(t, nodes, 2, func(name string, cfg *Config) {
		inner := cfg.Machine
		cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
			m, err := inner(id)
			if id != 0 || err != nil {
				return m, err
			}
			mu.Lock()
			defer mu.Unlock()
			switches[name] = &atomic.Bool{}
			return brittle{m, switches[name]}, nil
		}
	})
	return h, switches
}

// An allocation that fails on one replica stops that one alone. It is rebuilt,
// and knows everything.
func TestAFailedReplicaIsRebuilt(t *testing.T) {
	h, switches := brittleHouse(t, 3)
	serial := uint64(0)
	deposit := func() {
		t.Helper()
		serial++
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := h.node("n1").surely(ctx, 0, serial, fmt.Sprint("value ", serial)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"n3", "n1"} { // a follower, and the leader
		deposit()
		before := h.node(name).group(1).member.Load().self
		switches[name].Store(true)
		deposit()
		h.await("a new replica on "+name, func() (bool, string) {
			m := h.node(name).group(1).member.Load()
			return m != nil && m.self != before, "the old one is there"
		})
		h.awaitTolerance(1)
		deposit()
	}
	h.await("all replicas to agree", func() (bool, string) {
		var first string
		for i, name := range h.names() {
			m := h.node(name).group(1).member.Load().machine.(brittle).Machine.(stateMachine)
			if now := fmt.Sprintf("%x", m.Hash()); i == 0 {
				first = now
			} else if now != first {
				return false, name + " has another history"
			}
		}
		return true, ""
	})
	for _, name := range h.names() {
		s := h.node(name).Status().Shards[0]
		if s.Parked != "" || s.Role == Parked {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for i := range serial {
		if got, err := h.node("n2").look(t.Context(), 0, i+1); err != nil || got != fmt.Sprint("value ", i+1) {
			t.Errorf("%d: %q, %v", i+1, got, err)
		}
	}
}

// The only replica of a shard can't be rebuilt from anybody: it stays as it is
// and says so.
func TestTheLastReplicaStaysParked(t *testing.T) {
	h, switches := brittleHouse(t, 1)
	switches["n1"].Store(true)
	n := h.node("n1")
	if err := n.deposit(t.Context(), 0, 1, "x"); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if err := n.deposit(ctx, 0, 2, "x"); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	s := n.Status()
	if s.Ready || s.Shards[0].Role != Parked || s.Shards[0].Parked == "" || s.Shards[1].Role != Leader {
		t.Errorf("%s", describe(&s))
	}
}

// A replica of the directory that fails is rebuilt as well, though its node
// can't read in the directory how.
func TestAFailedDirectoryIsRebuilt(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	for _, name := range []string{"n2", "n1"} {
		n := h.node(name)
		old := n.desk.member.Load()
		old.broken.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for old.serves() {
			if _, err := h.node("n3").NextSealingNumber(ctx); err != nil && !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Fatal(err)
			}
		}
		cancel()
		h.await("a new directory replica on "+name, func() (bool, string) {
			m := n.desk.member.Load()
			return m != nil && m != old, "the old one is there"
		})
		h.awaitTolerance(1)
	}
	if _, err := h.node("n1").NextSealingNumber(t.Context()); err != nil {
		t.Error(err)
	}
}

// A command that can't be read is rejected by all replicas alike, wherever it
// comes in, and those beside it are carried out.
func TestPoisonIsRejectedByAll(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	for _, name := range []string{"n1", "n2"} {
		c := h.node(name).Cluster
		good := subject(uint64(len(name)), "good")
		p := c.newProposal([]command.Command{good})
		for _, junk := range [][]byte{{}, {0xff}, make([]byte, 300), []byte("not a command at all")} {
			p.items = command.AppendEncoded(p.items, junk)
			p.ends = append(p.ends, len(p.items))
		}
		s := (*c.shards.Load())[0]
		if err := c.carry(t.Context(), &s.group, &proposing{c, s, p}); err != nil {
			t.Fatal(err)
		}
		for i, r := range p.results {
			if malformed := r.Code == command.Malformed; malformed != (i > 0) {
				t.Errorf("%s: result %d: %v", name, i, r.Code)
			}
		}
		e := &changing{c: c, data: []byte("\x01{\"poison\":1}")}
		if err := c.carry(t.Context(), &c.desk.group, e); err != nil || !errors.Is(e.result.Err(), cloakroom.ErrMalformed) {
			t.Errorf("%s: directory: %+v, %v", name, e.result, err)
		}
	}
	h.awaitTolerance(1)
	hashes := make(map[[32]byte]bool)
	h.await("all replicas to agree", func() (bool, string) {
		clear(hashes)
		for _, name := range h.names() {
			hashes[h.node(name).group(1).member.Load().machine.(stateMachine).Hash()] = true
		}
		return len(hashes) == 1, "histories differ"
	})
}

// skewedClock is a wall clock that is off.
type skewedClock struct {
	wallClock
	by time.Duration
}

func (c skewedClock) Now() time.Time { return c.wallClock.Now().Add(c.by) }

// A clock that is a year ahead moves no shard's time, whoever leads.
func TestAYearAhead(t *testing.T) {
	h := newHouse(t, 3, 2, func(name string, cfg *Config) {
		if name == "n2" {
			cfg.Clock = skewedClock{by: 365 * 24 * time.Hour}
		}
	})
	times := func() (all []time.Time) {
		for shard := range cloakroom.ShardID(2) {
			var got command.Records
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err := h.node("n3").Read(ctx, shard, cloakroom.Linearizable, cloakroom.Index{}, nil, &got)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, time.UnixMilli(int64(got.Time)))
		}
		return all
	}
	advance := func(what string) {
		t.Helper()
		before := times()
		h.await(what+": shard time moves on", func() (bool, string) {
			for i, now := range times() {
				if off := time.Until(now); off > time.Minute {
					t.Fatalf("%s: shard %d is %v ahead", what, i, off)
				}
				if now.Sub(before[i]) < 1500*time.Millisecond {
					return false, "it stands still"
				}
			}
			return true, ""
		})
	}
	advance("led by others")
	for _, g := range []directory.GroupID{1, 2} {
		n := h.node("n1")
		h.await("n2 to lead", func() (bool, string) {
			m, _ := n.group(g).lead()
			if m == nil {
				return h.node("n2").Leads(cloakroom.ShardID(g - 1)), "somebody else does"
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			m.replica.TransferLead(ctx, h.node("n2").group(g).member.Load().self)
			return false, "transferring"
		})
	}
	advance("led by the one ahead")
	// With one of the others gone no two of three agree: time stands still.
	h.kill("n1")
	h.await("clocks to be found apart", func() (bool, string) {
		return h.node("n2").Status().ClockSkew || h.node("n3").Status().ClockSkew, "nobody says so"
	})
	for i, now := range times() {
		if off := time.Until(now); off > time.Minute {
			t.Errorf("shard %d is %v ahead", i, off)
		}
	}
	h.start("n1")
	h.awaitTolerance(1)
	advance("healed")
}

// The life that has a name keeps it; whoever starts under the same name is
// told, and nothing changes.
func TestTwoNodesWithOneName(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	before := h.node("n1").Directory().Nodes
	for _, name := range []string{"n1", "n2", "n3"} {
		if _, err := h.open(name); !errors.Is(err, cloakroom.ErrConflict) {
			t.Errorf("a second %s: got %v, want conflict", name, err)
		}
	}
	if now := h.node("n1").Directory().Nodes; fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("nodes: %v, were %v", now, before)
	}
	h.awaitTolerance(1)
}

// A living node that misses a ping keeps its name: whoever came after it with
// the same one took it, and all its replicas with it.
func TestAMissedPingCostsNoName(t *testing.T) {
	deaf := &deafOnce{Carrier: peer.TCP()}
	h := newHouse(t, 3, 1, func(name string, cfg *Config) {
		if name == "n1" {
			cfg.Network.Carrier = deaf
		}
	})
	life := h.node("n2").Life()
	addr := h.node("n2").net.Addr()
	deaf.to.Store(&addr)
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	cfg := h.config("n2", memory)
	cfg.Network.Seeds = []string{h.node("n1").net.Addr()}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if c, err := New(ctx, cfg); !errors.Is(err, cloakroom.ErrConflict) {
		if err == nil {
			c.Close()
		}
		t.Errorf("a second n2: got %v, want conflict", err)
	}
	if deaf.to.Load() != nil {
		t.Error("no ping was missed")
	}
	if info, _ := h.node("n1").Directory().Node("n2"); info.Life != life {
		t.Error("n2 lost its name")
	}
}

// deafOnce is a carrier whose next dial to an address hangs.
type deafOnce struct {
	peer.Carrier
	to atomic.Pointer[string]
}

func (d *deafOnce) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if to := d.to.Load(); to != nil && *to == addr && d.to.CompareAndSwap(to, nil) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.Carrier.Dial(ctx, addr)
}

// Of several that start at once under one free name, one gets it.
func TestARaceForAName(t *testing.T) {
	h := newHouse(t, 1, 1, nil)
	var mu sync.Mutex
	var won []*resident
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			n, err := h.open("n2")
			if err != nil {
				if !errors.Is(err, cloakroom.ErrConflict) {
					t.Errorf("got %v, want conflict", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, n)
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d got the name", len(won))
	}
	h.nodes["n2"] = won[0]
}

// All three are restarted in turn, killed or closed, while clients of every
// node deposit. What was acknowledged is there in the end, on every node.
func TestRestartOfAllUnderLoad(t *testing.T) {
	h := newHouse(t, 3, 4, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	wrote := make(map[uint64]cloakroom.ShardID)
	refused := make(map[uint64]cloakroom.ShardID) // nothing was done
	var unknown atomic.Int64
	var serial atomic.Uint64
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			for ctx.Err() == nil {
				n := h.node([]string{"n1", "n2", "n3"}[i%3])
				if n == nil {
					n = h.node([]string{"n1", "n2", "n3"}[(i+1)%3])
				}
				id := serial.Add(1)
				shard := cloakroom.ShardID(id % 4)
				once, done := context.WithTimeout(ctx, 5*time.Second)
				err := n.deposit(once, shard, id, fmt.Sprint("value ", id))
				done()
				switch {
				case err == nil:
					mu.Lock()
					wrote[id] = shard
					mu.Unlock()
				case errors.Is(err, cloakroom.ErrOutcomeUnknown):
					unknown.Add(1)
				case errors.Is(err, cloakroom.ErrUnavailable), errors.Is(err, cloakroom.ErrOverloaded):
					mu.Lock()
					refused[id] = shard
					mu.Unlock()
				default:
					t.Errorf("deposit: %v", err)
				}
			}
		})
	}
	for i, name := range []string{"n1", "n2", "n3", "n1"} {
		how := (*Cluster).Kill
		if i%2 == 1 {
			how = (*Cluster).Close
		}
		h.end(name, how)
		h.start(name)
		h.awaitTolerance(1)
	}
	cancel()
	clients.Wait()
	t.Logf("%d acknowledged, %d unknown, %d refused", len(wrote), unknown.Load(), len(refused))
	if len(wrote) < 100 {
		t.Errorf("only %d deposits were acknowledged", len(wrote))
	}
	for _, name := range h.names() {
		for id, shard := range maps.All(wrote) {
			got, err := h.node(name).look(t.Context(), shard, id)
			if err != nil || got != fmt.Sprint("value ", id) {
				t.Fatalf("%s: deposit %d was acknowledged and reads %q, %v", name, id, got, err)
			}
		}
		for id, shard := range maps.All(refused) {
			if got, err := h.node(name).look(t.Context(), shard, id); err != nil || got != "" {
				t.Errorf("%s: deposit %d was refused and reads %q, %v", name, id, got, err)
			}
		}
	}
}

// A deposit is refused while any replica's node has too little memory, wherever
// it comes in; erasures pass.
func TestTheFullestReplicaStopsDeposits(t *testing.T) {
	var free atomic.Int64
	free.Store(32 << 20)
	h := newHouse(t, 3, 1, func(name string, cfg *Config) {
		if name == "n3" {
			cfg.RecordMemory = func() (int64, int64) { return free.Load(), 32 << 20 }
		}
	})
	if err := h.node("n2").surely(t.Context(), 0, 1, "x"); err != nil {
		t.Fatal(err)
	}
	free.Store(1 << 20)
	h.await("deposits to be refused", func() (bool, string) {
		for _, name := range h.names() {
			if err := h.node(name).deposit(t.Context(), 0, 2, "x"); !errors.Is(err, cloakroom.ErrMemoryFull) {
				return false, fmt.Sprint(name, " says ", err)
			}
		}
		return true, ""
	})
	erase := command.Command{Kind: command.Erase, SchemaEpoch: 1, Subject: put(1, 0).Subject, Version: cloakroom.Version{9},
		Fields: []command.Field{{Token: put(1, 0).Fields[0].Token}}}
	if results, _, err := h.node("n2").Propose(t.Context(), 0, []command.Command{erase}); err != nil || results[0].Code != command.Erased {
		t.Errorf("erase: %v, %v", results, err)
	}
	free.Store(32 << 20)
	h.await("deposits to be let in again", func() (bool, string) {
		err := h.node("n1").deposit(t.Context(), 0, 3, "x")
		return err == nil, fmt.Sprint(err)
	})
}
