package cluster

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer/peertest"
	"cloakroom/cluster/state"
	"cloakroom/internal/simnet"
	"cloakroom/securemem"
)

// simWorld is a cluster in a bubble: its nodes, the network between them, and
// what is known of all of them together.
type simWorld struct {
	t        testing.TB
	seed     uint64
	shards   int
	living   int // subjects that clients work on at a time
	clients  int
	within   time.Duration // faults begin
	sketched bool          // see sketch
	net      *simnet.Net
	ca       *peertest.CA
	memory   *securemem.Memory
	nodes    []*simNode
	truth    *simTruth
	history  *simHistory
	logs     *simLogs
	log      *simLog
	hazards  hazards        // remedies left out in all nodes
	brief    bool           // nothing but the faults
	kinds    []simFaultKind // that may happen
	took     time.Duration  // in simulated time

	subjects atomic.Int64                       // handed out so far
	latest   [cloakroom.MaxShards]atomic.Uint64 // index of a late write of each shard
	versions atomic.Uint64
	open     chan struct{}  // closed when the world ends
	ending   sync.WaitGroup // killed lives, and whoever starts new ones
	faulting sync.WaitGroup

	ambush atomic.Pointer[func(leader *simNode, subject int)] // at the next acknowledgement

	suffered, spared  atomic.Int64 // faults that happened, and that had to wait
	settled, settling atomic.Int64 // barriers, and how long they took, nanoseconds
	wrongClock        atomic.Bool  // one is set wrong on purpose
	removing          atomic.Int32 // replicas that are being taken out of their groups
}

// simNode is a machine on which one life of a node follows the other.
type simNode struct {
	world *simWorld
	name  string
	clock *simClock
	cert  tls.Certificate // of all its lives

	mu     sync.Mutex
	up     *simUptime
	life   *simLife // nil while it is down
	count  int      // lives so far
	paused atomic.Bool
	alone  atomic.Bool // reaches nobody and is reached by nobody
}

// simLife is one start of a node.
type simLife struct {
	world  *simWorld
	node   *simNode
	number int
	host   *simnet.Host
	cancel context.CancelFunc
	done   chan struct{} // closed when starting it has ended
	dead   atomic.Bool   // crashed: nothing it says is heard

	cluster atomic.Pointer[Cluster] // once New has returned
	serving atomic.Pointer[Cluster] // once Start has returned
	epoch   atomic.Uint64           // of the view looked at last

	stores [cloakroom.MaxShards]simUntil // logs of shards that take their time
	desk   simUntil                      // that of the directory

	mu       sync.Mutex
	machines map[cloakroom.ShardID]*simMachine // the newest of each shard
}

func (l *simLife) String() string { return fmt.Sprintf("%s/%d", l.node.name, l.number) }

// newSimWorld makes a world of n nodes, none of them started.
func newSimWorld(t testing.TB, seed uint64, n, shards int, memory *securemem.Memory) *simWorld {
	t.Helper()
	net, err := simnet.New(simnet.Config{Seed: seed, Canary: []byte(simCanary)})
	if err != nil {
		t.Fatal(err)
	}
	w := &simWorld{t: t, seed: seed, shards: shards, net: net, memory: memory,
		ca: peertest.NewCA(t, [16]byte{9}), truth: newSimTruth(), history: newSimHistory(), open: make(chan struct{})}
	w.log = newSimLog(w.truth)
	w.logs = &simLogs{truth: w.truth, out: make(map[*byte][]byte)}
	draw := rand.New(rand.NewPCG(seed, 1))
	ups := drawUptimes(draw, n)
	for i := range n {
		w.nodes = append(w.nodes, &simNode{world: w, name: fmt.Sprintf("n%d", i+1), up: ups[i], cert: w.ca.Node(fmt.Sprintf("n%d", i+1)),
			clock: newSimClock(1 + (draw.Float64()-0.5)/500)}) // 0.1 % fast or slow
		w.nodes[i].clock.step(time.Duration(draw.Int64N(int64(2*time.Second))) - time.Second)
	}
	return w
}

// tell notes in the log what the simulation does.
func (w *simWorld) tell(format string, args ...any) {
	w.log.logger("sim").Info(fmt.Sprintf(format, args...))
}

// lives returns those that are up.
func (w *simWorld) lives() []*simLife {
	var all []*simLife
	for _, n := range w.nodes {
		if l := n.alive(); l != nil {
			all = append(all, l)
		}
	}
	return all
}

