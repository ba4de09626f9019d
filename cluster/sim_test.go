package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/internal/simnet"
	"cloakroom/securemem"
)

// How many seeds a run takes; SIM_SEEDS and SIM_FROM say otherwise.
const (
	simSeeds      = 300
	simSeedsShort = 20
)

// TestSimulation runs the whole cluster in bubbles, one for each seed: nodes
// with real state behind real TLS, faults drawn from the seed, and clients
// whose histories must make sense. See SIMULATION.md.
func TestSimulation(t *testing.T) {
	seeds, from := simNumber(t, "SIM_SEEDS", simSeeds), simNumber(t, "SIM_FROM", 1)
	if os.Getenv("SIM_SEEDS") == "" && (testing.Short() || raceEnabled) {
		seeds = simSeedsShort
	}
	var stop time.Time
	if budget := os.Getenv("SIM_BUDGET"); budget != "" {
		d, err := time.ParseDuration(budget)
		if err != nil {
			t.Fatalf("SIM_BUDGET: %v", err)
		}
		stop = time.Now().Add(d)
	}
	memory := simMemory(t)
	var ran, suffered atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d seeds from %d on, %d faults", ran.Load(), from, suffered.Load())
		if n := ran.Load(); n >= 20 && suffered.Load() < n {
			t.Errorf("%d seeds suffered %d faults: the schedules do not happen", n, suffered.Load())
		}
	})
	for seed := from; seed < from+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			if !stop.IsZero() && time.Now().After(stop) {
				t.Skip("the time is used up")
			}
			ran.Add(1)
			suffered.Add(simulate(t, uint64(seed), memory))
		})
	}
}

func simNumber(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number above zero, got %q", name, text)
	}
	return n
}

