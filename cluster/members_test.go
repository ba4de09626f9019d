package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// lively is a house in which leads move and nodes are soon dead.
func lively(t *testing.T, nodes, shards int) *house {
	t.Helper()
	return newHouse(t, nodes, shards, func(_ string, cfg *Config) {
		cfg.hazards.leadsStay = false
		cfg.Settings.DeadAfterSec = 3
	})
}

// traffic writes and reads through nodes of the house until it is stopped.
type traffic struct {
	h       *house
	stop    context.CancelFunc
	working sync.WaitGroup
	done    atomic.Int64
	unsure  atomic.Int64 // writes that had to be repeated: their outcome was unknown

	mu    sync.Mutex
	wrote map[uint64]cloakroom.ShardID
	gone  map[string]bool // nodes that are not asked any more
	under map[string]int  // requests under way, by node
	fault error
}

// load begins traffic with that many clients.
func (h *house) load(clients int) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	l := &traffic{h: h, stop: cancel, wrote: make(map[uint64]cloakroom.ShardID), gone: make(map[string]bool), under: make(map[string]int)}
	for i := range clients {
		l.working.Go(func() { l.work(ctx, uint64(i+1)<<32) }) // ends with ctx
	}
	h.t.Cleanup(func() { cancel(); l.working.Wait() })
	return l
}

func (l *traffic) work(ctx context.Context, serial uint64) {
	for ctx.Err() == nil {
		for _, name := range l.h.names() {
			n := l.h.node(name)
			if n == nil || n.ready.Load() == nil || !l.enter(name) {
				continue
			}
			serial++
			err := l.one(n, cloakroom.ShardID(serial%uint64(l.h.shards)), serial)
			l.mu.Lock()
			l.under[name]--
			if err != nil && l.fault == nil {
				l.fault = fmt.Errorf("request %d by %s: %w", serial, name, err)
			}
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}
}

// enter counts a request to a node, unless nobody is to ask it.
func (l *traffic) enter(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone[name] {
		return false
	}
	l.under[name]++
	return true
}

// one writes a subject and reads it through the same node.
func (l *traffic) one(n *resident, shard cloakroom.ShardID, serial uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		err := n.deposit(ctx, shard, serial, fmt.Sprint("value ", serial))
		if err == nil {
			break
		}
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || ctx.Err() != nil {
			return err
		}
		l.unsure.Add(1)
	}
	l.mu.Lock()
	l.wrote[serial] = shard
	l.mu.Unlock()
	got, err := n.look(ctx, shard, serial)
	if err == nil && got != fmt.Sprint("value ", serial) {
		err = fmt.Errorf("read %q", got)
	}
	l.done.Add(1)
	return err
}

// leave has nobody ask a node any more, as a load balancer does before a stop,
// and waits for the requests under way.
func (l *traffic) leave(name string) {
	l.h.t.Helper()
	l.mu.Lock()
	l.gone[name] = true
	l.mu.Unlock()
	l.h.await("nobody asks "+name, func() (bool, string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.under[name] == 0, fmt.Sprint(l.under)
	})
}

// join has a node asked again.
func (l *traffic) join(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[name] = false
}

