package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/internal/simnet"
	"cloakroom/securemem"
)

// viewWorld is a world in which rights are taken away and nothing else is
// asked for: what was settled by SettleView must hold on every node, also on
// one that is cut off or does not know that its life is over.
type viewWorld struct {
	*simWorld
	d       *rand.Rand
	settled atomic.Uint64 // highest epoch that was
	barrier atomic.Int64  // barriers that ended
	behind  atomic.Int64  // looks at a view from before, which was over
}

// gaze looks at the view of a life until stop: one that may be gone by must
// hold what was settled before the look began.
func (v *viewWorld) gaze(l *simLife, stop <-chan struct{}) {
	for {
		if c := l.cluster.Load(); c != nil && !l.dead.Load() {
			floor := v.settled.Load()
			shown := c.Shown()
			switch stale := c.Stale(shown, 0); {
			case shown.Epoch >= floor:
			case stale:
				v.behind.Add(1)
			default:
				v.truth.violated("%v goes by epoch %d, settled was %d", l, shown.Epoch, floor)
				return
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-stop:
			return
		}
	}
}

// revoke changes the directory through a node and settles it.
func (v *viewWorld) revoke(n *simNode, limit time.Duration) bool {
	c := n.serves()
	if c == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result, err := c.ProposeDirectory(ctx, &directory.Command{NextSealing: &directory.NextSealing{}})
	if err != nil || c.SettleView(ctx, result.Epoch) != nil {
		return false
	}
	v.barrier.Add(1)
	for now := v.settled.Load(); result.Epoch > now && !v.settled.CompareAndSwap(now, result.Epoch); {
		now = v.settled.Load()
	}
	return true
}

// headed returns who leads the directory, and the others; nil while nobody does.
func (v *viewWorld) headed() (leader *simNode, others []*simNode) {
	v.until(10*time.Second, func() bool {
		leader, others = nil, nil
		for _, n := range v.nodes {
			c := n.serves()
			if c == nil {
				continue
			}
			if m, _ := c.desk.lead(); m != nil && leader == nil {
				leader = n
			} else {
				others = append(others, n)
			}
		}
		return leader != nil && len(others) == len(v.nodes)-1
	})
	return leader, others
}

// viewScene is one way to meet a node that knows of nothing. It is begun, has
// rights taken away in its middle, and is over when it returns.
type viewScene func(v *viewWorld, leader *simNode, others []*simNode, stop <-chan struct{})

// lonelyView cuts a node off for longer than its lease.
func lonelyView(v *viewWorld, leader *simNode, others []*simNode, _ <-chan struct{}) {
	at := v.d.IntN(2)
	v.cut(others[at], cutOf(v.d))
	<-time.After(between(v.d, 0, 8*time.Second))
	v.revoke(others[1-at], 45*time.Second)
	v.revoke(leader, 45*time.Second)
	v.net.Heal()
}

// lateView cuts a node off for less than its lease, so that it comes back with
// an old view and asks for a new lease.
func lateView(v *viewWorld, leader *simNode, others []*simNode, _ <-chan struct{}) {
	at := v.d.IntN(2)
	v.cut(others[at], simnet.Hold)
	over := make(chan struct{})
	v.faulting.Go(func() { v.revoke(leader, 45*time.Second); close(over) }) // ends with its time
	<-time.After(between(v.d, time.Second, 40*time.Second))
	v.net.Heal()
	<-over
}

// followedView has a node hold a lease of a leader that is one no more.
func followedView(v *viewWorld, leader *simNode, others []*simNode, _ <-chan struct{}) {
	v.cut(leader, simnet.Hold)
	var next, last *simNode
	v.soon(5*time.Second, func() bool {
		for i, n := range others {
			if c := n.serves(); c != nil {
				if m, _ := c.desk.lead(); m != nil {
					next, last = n, others[1-i]
				}
			}
		}
		return next != nil
	})
	if next != nil {
		v.cut(last, simnet.Hold)
		v.between(leader, next, simnet.Open)
		v.revoke(next, 60*time.Second)
	}
	v.net.Heal()
}

// hauntedView has a life go on that another has taken the place of.
func hauntedView(v *viewWorld, leader *simNode, others []*simNode, stop <-chan struct{}) {
	n := others[v.d.IntN(2)]
	l := n.alive()
	if l == nil {
		return
	}
	n.vanish()
	n.start(false)
	v.watch(n, stop)
	v.soon(20*time.Second, func() bool { return n.serves() != nil })
	v.revoke(leader, 45*time.Second)
	<-time.After(time.Second)
	n.lay(l)
}

// stuckView has a leader of the directory that hears nothing grant itself what
// nobody else gives.
func stuckView(v *viewWorld, leader *simNode, others []*simNode, _ <-chan struct{}) {
	l := leader.alive()
	if l == nil {
		return
	}
	l.desk.stay(45 * time.Second)
	c := leader.serves()
	v.faulting.Go(func() { // ends with its time
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		c.ProposeDirectory(ctx, &directory.Command{NextSealing: &directory.NextSealing{}}) //nolint:errcheck // it is stuck
	})
	<-time.After(5 * time.Millisecond)
	v.cut(leader, simnet.Hold)
	<-time.After(3 * time.Second)
	v.revoke(others[v.d.IntN(2)], 60*time.Second)
	<-time.After(6 * time.Second) // it would have renewed its lease
	v.net.Heal()
}

// cut cuts a node off from all others, or opens the way again.
func (v *viewWorld) cut(n *simNode, cut simnet.Cut) {
	for i, other := range v.nodes {
		if other == n {
			v.isolate(i, cut)
		}
	}
}

// watch gazes at the life that a node has now.
func (v *viewWorld) watch(n *simNode, stop <-chan struct{}) {
	if l := n.alive(); l != nil {
		v.faulting.Go(func() { v.gaze(l, stop) }) // ends with stop
	}
}

// play starts a world, plays the scenes, and looks whether all is well again.
func (v *viewWorld) play(scenes []viewScene) {
	defer v.end()
	stop := make(chan struct{})
	defer v.faulting.Wait()
	defer sync.OnceFunc(func() { close(stop) })()
	for i, n := range v.nodes {
		n.start(i == 0)
		v.watch(n, stop)
	}
	if !v.until(time.Minute, v.replicated) {
		v.truth.violated("not replicated a minute after the start: %s", v.standing())
		return
	}
	for _, scene := range scenes {
		<-time.After(between(v.d, 500*time.Millisecond, 7*time.Second))
		leader, others := v.headed()
		if leader == nil {
			v.truth.violated("nobody leads the directory: %s", v.standing())
			return
		}
		scene(v, leader, others, stop)
		if !v.until(time.Minute, v.replicated) {
			v.truth.violated("not replicated a minute after a scene: %s", v.standing())
			return
		}
	}
	if !v.until(time.Minute, v.current) {
		v.truth.violated("not every node may go by its view: %s", v.standing())
	}
}

// current reports whether every node may go by its view.
func (v *viewWorld) current() bool {
	for _, n := range v.nodes {
		if c := n.serves(); c == nil || c.Stale(c.Shown(), 0) {
			return false
		}
	}
	return true
}

// playViews runs scenes drawn from a seed.
func playViews(t *testing.T, seed uint64, memory *securemem.Memory, left hazards, scenes ...viewScene) (v *viewWorld, broken []string) {
	v = &viewWorld{}
	_, broken = simBubble(t, seed, func(t *testing.T) *simWorld {
		v.simWorld, v.d = newSimWorld(t, seed, 3, 1, memory), rand.New(rand.NewPCG(seed, 7))
		v.hazards, v.brief = left, true
		drawn := make([]viewScene, 2)
		for i := range drawn {
			drawn[i] = scenes[v.d.IntN(len(scenes))]
		}
		v.play(drawn)
		return v.simWorld
	})
	return v, broken
}

// Whatever was settled is gone by on every node, whoever is cut off, takes
// over, or does not know that its life is over.
func TestSettledViewsHoldEverywhere(t *testing.T) {
	seeds := simNumber(t, "SIM_SEEDS", 24)
	if testing.Short() || raceEnabled {
		seeds = 6
	}
	memory := simMemory(t)
	var barriers, behind atomic.Int64
	t.Cleanup(func() {
		if barriers.Load() == 0 || behind.Load() == 0 {
			t.Errorf("%d barriers, %d looks at views that were over: nothing was put to the test", barriers.Load(), behind.Load())
		}
	})
	for seed := range uint64(seeds) {
		v, broken := playViews(t, seed, memory, hazards{}, lonelyView, lateView, followedView, hauntedView, stuckView)
		if len(broken) > 0 {
			t.Fatalf("seed %d: %s\nthe last log lines:\n%s", seed, broken[0], v.log)
		}
		barriers.Add(v.barrier.Load())
		behind.Add(v.behind.Load())
	}
}

// Each rule of these leases shows in a scene when it is left out.
func TestSimulationMissesEachRuleOfViews(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes too long")
	}
	memory := simMemory(t)
	for name, m := range map[string]struct {
		rule  hazards
		scene viewScene
	}{
		"viewNoRound":     {hazards{viewNoRound: true}, stuckView},
		"viewYoungLeader": {hazards{viewYoungLeader: true}, followedView},
		"viewUnsettled":   {hazards{viewUnsettled: true}, lonelyView},
		"viewByNode":      {hazards{viewByNode: true}, hauntedView},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(30) {
				if _, broken := playViews(t, seed, memory, m.rule, m.scene); len(broken) > 0 {
					t.Logf("seed %d: %s", seed, broken[0])
					return
				}
			}
			t.Error("30 seeds found nothing")
		})
	}
}