// simMemory is record memory for many worlds at once.
func simMemory(t testing.TB) *securemem.Memory {
	t.Helper()
	memory, err := securemem.Open(securemem.Config{Lock: securemem.LockOff, Limit: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	return memory
}

// simulate runs one seed, reports what went wrong, and returns how many faults
// there were.
func simulate(t *testing.T, seed uint64, memory *securemem.Memory) (suffered int64) {
	w, broken := simRun(t, seed, memory, func(*simWorld) {})
	if testing.Verbose() {
		s := w.net.Stats()
		lives := 0
		for _, n := range w.nodes {
			lives += n.count
		}
		t.Logf("seed %d: %d nodes, %d shards, %v; %d faults of %d, %d lives, %d leaders; %d operations on %d subjects; %d connections, %d KB",
			seed, len(w.nodes), w.shards, w.took.Round(time.Millisecond), w.suffered.Load(), w.suffered.Load()+w.spared.Load(),
			lives, len(w.truth.leaders), len(w.history.ops), w.subjects.Load(), s.Connections, s.Bytes>>10)
	}
	if len(broken) > 0 {
		t.Errorf("seed %d: %s\nthe last log lines:\n%s\nreplay: SIM_FROM=%d SIM_SEEDS=1 go test -run TestSimulation -count 20 ./cluster",
			seed, strings.Join(broken, "\n"), w.log, seed)
	}
	return int64(w.suffered.Load())
}

// simRun runs one seed in a bubble and returns what went wrong. change may
// change the world before it begins.
func simRun(t *testing.T, seed uint64, memory *securemem.Memory, change func(w *simWorld)) (*simWorld, []string) {
	return simBubble(t, seed, func(t *testing.T) *simWorld {
		d := rand.New(rand.NewPCG(seed, 2))
		w := newSimWorld(t, seed, 3+d.IntN(5)/4, 1+d.IntN(3), memory)
		w.living, w.clients, w.within = 2+d.IntN(6), simClients, simFaultTime
		w.kinds = simFaultKinds()
		if seed%2 == 0 {
			w.sketch()
		}
		change(w)
		simOrdinary(w)
		return w
	})
}

// sketch makes a world smaller, so that there can be more of them: one shard,
// fewer clients, faults closer together, and an end when they are over.
func (w *simWorld) sketch() {
	w.sketched, w.shards, w.clients, w.within = true, 1, simClients/3, simFaultTime/2
}

// simBubble runs a world in a bubble of its own and returns what went wrong.
func simBubble(t *testing.T, seed uint64, run func(t *testing.T) *simWorld) (w *simWorld, broken []string) {
	defer simWatch(seed)()
	synctest.Test(t, func(t *testing.T) {
		w = run(t)
		w.took = time.Since(w.truth.begin)
	})
	broken = append(w.truth.all(), w.history.check()...)
	if len(broken) == 0 {
		broken = w.history.explain()
	}
	return w, broken
}

// simPatience is how long a seed may take by a real clock. Whoever waits for a
// mutex while another holds it over a wait of its own keeps the bubble's clock
// from moving, for ever.
const simPatience = 4 * time.Minute

// simWatch ends the process when a bubble stands still, with the stacks of
// whoever keeps its clock.
func simWatch(seed uint64) (stop func() bool) {
	return time.AfterFunc(simPatience, func() {
		stacks := make([]byte, 32<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var guilty, others []string
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			switch head, _, _ := strings.Cut(stack, "\n"); {
			case !strings.Contains(head, "synctest bubble"):
			case strings.Contains(head, "(durable)"):
				others = append(others, stack)
			default:
				guilty = append(guilty, stack)
			}
		}
		fmt.Fprintf(os.Stderr, "seed %d stands still. Not blocked durably:\n\n%s\n\nAll others:\n\n%s\n",
			seed, strings.Join(guilty, "\n\n"), strings.Join(others, "\n\n"))
		os.Exit(3)
	}).Stop
}

const (
	simFaultTime = 12 * time.Second // in which faults begin
	simClients   = 12
	writableTime = 20 * time.Second  // after a majority is healed
	replicaTime  = 120 * time.Second // after everything is healed
)

// simOrdinary is the ordinary run: start, faults under load, heal a majority,
// heal the rest, read everything.
func simOrdinary(w *simWorld) {
	d := rand.New(rand.NewPCG(w.seed, 3))
	defer w.end()
	stop := make(chan struct{})
	var working sync.WaitGroup
	defer working.Wait()
	defer close(stop)
	working.Go(func() { w.truth.watch(w, stop) }) // stopped by stop
	w.nodes[0].start(true)
	for _, n := range w.nodes[1:] {
		if d.IntN(2) == 0 {
			<-time.After(between(d, 0, 2*time.Second))
		}
		n.start(false)
	}
	if !w.until(time.Minute, w.replicated) {
		w.truth.violated("not replicated a minute after the start: %s", w.standing())
		return
	}
	for i := range w.clients {
		c := w.client(i)
		c.fat = d.IntN(6) == 0
		working.Go(func() { c.run(stop) }) // stopped by stop
	}
	for _, n := range w.nodes {
		working.Go(func() { w.reader(n).run(stop) }) // stopped by stop
	}
	w.suffer(drawFaults(d, w.kinds, len(w.nodes), 1+d.IntN(2+d.IntN(9)), w.within))
	if w.sketched {
		w.net.Heal()
		return
	}
	w.recover(d)
	w.readAll()
}

// recover heals a majority, checks that it serves, and heals the rest.
func (w *simWorld) recover(d *rand.Rand) {
	w.net.Heal()
	w.tell("healed")
	left := -1
	if d.IntN(2) == 0 {
		left = d.IntN(len(w.nodes))
		switch l := w.nodes[left].alive(); {
		case d.IntN(2) == 0 && l != nil && w.canLose(l, nil):
			w.nodes[left].crash(simnet.End(d.IntN(2)))
		case w.healthyWithout(left):
			w.isolate(left, simnet.Hold)
		default:
			left = -1
		}
		w.tell("n%d is left out", left+1)
	}
	if !w.until(writableTime, func() bool { return w.writable(left) }) {
		w.truth.violated("not writable %v after a majority was healed: %s", writableTime, w.standing())
	}
	w.net.Heal()
	for _, n := range w.nodes {
		if n.alive() == nil {
			n.start(false)
		}
	}
	w.tell("all healed")
	if !w.until(replicaTime, w.replicated) {
		w.truth.violated("not replicated %v after everything was healed: %s", replicaTime, w.standing())
	}
}

// healthyWithout reports whether every group keeps a majority without a node.
func (w *simWorld) healthyWithout(node int) bool {
	l := w.nodes[node].alive()
	return l == nil || w.canLose(l, nil)
}

// until waits for a condition, at most d.
func (w *simWorld) until(d time.Duration, fine func() bool) bool {
	end := time.Now().Add(d)
	for !fine() {
		if time.Now().After(end) {
			return false
		}
		<-time.After(100 * time.Millisecond)
	}
	return true
}

// replicated reports whether every node is up and every group can lose a node.
func (w *simWorld) replicated() bool {
	for _, n := range w.nodes {
		l := n.alive()
		if l == nil || l.serving.Load() == nil {
			return false
		}
		c := l.serving.Load()
		status := c.Status()
		if !status.Ready {
			return false
		}
		for _, g := range append([]ShardStatus{{GroupStatus: status.Directory}}, status.Shards...) {
			if g.Tolerates < 1 {
				return false
			}
		}
		for g := range c.Directory().Groups() {
			if info, _ := c.Directory().Group(g); !settled(&info) {
				return false
			}
		}
	}
	return true
}

// settled reports whether a group has its three voters and nobody comes or
// goes. A fourth node keeps a replica of the directory without a vote.
func settled(info *directory.GroupInfo) bool {
	voters := 0
	for i := range info.Replicas {
		switch info.Replicas[i].State {
		case directory.Voter:
			voters++
		case directory.Leaving:
			return false
		}
	}
	return voters == 3
}

// standing tells where the nodes are.
func (w *simWorld) standing() string {
	var text strings.Builder
	for _, n := range w.nodes {
		l := n.alive()
		if l == nil {
			fmt.Fprintf(&text, "\n  %s down", n.name)
			continue
		}
		c := l.cluster.Load()
		if c == nil {
			fmt.Fprintf(&text, "\n  %v joining", l)
			continue
		}
		status := c.Status()
		fmt.Fprintf(&text, "\n  %v ready %v, epoch %d", l, status.Ready, c.Directory().Epoch)
		for i, g := range append([]ShardStatus{{GroupStatus: status.Directory}}, status.Shards...) {
			info, _ := c.Directory().Group(directory.GroupID(i))
			fmt.Fprintf(&text, "\n    %v: %s, leader %q, term %d, applied %d, tolerates %d, parked %q",
				directory.GroupID(i), g.Role, g.Leader, g.Term, g.Applied, g.Tolerates, g.Parked)
			for _, r := range info.Replicas {
				fmt.Fprintf(&text, ", %.6s %s %.6s %s", r.ID, r.Node, r.Life, r.State)
			}
		}
	}
	return text.String()
}

// writable reports whether every shard takes a write at every node that is up
// but one, and two are: the majority of a group.
func (w *simWorld) writable(without int) bool {
	ok := make(chan bool)
	asked, up := 0, 0
	for i, n := range w.nodes {
		l := n.alive()
		if i == without || l == nil || l.serving.Load() == nil {
			continue
		}
		up++
		for shard := range w.shards {
			asked++
			go func() { ok <- w.probe(l.serving.Load(), cloakroom.ShardID(shard)) }() // ends with its deadline
		}
	}
	fine := up >= 2
	for range asked {
		fine = <-ok && fine
	}
	return fine
}

// probe writes a subject that nobody looks at, and settles it as if that were an
// erasure: whoever does not answer is waited out, and so is a new leader's
// beginning.
func (w *simWorld) probe(c *Cluster, shard cloakroom.ShardID) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	version := simState(w.versions.Add(1))
	_, at, err := c.Propose(ctx, shard, []command.Command{{Kind: command.Put, SchemaEpoch: 1,
		Subject: cloakroom.Token{0: 0xff, 1: byte(shard)}, Version: simVersionOf(version)}})
	if err != nil {
		return false
	}
	ctx, cancel = context.WithTimeout(context.Background(), 2*simLease)
	defer cancel()
	return c.Settle(ctx, at) == nil
}

// readAll reads every subject at every node.
func (w *simWorld) readAll() {
	reader := w.client(99)
	for _, l := range w.lives() {
		if l.serving.Load() == nil {
			continue
		}
		for from := 1; from <= int(w.subjects.Load()); from += 50 {
			var page []int
			for s := from; s < from+50 && s <= int(w.subjects.Load()); s++ {
				page = append(page, s)
			}
			if !w.until(10*time.Second, func() bool { return reader.readPage(l, page) }) {
				w.truth.violated("%v: subjects from %d on can't be read", l, from)
			}
		}
	}
}

// readPage reads some subjects, and reports whether all answered.
func (c *simClient) readPage(l *simLife, page []int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.read(ctx, l, cloakroom.Linearizable, page...)
}
