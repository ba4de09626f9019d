package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/internal/simnet"
)

// simFault is something that happens to a world at a moment of its run, and
// what ends it. Faults are drawn before the run begins.
type simFault struct {
	at, lasts time.Duration
	what      string
	begin     func(w *simWorld) (end func())
}

// simFaultKind draws faults of one kind.
type simFaultKind struct {
	weight int // how often, beside the others
	draw   simFaultDraw
}

type simFaultDraw func(d *rand.Rand, nodes int) simFault

func simFaultKinds() []simFaultKind {
	return []simFaultKind{
		{4, drawOneWay}, {3, drawIsolation}, {2, drawHeldReplies}, {3, drawSlow}, {2, drawLoss}, {2, drawBreak},
		{3, drawLateWord}, {4, drawAmbush}, {4, drawCrash}, {3, drawPause}, {2, drawClock}, {2, drawFailure}, {2, drawSlowApply},
		{2, drawLonely}, {1, drawLateGrant}, {1, drawSetBack}, {2, drawReturn}, {2, drawRemoval}, {1, drawLearner},
		{2, drawSuccession}, {1, drawLateApply}, {2, drawStuck}, {1, drawCrowd}, {1, drawGhost},
		{2, drawDrain}, {2, drawExpulsion},
	}
}

// drawFaults draws the faults of a run.
func drawFaults(d *rand.Rand, kinds []simFaultKind, nodes, count int, within time.Duration) []simFault {
	weights := 0
	for _, k := range kinds {
		weights += k.weight
	}
	var faults []simFault
	for range count {
		dice := d.IntN(weights)
		for _, k := range kinds {
			if dice -= k.weight; dice < 0 {
				f := k.draw(d, nodes)
				f.at = time.Duration(d.Int64N(int64(within)))
				faults = append(faults, f)
				break
			}
		}
	}
	return faults
}

// between draws a time.
func between(d *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(d.Int64N(int64(to-from)))
}

// two draws two nodes.
func two(d *rand.Rand, nodes int) (a, b int) {
	a = d.IntN(nodes)
	return a, (a + 1 + d.IntN(nodes-1)) % nodes
}

func cutOf(d *rand.Rand) simnet.Cut {
	if d.IntN(3) == 0 {
		return simnet.Swallow
	}
	return simnet.Hold
}

func drawOneWay(d *rand.Rand, nodes int) simFault {
	a, b := two(d, nodes)
	cut := cutOf(d)
	return simFault{lasts: between(d, 200*time.Millisecond, 5*time.Second), what: fmt.Sprintf("cut %d from n%d to n%d", cut, a+1, b+1),
		begin: func(w *simWorld) func() {
			from, to := w.nodes[a].name, w.nodes[b].name
			w.net.SetCut(from, to, cut)
			return func() { w.net.SetCut(from, to, simnet.Open) }
		}}
}

func drawIsolation(d *rand.Rand, nodes int) simFault {
	a, cut := d.IntN(nodes), cutOf(d)
	return simFault{lasts: between(d, 300*time.Millisecond, 6*time.Second), what: fmt.Sprintf("isolation %d of n%d", cut, a+1),
		begin: func(w *simWorld) func() {
			w.isolate(a, cut)
			return func() { w.isolate(a, simnet.Open) }
		}}
}

// isolate cuts a node off, or opens all its links.
func (w *simWorld) isolate(node int, cut simnet.Cut) {
	for i, n := range w.nodes {
		if i != node {
			w.net.SetCut(w.nodes[node].name, n.name, cut)
			w.net.SetCut(n.name, w.nodes[node].name, cut)
		}
	}
}

