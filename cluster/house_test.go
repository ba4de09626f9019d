package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/peer/peertest"
	"cloakroom/securemem"
)

// house is a cluster of several nodes in one test, each with its own memory.
type house struct {
	t      testing.TB
	ca     *peertest.CA
	id     directory.ID
	shards int
	change func(name string, cfg *Config)

	patience time.Duration // for New

	mu    sync.Mutex
	nodes map[string]*resident
}

// resident is one life of one node.
type resident struct {
	*Cluster
	name   string
	memory *securemem.Memory
}

// newHouse founds a cluster of that many nodes over loopback TCP.
func newHouse(t testing.TB, nodes, shards int, change func(name string, cfg *Config)) *house {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel() // most of the time it waits
	}
	h := &house{t: t, id: directory.ID{7}, shards: shards, change: change, patience: 20 * time.Second, nodes: make(map[string]*resident)}
	h.ca = peertest.NewCA(t, [16]byte(h.id))
	t.Cleanup(h.closeAll)
	for i := range nodes {
		h.start(fmt.Sprintf("n%d", i+1))
	}
	h.awaitTolerance(min(nodes, 3)/2 - (1 - min(nodes, 3)%2))
	return h
}

// config is what a node of the house is made from.
func (h *house) config(name string, memory *securemem.Memory) Config {
	cfg := Config{Node: name, ClusterID: h.id, Shards: h.shards, Clock: wallClock{}, Uptime: uptime(), Rand: rand.Reader,
		Settings:  directory.Settings{Replication: 3, RecoveryMode: "none", LeaseMillis: 3000},
		LogBudget: 1 << 20,
		MapLog:    func(n int) ([]byte, error) { return memory.MapPlain("log", n) }, UnmapLog: memory.UnmapPlain,
		SealBatch: func(dst []byte, group, generation uint32, batch []byte) ([]byte, error) {
			return seal(dst, group, generation, batch), nil
		},
		OpenBatch:    unseal,
		RecordMemory: memory.Arena().Free,
		Machine: func(id cloakroom.ShardID) (Machine, error) {
			return StateMachine(StateConfig{Slab: memory.Arena().NewSlab(fmt.Sprintf("shard %d", id))})
		},
		Network: &Network{Listen: "127.0.0.1:0", Certificate: h.ca.Node(name), Roots: h.ca.Roots(), Carrier: peer.TCP()},
	}
	if os.Getenv("CLOAKROOM_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", name)
	}
	cfg.Network.Seeds = h.seeds(name)
	cfg.hazards.leadsStay = true // where tests put them
	if h.change != nil {
		h.change(name, &cfg)
	}
	return cfg
}

// seeds lists the other nodes' addresses.
func (h *house) seeds(but string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var seeds []string
	for name, n := range h.nodes {
		if name != but {
			seeds = append(seeds, n.net.Addr())
		}
	}
	return seeds
}

// open makes a node, not started and not in the house yet.
func (h *house) open(name string) (*resident, error) {
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: 32 << 20})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.patience)
	defer cancel()
	c, err := New(ctx, h.config(name, memory))
	if err != nil {
		memory.Close()
		return nil, err
	}
	return &resident{Cluster: c, name: name, memory: memory}, nil
}

// start brings a node up.
func (h *house) start(name string) *resident {
	h.t.Helper()
	n, err := h.open(name)
	if err != nil {
		h.t.Fatalf("New %s: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = n.Start(ctx)
	h.mu.Lock()
	h.nodes[name] = n
	h.mu.Unlock()
	if err != nil {
		h.t.Fatalf("Start %s: %v", name, err)
	}
	return n
}

// end takes a node out of the house.
func (h *house) end(name string, how func(*Cluster) error) {
	h.mu.Lock()
	n := h.nodes[name]
	delete(h.nodes, name)
	h.mu.Unlock()
	if err := how(n.Cluster); err != nil {
		h.t.Errorf("end %s: %v", name, err)
	}
	n.memory.Close()
}

func (h *house) kill(name string) { h.end(name, (*Cluster).Kill) }

func (h *house) closeAll() {
	for _, name := range h.names() {
		h.end(name, (*Cluster).Close)
	}
}

// names lists who is there.
func (h *house) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name := range h.nodes {
		names = append(names, name)
	}
	return names
}

func (h *house) node(name string) *resident {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nodes[name]
}

// awaitTolerance waits until every node is ready and says that every group
// tolerates the loss of n replicas.
func (h *house) awaitTolerance(n int) {
	h.t.Helper()
	h.await(fmt.Sprintf("every group tolerates %d", n), func() (bool, string) {
		for _, name := range h.names() {
			s := h.node(name).Status()
			if !s.Ready {
				return false, name + " is not ready: " + describe(&s)
			}
			for i := range s.Shards {
				if s.Shards[i].Tolerates < n {
					return false, name + ": " + describe(&s)
				}
			}
			if s.Directory.Tolerates < n {
				return false, name + ": " + describe(&s)
			}
		}
		return true, ""
	})
}

// describe says where the groups of a node stand.
func describe(s *Status) string {
	text := fmt.Sprintf("directory %s led by %q tolerates %d %v", s.Directory.Role, s.Directory.Leader, s.Directory.Tolerates, s.Directory.Members)
	for i := range s.Shards {
		g := &s.Shards[i]
		text += fmt.Sprintf("; shard %d %s led by %q tolerates %d %v", i, g.Role, g.Leader, g.Tolerates, g.Members)
	}
	return text
}

// await waits for a condition, which says why it is not met.
func (h *house) await(what string, met func() (bool, string)) {
	h.t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, why := met()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			h.t.Fatalf("%s: %s", what, why)
		}
	}
}

// deposit writes one subject through a node.
func (n *resident) deposit(ctx context.Context, shard cloakroom.ShardID, serial uint64, value string) error {
	c := subject(serial, value)
	results, _, err := n.Propose(ctx, shard, []command.Command{c})
	if err == nil {
		err = results[0].Err(command.Put)
	}
	return err
}

// surely deposits one subject, again if the outcome is unknown: on a busy
// machine a leader may lose its office at any time.
func (n *resident) surely(ctx context.Context, shard cloakroom.ShardID, serial uint64, value string) error {
	for {
		err := n.deposit(ctx, shard, serial, value)
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || ctx.Err() != nil {
			return err
		}
	}
}

// look reads one subject through a node.
func (n *resident) look(ctx context.Context, shard cloakroom.ShardID, serial uint64) (string, error) {
	var got command.Records
	err := n.Read(ctx, shard, cloakroom.Linearizable, cloakroom.Index{}, []cloakroom.Token{put(serial, 0).Fields[0].Token}, &got)
	if err != nil {
		return "", err
	}
	return string(got.At(0)), nil
}
