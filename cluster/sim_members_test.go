package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/internal/simnet"
)

// simDeadAfter is after how many seconds of silence a node counts as dead: some
// faults last longer.
const simDeadAfter = 5

// order has something done by whichever node can, again until it is done or the
// time is over.
func (w *simWorld) order(limit time.Duration, do func(ctx context.Context, c *Cluster) error) error {
	end := time.Now().Add(limit)
	for {
		err := fmt.Errorf("nobody serves")
		for _, l := range w.lives() {
			c := l.serving.Load()
			if c == nil || l.node.paused.Load() || c.Directory().Epoch < w.epoch() {
				continue // what it would decide by is old
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			err = do(ctx, c)
			cancel()
			if err == nil {
				return nil
			}
		}
		if time.Now().After(end) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
}

// epoch is that of the newest view.
func (w *simWorld) epoch() (newest uint64) {
	for _, l := range w.lives() {
		if c := l.serving.Load(); c != nil {
			newest = max(newest, c.Directory().Epoch)
		}
	}
	return newest
}

// drawDrain empties a node for a while, or takes its leads away only.
func drawDrain(d *rand.Rand, nodes int) simFault {
	a, leadersOnly := d.IntN(nodes), d.IntN(3) == 0
	return simFault{lasts: between(d, 500*time.Millisecond, 8*time.Second), what: fmt.Sprintf("drain of n%d", a+1),
		begin: func(w *simWorld) func() {
			drain := func(cancel bool) error {
				return w.order(5*time.Second, func(ctx context.Context, c *Cluster) error {
					return c.Drain(ctx, w.nodes[a].name, leadersOnly && !cancel, cancel)
				})
			}
			if drain(false) != nil {
				return nil
			}
			return func() { drain(true) } //nolint:errcheck // it may well stay so
		}}
}

// drawExpulsion removes a node that crashed, lets it try to come back, and takes
// it in again by a token.
func drawExpulsion(d *rand.Rand, nodes int) simFault {
	a, end := d.IntN(nodes), simnet.End(d.IntN(2))
	return simFault{lasts: between(d, time.Second, 6*time.Second), what: fmt.Sprintf("expulsion of n%d", a+1),
		begin: func(w *simWorld) func() {
			n := w.nodes[a]
			if l := n.alive(); l == nil || nodes < 4 || !w.canLose(l, nil) {
				return nil
			}
			n.crash(end)
			err := w.order(4*time.Second, func(ctx context.Context, c *Cluster) error { return c.Remove(ctx, n.name, true) })
			w.tell("%s removed: %v", n.name, err)
			n.start(false) // it is refused, again and again
			return func() { w.readmit(n) }
		}}
}

// readmit takes a node in again that was removed.
func (w *simWorld) readmit(n *simNode) {
	draw := rand.New(rand.NewPCG(w.seed, hashed(n.name)))
	err := w.order(time.Minute, func(ctx context.Context, c *Cluster) error {
		info, _ := c.Directory().Node(n.name)
		hash, key := directory.Digest{byte(draw.Uint32()), byte(draw.Uint32()), byte(draw.Uint32())}, directory.Digest(peer.KeyOf(n.cert.Leaf))
		now := c.cfg.Clock.Now().UnixMilli()
		switch info.State {
		case directory.Member, directory.Draining:
			return nil
		case directory.Pending:
			return c.propose(ctx, "admit", &directory.Command{AdmitNode: &directory.AdmitNode{Name: n.name, Key: info.Key, At: now}})
		}
		token := directory.JoinToken{Hash: hash, Expires: now + 60_000, By: "operator"}
		if err := c.propose(ctx, "token", &directory.Command{PutJoinToken: &directory.PutJoinToken{Token: token, At: now}}); err != nil {
			return err
		}
		if err := c.propose(ctx, "join", &directory.Command{UseJoinToken: &directory.UseJoinToken{Hash: hash, At: now,
			Node: directory.NodeInfo{Name: n.name, Address: n.name + ":7000", Key: key}}}); err != nil {
			return err
		}
		return c.propose(ctx, "admit", &directory.Command{AdmitNode: &directory.AdmitNode{Name: n.name, Key: key, At: now}})
	})
	w.tell("%s taken in again: %v", n.name, err)
}

// TestSimulationOfMembers leads clusters of four through what operators do, with
// clients at work: a node dies and is replaced, comes back, another is
// drained, removed, refused and taken in again. No group ever has fewer voters
// than before for the sake of a drain, nothing that was acknowledged is lost,
// and in the end everything is in balance.
func TestSimulationOfMembers(t *testing.T) {
	seeds := simNumber(t, "SIM_SEEDS", 6)
	if testing.Short() || raceEnabled {
		seeds = 2
	}
	memory := simMemory(t)
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			_, broken := simBubble(t, seed, func(t *testing.T) *simWorld {
				w := newSimWorld(t, seed, 4, 3, memory)
				w.living, w.clients = 4, simClients/2
				simMembers(w)
				return w
			})
			for _, what := range broken {
				t.Errorf("seed %d: %s", seed, what)
			}
		})
	}
}