// drawHeldReplies holds back what everybody says to one node, again and again
// for a little: answers come late and all at once.
func drawHeldReplies(d *rand.Rand, nodes int) simFault {
	a, hold := d.IntN(nodes), between(d, 100*time.Millisecond, 1500*time.Millisecond)
	return simFault{lasts: between(d, time.Second, 5*time.Second), what: fmt.Sprintf("replies to n%d held for %v", a+1, hold),
		begin: func(w *simWorld) func() {
			stop := make(chan struct{})
			set := func(cut simnet.Cut) {
				for i, n := range w.nodes {
					if i != a {
						w.net.SetCut(n.name, w.nodes[a].name, cut)
					}
				}
			}
			w.ending.Go(func() { // ends with the fault
				for cut := simnet.Hold; ; cut = simnet.Hold - cut {
					set(cut)
					select {
					case <-time.After(hold):
					case <-stop:
						set(simnet.Open)
						return
					}
				}
			})
			return func() { close(stop) }
		}}
}

// answered is how long it takes at most until a leader has asked something of
// its followers: twice the pace of its heartbeats.
const answered = 205 * time.Millisecond

// drawLateWord has a leader believe that it leads for as long as can be: nobody
// hears it any more, and what they said before reaches it late, one after the
// other, each word a new lease.
func drawLateWord(d *rand.Rand, nodes int) simFault {
	shard := d.IntN(1 << 16)
	outside := between(d, 2*time.Second, 4*time.Second)
	first, step := answered+between(d, 0, 50*time.Millisecond), between(d, 370*time.Millisecond, 395*time.Millisecond)
	return simFault{lasts: outside, what: "late word to a leader",
		begin: func(w *simWorld) func() {
			a := w.leader(cloakroom.ShardID(shard % w.shards))
			if a < 0 {
				return nil
			}
			here := w.nodes[a].name
			each := func(do func(other string)) {
				for i, n := range w.nodes {
					if i != a {
						do(n.name)
					}
				}
			}
			each(func(other string) { w.net.SetCut(other, here, simnet.Hold) })
			<-time.After(answered) // and the answer is held
			each(func(other string) { w.net.SetCut(here, other, simnet.Hold) })
			w.burst(w.newestOf(cloakroom.ShardID(shard%w.shards)), time.Second, func(n *simNode) bool { return n == w.nodes[a] })
			<-time.After(first - answered)
			each(func(other string) {
				w.net.SetCut(other, here, simnet.Open)
				<-time.After(time.Millisecond)
				w.net.SetCut(other, here, simnet.Hold)
				<-time.After(step)
			})
			return func() { w.isolate(a, simnet.Open) }
		}}
}

// drawAmbush waits for an acknowledgement and strikes the shard's leader at
// that very moment: the others may not know yet that the entry is committed.
func drawAmbush(d *rand.Rand, nodes int) simFault {
	kind, end, cut := d.IntN(3), simnet.End(d.IntN(2)), cutOf(d)
	lasts := between(d, 500*time.Millisecond, 5*time.Second)
	return simFault{lasts: lasts, what: [...]string{"crash", "isolation", "pause"}[kind] + " of a leader as it acknowledges",
		begin: func(w *simWorld) func() {
			over := func() {}
			struck := make(chan struct{})
			strike := func(n *simNode, subject int) {
				switch l := n.alive(); {
				case l == nil:
				case kind == 0 && w.canLose(l, nil):
					n.crash(end)
					over = func() {
						if n.alive() == nil {
							n.start(false)
						}
					}
				case kind == 2:
					n.pause(true)
					over = func() { n.pause(false) }
				default:
					at := slices.Index(w.nodes, n)
					w.isolate(at, cut)
					over = func() { w.isolate(at, simnet.Open) }
				}
				w.burst(subject, 1500*time.Millisecond, func(*simNode) bool { return true })
				close(struck)
			}
			if !w.ambush.CompareAndSwap(nil, &strike) {
				return nil
			}
			select {
			case <-struck:
			case <-time.After(3 * time.Second):
				if !w.ambush.CompareAndSwap(&strike, nil) {
					<-struck
				}
			}
			return func() { over() }
		}}
}