// end stops the traffic and reads all that was written through one node.
func (l *traffic) end(through string) {
	l.h.t.Helper()
	l.stop()
	l.working.Wait()
	if l.fault != nil {
		l.h.t.Errorf("a request failed: %v", l.fault)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for serial, shard := range l.wrote {
		if got, err := l.h.node(through).look(ctx, shard, serial); err != nil || got != fmt.Sprint("value ", serial) {
			l.h.t.Fatalf("%d of shard %d: %q, %v", serial, shard, got, err)
		}
	}
	l.h.t.Logf("%d requests, %d writes repeated because their outcome was unknown", l.done.Load(), l.unsure.Load())
}

// awaitBalance waits until every living node holds as many replicas and leads
// as many groups as it should, give or take one.
func (h *house) awaitBalance(nodes ...string) {
	h.t.Helper()
	h.await("balance", func() (bool, string) {
		c := h.node(nodes[0]).Cluster
		holds, leads := map[string]int{}, map[string]int{}
		for _, name := range nodes {
			holds[name], leads[name] = 0, 0
		}
		view := c.Directory()
		for g := range view.Groups() {
			info, _ := view.Group(g)
			leader := ""
			for i := range info.Replicas {
				r := &info.Replicas[i]
				if _, there := holds[r.Node]; !there || r.State == directory.Leaving || r.State == directory.Preparing && g != directory.DirectoryGroup {
					return false, fmt.Sprintf("%s: %+v", g, info.Replicas)
				}
				if g != directory.DirectoryGroup {
					holds[r.Node]++
				}
			}
			for _, name := range nodes {
				if m, _ := h.node(name).group(g).lead(); m != nil {
					leader = name
				}
			}
			if leader == "" {
				return false, g.String() + " has no leader"
			}
			leads[leader]++
		}
		if !even(holds) || !even(leads) {
			return false, fmt.Sprintf("replicas %v, leads %v", holds, leads)
		}
		return true, ""
	})
}

func even(counts map[string]int) bool {
	least, most := 1<<30, 0
	for _, n := range counts {
		least, most = min(least, n), max(most, n)
	}
	return most-least <= 1
}

// A fourth node takes its share under load, one is emptied and removed, and
// nobody notices: no request fails and nothing is lost.
func TestNodesComeAndGoUnderLoad(t *testing.T) {
	h := lively(t, 3, 4)
	l := h.load(3)
	begin := time.Now()
	h.start("n4")
	h.awaitBalance("n1", "n2", "n3", "n4")
	t.Logf("four nodes in balance after %v", time.Since(begin))
	n4 := h.node("n4")
	if err := n4.Drain(t.Context(), "n1", false, false); err != nil {
		t.Fatal(err)
	}
	if err := n4.Remove(t.Context(), "n1", true); !errors.Is(err, cloakroom.ErrConflict) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a living one removed as dead: %v", err)
	}
	begin = time.Now()
	h.await("n1 is empty", func() (bool, string) {
		s, err := n4.DrainStatus("n1")
		return err == nil && s.Done && s.Replicas == 0 && s.Leads == 0, fmt.Sprintf("%+v, %v", s, err)
	})
	t.Logf("emptied after %v", time.Since(begin))
	if safe, why := n4.SafeToStop("n1"); !safe {
		t.Errorf("not safe to stop: %v", why)
	}
	l.leave("n1")
	if err := n4.Remove(t.Context(), "n1", false); err != nil {
		t.Fatal(err)
	}
	if err := n4.Remove(t.Context(), "n1", false); err != nil {
		t.Errorf("again: %v", err)
	}
	h.await("n1 knows", func() (bool, string) { return h.node("n1").Removed(), "it does not" })
	h.kill("n1")
	h.awaitBalance("n2", "n3", "n4")
	h.awaitTolerance(1)
	l.end("n4")
	if _, err := h.open("n1"); !errors.Is(err, ErrRemoved) {
		t.Errorf("it came back: %v", err)
	}
}

// A dead node is replaced by the others once it was silent for long enough, not
// before, and without anybody's doing.
func TestTheDeadAreReplaced(t *testing.T) {
	h := lively(t, 4, 3)
	h.awaitBalance("n1", "n2", "n3", "n4")
	l := h.load(2)
	l.leave("n2")
	h.kill("n2")
	begin := time.Now()
	if safe, why := h.node("n1").SafeToStop("n2"); safe && len(why) > 0 {
		t.Errorf("safe, and yet %v", why)
	}
	h.await("nothing is left on n2", func() (bool, string) {
		view := h.node("n1").Directory()
		return view.Holds("n2") == 0, fmt.Sprintf("%d left", view.Holds("n2"))
	})
	if took := time.Since(begin); took < 3*time.Second {
		t.Errorf("replaced after %v already", took)
	}
	h.awaitTolerance(1)
	t.Logf("replaced after %v", time.Since(begin))
	if err := h.node("n3").Remove(t.Context(), "n2", true); err != nil {
		t.Fatal(err)
	}
	h.awaitBalance("n1", "n3", "n4")
	l.end("n3")
}

// With nowhere to go only the leads leave, and that is said.
func TestADrainWithNowhereToGo(t *testing.T) {
	h := lively(t, 3, 3)
	h.awaitBalance("n1", "n2", "n3")
	if err := h.node("n2").Drain(t.Context(), "n9", false, false); !errors.Is(err, cloakroom.ErrNotFound) {
		t.Errorf("a node nobody knows: %v", err)
	}
	if err := h.node("n2").Drain(t.Context(), "n3", false, false); err != nil {
		t.Fatal(err)
	}
	h.await("the leads leave n3", func() (bool, string) {
		s, err := h.node("n1").DrainStatus("n3")
		return err == nil && s.Done && s.Leads == 0, fmt.Sprintf("%+v, %v", s, err)
	})
	s, _ := h.node("n1").DrainStatus("n3")
	if len(s.Stuck) != 4 || s.Replicas != 4 {
		t.Errorf("got %+v, want all four groups stuck", s)
	}
	if err := h.node("n1").Remove(t.Context(), "n3", false); !errors.Is(err, cloakroom.ErrConflict) || !strings.Contains(err.Error(), "drain it first") {
		t.Errorf("removed: %v", err)
	}
	for range 2 { // it stays so, also with another place to look from
		if leads := h.node("n3").leads(); len(leads) != 0 {
			t.Errorf("it leads %v", leads)
		}
	}
	if err := h.node("n3").Drain(t.Context(), "n3", false, true); err != nil {
		t.Fatal(err)
	}
	h.awaitBalance("n1", "n2", "n3")
}