// alive returns the node's life, nil if it is down.
func (n *simNode) alive() *simLife {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// start begins a life. It goes on in the background: New and Start may take
// their time. One that fails is followed by another, as a supervisor would.
func (n *simNode) start(found bool) {
	w := n.world
	host, err := w.net.Start(n.name)
	if err != nil {
		w.t.Errorf("start %s: %v", n.name, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.mu.Lock()
	n.count++
	l := &simLife{world: w, node: n, number: n.count, host: host, cancel: cancel, done: make(chan struct{}),
		machines: make(map[cloakroom.ShardID]*simMachine)}
	n.life = l
	n.mu.Unlock()
	w.ending.Go(func() { // ends with the life
		err := l.run(ctx, found)
		close(l.done)
		if err != nil && !l.dead.Load() {
			w.tell("%v did not start: %v", l, err)
			n.crash(simnet.Reset)
			<-time.After(time.Second)
			select {
			case <-w.open:
			default:
				n.start(false)
			}
		}
	})
}

// run brings a life to where it serves.
func (l *simLife) run(ctx context.Context, found bool) error {
	c, err := New(ctx, l.config(found))
	if err != nil {
		return fmt.Errorf("new: %w", err)
	}
	l.cluster.Store(c)
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	l.serving.Store(c)
	l.world.tell("%v serves", l)
	return nil
}

// config is what a life is made from.
func (l *simLife) config(found bool) Config {
	w, n := l.world, l.node
	left := w.hazards
	left.replica.BeforeStore = l.store
	cfg := Config{
		Node: n.name, ClusterID: directory.ID{9}, Shards: w.shards, Clock: n.clock, Uptime: n.uptime().now,
		Settings: directory.Settings{Replication: 3, RecoveryMode: "none", LeaseMillis: 3000, DeadAfterSec: simDeadAfter},
		Rand:     &simRand{rand.New(rand.NewPCG(w.seed, hashed(l.String())))},
		Logger:   w.log.logger(l.String()), Machine: l.machine,
		SealBatch: func(dst []byte, group, generation uint32, batch []byte) ([]byte, error) {
			return seal(dst, group, generation, batch), nil
		},
		SealSnapshot: func(w io.Writer, _ SnapshotInfo) (io.WriteCloser, error) { return simSealed{w}, nil },
		OpenSnapshot: func(r io.Reader, _ SnapshotInfo) (io.Reader, error) { return simOpened{r}, nil },
		SnapshotSize: func(n int64) int64 { return n }, hazards: left,
		OpenBatch: unseal, MapLog: w.logs.take, UnmapLog: w.logs.give, LogBudget: 1 << 20,
		Network: &Network{Listen: n.name + ":7000", Certificate: n.cert, Roots: w.ca.Roots(), Carrier: l.host},
	}
	if !found {
		for _, other := range w.nodes {
			if other != n {
				cfg.Network.Seeds = append(cfg.Network.Seeds, other.name+":7000")
			}
		}
	}
	return cfg
}

// store comes before entries go into the log of a group.
func (l *simLife) store(group string) {
	if group == directory.DirectoryGroup.String() {
		l.desk.wait()
	}
	for shard := range l.world.shards {
		if group == directory.ShardGroup(cloakroom.ShardID(shard)).String() {
			l.stores[shard].wait()
		}
	}
}

// machineOf returns the newest machine of a shard, nil if there is none.
func (l *simLife) machineOf(shard cloakroom.ShardID) *simMachine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machines[shard]
}

// machine makes the state of a shard.
func (l *simLife) machine(shard cloakroom.ShardID) (Machine, error) {
	slab := l.world.memory.Arena().NewSlab("simulation")
	m, err := state.New(state.Config{Slab: slab})
	if err != nil {
		slab.Close()
		return nil, err
	}
	sim := &simMachine{stateMachine: stateMachine{m, slab.Close}, life: l, shard: shard}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machines[shard] = sim
	return sim, nil
}

// crash ends the node's life, with all its memory.
func (n *simNode) crash(end simnet.End) {
	n.mu.Lock()
	l := n.life
	n.life = nil
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.dead.Store(true)
	l.host.Crash(end)
	if end == simnet.Silent { // the machine, not the process alone
		n.uptime().reboot()
	}
	n.pause(false)
	l.cancel()
	n.world.ending.Go(func() { // what is left of it, which nobody can see
		if c := l.cluster.Load(); c != nil {
			<-l.done
			c.Kill()
		}
	})
}

// vanish cuts the node's life off for good and makes room for another, while it
// goes on: whoever is beside it still gets answers.
func (n *simNode) vanish() {
	n.mu.Lock()
	l := n.life
	n.life = nil
	n.up = &simUptime{rate: n.up.rate, begin: time.Now()} // another machine takes its place
	n.mu.Unlock()
	if l != nil {
		l.host.Crash(simnet.Silent)
	}
}

// uptime returns that of the machine the node is on.
func (n *simNode) uptime() *simUptime {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

// lay ends a life that vanished.
func (n *simNode) lay(l *simLife) {
	l.dead.Store(true)
	l.cancel()
	n.world.ending.Go(func() { // ends with the life
		if c := l.cluster.Load(); c != nil {
			<-l.done
			c.Kill()
		}
	})
}

// pause stops what can be stopped of a node, or lets it go on.
func (n *simNode) pause(paused bool) {
	n.paused.Store(paused)
	n.clock.pause(paused)
	if paused {
		n.world.net.Pause(n.name)
	} else {
		n.world.net.Resume(n.name)
	}
}

// end closes all nodes in order and waits for everything.
func (w *simWorld) end() {
	close(w.open)
	w.net.Heal()
	w.logs.lookAll()
	for _, n := range w.nodes {
		n.mu.Lock()
		l := n.life
		n.life = nil
		n.mu.Unlock()
		if l == nil {
			continue
		}
		n.clock.pause(false)
		l.cancel()
		w.ending.Go(func() {
			<-l.done
			if c := l.cluster.Load(); c != nil {
				c.Close()
			}
		})
	}
	w.ending.Wait()
	for _, leak := range w.net.Leaks() {
		w.truth.violated("plaintext crossed from %s", leak)
	}
}

// simRand is where identities come from.
type simRand struct{ *rand.Rand }

func (r *simRand) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

// hashed tells lives apart in what they draw.
func hashed(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// subjectToken and fieldToken name the records of a subject.
func subjectToken(subject int) (t cloakroom.Token) {
	binary.BigEndian.PutUint64(t[:], hashed(fmt.Sprint(subject)))
	binary.BigEndian.PutUint32(t[8:], uint32(subject))
	return t
}

func fieldToken(subject int) cloakroom.Token {
	t := subjectToken(subject)
	t[15] = 1
	return t
}