// newestOf returns the newest subject of a shard.
func (w *simWorld) newestOf(shard cloakroom.ShardID) int {
	for s := int(w.subjects.Load()); s > 0; s-- {
		if w.shardOf(s) == shard {
			return s
		}
	}
	return int(w.subjects.Add(1))
}

// acked springs an ambush: a write of a subject is acknowledged.
func (w *simWorld) acked(subject int) {
	strike := w.ambush.Load()
	if strike == nil {
		return
	}
	if at := w.leader(w.shardOf(subject)); at >= 0 && w.ambush.CompareAndSwap(strike, nil) {
		(*strike)(w.nodes[at], subject)
	}
}

// leader returns which node leads a shard, -1 if none does.
func (w *simWorld) leader(shard cloakroom.ShardID) int {
	for i, n := range w.nodes {
		if l := n.alive(); l != nil {
			if c := l.serving.Load(); c != nil && c.Leads(shard) {
				return i
			}
		}
	}
	return -1
}

func drawSlow(d *rand.Rand, nodes int) simFault {
	a, b := two(d, nodes)
	delay := simnet.Delay{Base: between(d, time.Millisecond, 150*time.Millisecond), Jitter: between(d, time.Millisecond, 100*time.Millisecond)}
	return simFault{lasts: between(d, time.Second, 6*time.Second), what: fmt.Sprintf("%v from n%d to n%d", delay, a+1, b+1),
		begin: func(w *simWorld) func() {
			from, to := w.nodes[a].name, w.nodes[b].name
			w.net.SetDelay(from, to, delay)
			return func() {
				w.net.SetDelay(from, to, simnet.Delay{Base: 100 * time.Microsecond, Jitter: 200 * time.Microsecond})
			}
		}}
}

func drawLoss(d *rand.Rand, nodes int) simFault {
	a, b := two(d, nodes)
	chance := 0.002 + 0.03*d.Float64()
	return simFault{lasts: between(d, time.Second, 6*time.Second), what: fmt.Sprintf("loss of %.3f from n%d to n%d", chance, a+1, b+1),
		begin: func(w *simWorld) func() {
			from, to := w.nodes[a].name, w.nodes[b].name
			w.net.SetLoss(from, to, chance)
			return func() { w.net.SetLoss(from, to, 0) }
		}}
}

func drawBreak(d *rand.Rand, nodes int) simFault {
	a, b := two(d, nodes)
	return simFault{lasts: time.Millisecond, what: fmt.Sprintf("connections of n%d and n%d break", a+1, b+1),
		begin: func(w *simWorld) func() {
			w.net.Break(w.nodes[a].name, w.nodes[b].name)
			return func() {}
		}}
}

func drawCrash(d *rand.Rand, nodes int) simFault {
	a, end := d.IntN(nodes), simnet.End(d.IntN(2))
	return simFault{lasts: between(d, 50*time.Millisecond, 6*time.Second), what: fmt.Sprintf("crash %d of n%d", end, a+1),
		begin: func(w *simWorld) func() {
			n := w.nodes[a]
			l := n.alive()
			if l == nil || !w.canLose(l, nil) {
				return nil
			}
			n.crash(end)
			return func() {
				if n.alive() == nil {
					n.start(false)
				}
			}
		}}
}

func drawPause(d *rand.Rand, nodes int) simFault {
	a := d.IntN(nodes)
	return simFault{lasts: between(d, 200*time.Millisecond, 10*time.Second), what: fmt.Sprintf("pause of n%d", a+1),
		begin: func(w *simWorld) func() {
			n := w.nodes[a]
			n.pause(true)
			return func() { n.pause(false) }
		}}
}