// Who asks whether a node can be stopped is told what stops with it.
func TestSafeToStop(t *testing.T) {
	h := lively(t, 3, 2)
	h.awaitBalance("n1", "n2", "n3")
	for _, name := range h.names() {
		if safe, why := h.node("n2").SafeToStop(name); !safe {
			t.Errorf("%s: %v", name, why)
		}
	}
	h.kill("n3")
	h.await("one is missing", func() (bool, string) {
		safe, why := h.node("n1").SafeToStop("n2")
		return !safe && len(why) == 3 && strings.Contains(why[0], "1 of 3 voters would be left"), fmt.Sprint(why)
	})
	if safe, why := h.node("n1").SafeToStop("n3"); !safe {
		t.Errorf("the dead one: %v", why)
	}
	if safe, _ := h.node("n1").SafeToStop("n9"); safe {
		t.Error("a node nobody knows is safe to stop")
	}
	alone := open(t, nil)
	if safe, why := alone.SafeToStop(alone.cfg.Node); safe || len(why) != 1 {
		t.Errorf("alone: %v, %v", safe, why)
	}
}

// Restarts one after the other, as an upgrade does it, cost no request.
func TestRestartsOneAfterTheOther(t *testing.T) {
	h := lively(t, 3, 3)
	h.awaitBalance("n1", "n2", "n3")
	l := h.load(2)
	for _, name := range []string{"n1", "n2", "n3"} {
		other := map[string]string{"n1": "n2", "n2": "n3", "n3": "n1"}[name]
		h.await("safe to stop "+name, func() (bool, string) {
			safe, why := h.node(other).SafeToStop(name)
			return safe, fmt.Sprint(why)
		})
		l.leave(name)
		h.end(name, (*Cluster).Close)
		h.start(name)
		l.join(name)
	}
	h.awaitBalance("n1", "n2", "n3")
	l.end("n1")
}

// A lead that is being handed over refuses entries for a moment, also if the
// hand-over fails and the replica leads on: whoever is refused must ask again,
// not give up.
func TestAHandOverThatFailsFailsNoRequest(t *testing.T) {
	r := open(t, nil)
	m, _ := r.desk.lead()
	if m == nil {
		t.Fatal("alone, and does not lead")
	}
	refusal := fmt.Errorf("propose: %w", replica.ErrTransferring)
	if err := moved(m, refusal); !errors.Is(err, errMoved) {
		t.Errorf("got %v, want it tried again", err)
	}
	if err := moved(m, cloakroom.ErrUnavailable); errors.Is(err, errMoved) {
		t.Errorf("any other refusal of a leader: %v", err)
	}
}

// A replica that takes a snapshot, and is behind by all of it, is granted no
// lease: no erasure waits for one that could not be used.
func TestALeaseIsRefusedToWhoIsFarBehind(t *testing.T) {
	h := newHouse(t, 2, 1, nil)
	name, _ := h.leaderOf(0)
	n := h.node(name)
	m, _ := n.group(1).lead()
	if m == nil {
		t.Skip("the lead has moved")
	}
	for serial := uint64(1); m.grantIndex() <= leaseLag; serial++ {
		if err := n.surely(t.Context(), 0, serial, "value"); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(applied uint64) wire.Code {
		var reply wire.LeaseReply
		n.grant(t.Context(), name, &wire.LeaseRequest{Parts: []wire.LeasePart{
			{Group: 1, Generation: 1, Term: m.replica.Term(), Applied: applied, Replica: m.id}}}, &reply)
		return reply.Parts[0].Code
	}
	if got := ask(0); got != wire.Unavailable {
		t.Errorf("far behind: %s", got)
	}
	if got := ask(m.grantIndex() - 1); got != wire.OK {
		t.Errorf("near: %s", got)
	}
}