func simMembers(w *simWorld) {
	d := rand.New(rand.NewPCG(w.seed, 3))
	defer w.end()
	stop := make(chan struct{})
	var working sync.WaitGroup
	defer working.Wait()
	defer close(stop)
	working.Go(func() { w.truth.watch(w, stop) }) // stopped by stop
	for i, n := range w.nodes {
		n.start(i == 0)
	}
	must := func(what string, limit time.Duration, fine func() bool) bool {
		if w.until(limit, fine) {
			return true
		}
		w.truth.violated("%s: not after %v: %s", what, limit, w.standing())
		return false
	}
	if !must("balanced at first", time.Minute, w.balanced) {
		return
	}
	for i := range w.clients {
		c := w.client(i)
		working.Go(func() { c.run(stop) }) // stopped by stop
	}
	dead := w.nodes[d.IntN(4)]
	dead.crash(simnet.End(d.IntN(2)))
	if !must("the dead one replaced", 30*time.Second, func() bool { return w.holds(dead) == 0 }) {
		return
	}
	dead.start(false)
	if !must("balanced with its new life", time.Minute, w.balanced) {
		return
	}
	drained := w.nodes[d.IntN(4)]
	if err := w.order(10*time.Second, func(ctx context.Context, c *Cluster) error { return c.Drain(ctx, drained.name, false, false) }); err != nil {
		w.truth.violated("drain: %v", err)
		return
	}
	if !must("drained", time.Minute, func() bool { w.votes(); return w.holds(drained) == 0 }) {
		return
	}
	if err := w.order(10*time.Second, func(ctx context.Context, c *Cluster) error { return c.Remove(ctx, drained.name, false) }); err != nil {
		w.truth.violated("remove: %v", err)
		return
	}
	must("it knows that it was removed", time.Minute, func() bool {
		l := drained.alive()
		return l == nil || l.serving.Load() == nil || l.serving.Load().Removed()
	})
	drained.crash(simnet.Reset)
	drained.start(false)
	<-time.After(between(d, 0, 3*time.Second))
	w.readmit(drained)
	if must("balanced in the end", 2*time.Minute, w.balanced) {
		w.readAll()
	}
}

// holds counts what a node keeps, as another sees it; a number nobody has if
// nobody can tell.
func (w *simWorld) holds(of *simNode) int {
	for _, l := range w.lives() {
		if c := l.serving.Load(); c != nil && l.node != of {
			return c.Directory().Holds(of.name)
		}
	}
	return -1
}

// votes checks that every group has three voters in every view.
func (w *simWorld) votes() {
	for _, l := range w.lives() {
		c := l.serving.Load()
		if c == nil {
			continue
		}
		for g := range c.Directory().Groups() {
			info, _ := c.Directory().Group(g)
			voters := 0
			for i := range info.Replicas {
				if info.Replicas[i].State == directory.Voter {
					voters++
				}
			}
			if voters < 3 {
				w.truth.violated("%s has %d voters in a drain: %+v", g, voters, info.Replicas)
			}
		}
	}
}

// balanced reports whether all is replicated and no node holds two replicas, or
// leads two groups, more than another.
func (w *simWorld) balanced() bool {
	if !w.replicated() {
		return false
	}
	holds, leads := map[string]int{}, map[string]int{}
	for _, n := range w.nodes {
		c := n.alive().serving.Load()
		holds[n.name], leads[n.name] = 0, len(c.leads())
		for i := range c.Directory().Shards {
			for _, r := range c.Directory().Shards[i].Replicas {
				if r.Node == n.name {
					holds[n.name]++
				}
			}
		}
	}
	return even(holds) && even(leads)
}