// drawClock sets the clock of one node far off, and right again.
func drawClock(d *rand.Rand, nodes int) simFault {
	a := d.IntN(nodes)
	off := []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour, time.Hour, -time.Minute, 20 * time.Second}[d.IntN(5)]
	return simFault{lasts: between(d, time.Second, 20*time.Second), what: fmt.Sprintf("clock of n%d off by %v", a+1, off),
		begin: func(w *simWorld) func() {
			// One clock at a time: of two that are wrong in the same way nobody could tell.
			if !w.wrongClock.CompareAndSwap(false, true) {
				return nil
			}
			w.nodes[a].clock.step(off)
			return func() {
				w.nodes[a].clock.set(0)
				w.wrongClock.Store(false)
			}
		}}
}

// drawFailure lets a machine find no memory: its replica stops and is rebuilt.
func drawFailure(d *rand.Rand, nodes int) simFault {
	a, shard := d.IntN(nodes), d.IntN(1<<16)
	return simFault{lasts: time.Second, what: fmt.Sprintf("no memory for shard %d/… on n%d", shard%4, a+1),
		begin: func(w *simWorld) func() {
			id := cloakroom.ShardID(shard % w.shards)
			group := directory.ShardGroup(id)
			l := w.nodes[a].alive()
			if l == nil || !w.canLose(l, &group) {
				return nil
			}
			m := l.machineOf(id)
			if m == nil {
				return nil
			}
			m.fail.Store(true)
			return func() {}
		}}
}

func drawSlowApply(d *rand.Rand, nodes int) simFault {
	a, shard, slow := d.IntN(nodes), d.IntN(1<<16), between(d, time.Millisecond, 300*time.Millisecond)
	return simFault{lasts: between(d, time.Second, 5*time.Second), what: fmt.Sprintf("slow applies of %v on n%d", slow, a+1),
		begin: func(w *simWorld) func() {
			l := w.nodes[a].alive()
			if l == nil {
				return nil
			}
			m := l.machineOf(cloakroom.ShardID(shard % w.shards))
			if m == nil {
				return nil
			}
			m.slow.Store(int64(slow))
			return func() { m.slow.Store(0) }
		}}
}

// canLose reports whether what a life holds, of all groups or of one, may be
// lost by what was promised: in every configuration that a living replica goes
// by, a majority keeps its memory.
func (w *simWorld) canLose(lost *simLife, only *directory.GroupID) bool {
	if w.removing.Load() > 0 {
		return false
	}
	keeps := make(map[string]bool) // replicas that live elsewhere, by identity
	var configs [][]string
	lives := w.lives()
	for _, l := range lives {
		c := l.cluster.Load()
		if c == nil {
			continue
		}
		for g := range c.Directory().Groups() {
			group := c.group(g)
			if group == nil || only != nil && g != *only {
				continue
			}
			m := group.member.Load()
			if m == nil {
				continue
			}
			if sim, ok := m.machine.(*simMachine); l != lost && m.replica.Status().Parked == "" && !(ok && sim.fail.Load()) {
				keeps[m.self.ID] = true
			}
			_, members, err := m.replica.Members()
			if err != nil {
				return false
			}
			var voters []string
			for i := range members {
				if members[i].Voter {
					voters = append(voters, members[i].ID)
				}
			}
			configs = append(configs, voters)
		}
	}
	for _, voters := range configs {
		kept := 0
		for _, id := range voters {
			if keeps[id] {
				kept++
			}
		}
		if kept <= len(voters)/2 {
			return false
		}
	}
	return true
}

// suffer lets the faults happen, and returns when all have ended.
func (w *simWorld) suffer(faults []simFault) {
	for _, f := range faults {
		w.faulting.Go(func() {
			<-time.After(f.at)
			end := f.begin(w)
			if end == nil {
				w.tell("not now: %s", f.what)
				w.spared.Add(1)
				return
			}
			w.suffered.Add(1)
			w.tell("%s, for %v", f.what, f.lasts)
			<-time.After(f.lasts)
			end()
			w.tell("over: %s", f.what)
		})
	}
	w.faulting.Wait()
}
