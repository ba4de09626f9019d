package cluster

import (
	"math/rand/v2"
	"time"

	"cloakroom/internal/simnet"
)

// drawScene makes a fault of a scene: play begins it and returns what ends it.
func drawScene(d *rand.Rand, what string, lasts time.Duration, play func(s *simScene) (end func())) simFault {
	seed := d.Uint64()
	return simFault{lasts: lasts, what: what, begin: func(w *simWorld) func() {
		s := w.scene(seed)
		if s == nil {
			return nil
		}
		return play(s)
	}}
}

// drawLonely erases while one replica can't be reached: it may answer under its
// lease, and the erasure waits for the end of that.
func drawLonely(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure while a replica is alone", 4200*time.Millisecond, func(s *simScene) func() {
		lonely := s.others[s.d.IntN(2)]
		return s.lonely(lonely)
	})
}

// lonely cuts a node off, has the subject erased elsewhere, once or twice, and
// reads at the node all the while.
func (s *simScene) lonely(n *simNode) func() {
	s.leave(n, cutOf(s.d))
	s.gaze(n, 4*time.Second)
	<-time.After(between(s.d, 0, 300*time.Millisecond))
	s.erase(s.leader, 4*time.Second)
	if s.d.IntN(2) == 0 {
		<-time.After(between(s.d, 0, 20*time.Millisecond))
		s.erase(s.third(n), 4*time.Second)
	}
	return func() { s.back(n) }
}

// drawLateGrant is drawLonely where what the leader says arrives late before.
func drawLateGrant(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure after late grants", 4200*time.Millisecond, func(s *simScene) func() {
		n := s.slower()
		s.awaitPhase(between(s.d, 250*time.Millisecond, 450*time.Millisecond))
		s.put(time.Second) // else a time command that n does not have yet holds up its lease
		<-time.After(10 * time.Millisecond)
		s.w.net.SetCut(s.leader.name, n.name, simnet.Hold)
		<-time.After(between(s.d, 850*time.Millisecond, 980*time.Millisecond))
		s.w.net.SetCut(n.name, s.leader.name, simnet.Hold) // it must not ask again at once
		s.w.net.SetCut(s.leader.name, n.name, simnet.Open)
		<-time.After(between(s.d, time.Millisecond, 5*time.Millisecond))
		return s.lonely(n)
	})
}

// drawSetBack is drawLonely where the node's wall clock is set back meanwhile.
func drawSetBack(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure while a replica is alone and its clock is set back", 4200*time.Millisecond, func(s *simScene) func() {
		n := s.others[s.d.IntN(2)]
		if !s.w.wrongClock.CompareAndSwap(false, true) {
			return nil
		}
		n.clock.step(-time.Minute)
		end := s.lonely(n)
		return func() {
			end()
			n.clock.set(0)
			s.w.wrongClock.Store(false)
		}
	})
}

// drawReturn erases while a replica is away for longer than its lease, and has
// it come back with entries to apply that take their time.
func drawReturn(d *rand.Rand, _ int) simFault {
	return drawScene(d, "a return to an erasure", 3*time.Second, func(s *simScene) func() {
		n := s.others[s.d.IntN(2)]
		s.leave(n, cutOf(s.d))
		<-time.After(between(s.d, 3300*time.Millisecond, 3600*time.Millisecond))
		s.holds(n, 2500*time.Millisecond)
		over := s.erase(s.leader, time.Second)
		if s.d.IntN(2) == 0 { // else it comes back in the middle
			<-over
		}
		s.gaze(n, 2800*time.Millisecond)
		s.back(n)
		return func() {}
	})
}

// drawRemoval takes a replica that can't be reached out of its group, and
// erases before its lease is over.
func drawRemoval(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure after a removal", 4*time.Second, func(s *simScene) func() {
		n := s.others[s.d.IntN(2)]
		s.leave(n, cutOf(s.d))
		s.gaze(n, 4*time.Second)
		if s.remove(n, 1500*time.Millisecond) {
			s.erase(s.leader, 4*time.Second)
		}
		return func() { s.back(n) }
	})
}

// drawLearner is drawLonely with a replica that has no vote.
func drawLearner(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure while a learner is alone", 4200*time.Millisecond, func(s *simScene) func() {
		if len(s.away) == 0 || !s.learner(s.away[0], 2*time.Second) {
			return nil
		}
		n := s.away[0]
		<-time.After(between(s.d, 600*time.Millisecond, time.Second)) // it gets a lease
		end := s.lonely(n)
		return func() {
			end()
			s.remove(n, time.Second)
		}
	})
}

// drawSuccession erases at a new leader while a replica still answers under a
// lease that its predecessor gave.
func drawSuccession(d *rand.Rand, _ int) simFault {
	return drawScene(d, "an erasure by a new leader", 4*time.Second, func(s *simScene) func() {
		old := s.leader
		s.leave(old, simnet.Hold)
		var next *simNode
		s.w.soon(3*time.Second, func() bool {
			for _, n := range s.others {
				if c := n.serves(); c != nil && c.Leads(s.shard) {
					next = n
				}
			}
			return next != nil
		})
		if next == nil {
			return func() { s.back(old) }
		}
		n := s.third(next)
		s.leave(n, cutOf(s.d))
		s.w.between(old, next, simnet.Open)
		s.gaze(n, 4*time.Second)
		s.leader = next
		s.erase(next, 4*time.Second)
		return func() { s.back(n); s.back(old) }
	})
}

// between cuts or opens the links between two nodes.
func (w *simWorld) between(a, b *simNode, cut simnet.Cut) {
	w.net.SetCut(a.name, b.name, cut)
	w.net.SetCut(b.name, a.name, cut)
}

// drawLateApply strikes the leader as it acknowledges, while the others know of
// the entry and apply it late.
func drawLateApply(d *rand.Rand, _ int) simFault {
	return drawScene(d, "a leader gone, its last entry applied late", 5*time.Second, func(s *simScene) func() {
		old := s.leader
		for _, n := range s.others {
			s.holds(n, 5*time.Second)
			s.gaze(n, 5*time.Second)
		}
		s.put(500 * time.Millisecond)
		s.leave(old, cutOf(s.d))
		return func() { s.back(old) }
	})
}

// drawStuck has a leader's main loop wait for its log while another is elected
// and goes on without it: it does not notice that it leads no more.
func drawStuck(d *rand.Rand, _ int) simFault {
	return drawScene(d, "a leader stuck in its log", 6*time.Second, func(s *simScene) func() {
		old, l := s.leader, s.leader.alive()
		if l == nil {
			return nil
		}
		l.stores[s.shard].stay(6 * time.Second)
		s.w.faulting.Go(func() { s.put(500 * time.Millisecond) }) // ends with its time
		<-time.After(5 * time.Millisecond)
		s.leave(old, simnet.Hold)
		s.gaze(old, 6*time.Second)
		next := s.others[s.d.IntN(2)]
		if s.d.IntN(2) == 0 {
			s.erase(next, 5900*time.Millisecond)
		} else {
			c := s.client(next)
			s.w.faulting.Go(func() { c.insist(next, s.subject, 2*time.Second) }) // ends with its time
		}
		return func() { s.back(old) }
	})
}

// insist replaces a subject, whoever leads.
func (c *simClient) insist(n *simNode, subject int, limit time.Duration) {
	end := time.Now().Add(limit)
	for time.Now().Before(end) {
		if l := n.alive(); l != nil && l.serving.Load() != nil {
			c.hurry(l, false, subject)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// drawCrowd has a replica come back to many erasures, one after the other, while
// answers to the leader take their time: it is granted its first lease in their
// middle, and applies them slowly.
func drawCrowd(d *rand.Rand, _ int) simFault {
	return drawScene(d, "a return to many erasures", 2500*time.Millisecond, func(s *simScene) func() {
		const crowd = 28
		n := s.others[s.d.IntN(2)]
		first := s.subject
		for range crowd {
			s.subject = 0
			s.deposit(100 * time.Millisecond)
		}
		var all []int
		for subject := first; subject <= s.subject; subject++ {
			if s.w.shardOf(subject) == s.shard {
				all = append(all, subject)
			}
		}
		s.leave(n, simnet.Hold)
		<-time.After(between(s.d, 3400*time.Millisecond, 3700*time.Millisecond))
		late := between(s.d, 80*time.Millisecond, 160*time.Millisecond)
		for _, other := range s.others {
			s.w.net.SetDelay(other.name, s.leader.name, simnet.Delay{Base: late, Jitter: time.Millisecond})
		}
		s.slows(n, 180*time.Millisecond)
		s.back(n)
		s.w.soon(2*time.Second, func() bool { return s.follows(n) })
		s.stare(n, all, 2800*time.Millisecond)
		for _, subject := range all {
			s.subject = subject
			s.erase(s.leader, 2*time.Second)
			<-time.After(20 * time.Millisecond)
		}
		return func() {
			s.slows(n, 0)
			for _, other := range s.others {
				s.w.net.SetDelay(other.name, s.leader.name, simnet.Delay{Base: 100 * time.Microsecond, Jitter: 200 * time.Microsecond})
			}
		}
	})
}

// drawGhost erases while one life of a node that nobody hears any more goes on
// answering whoever asks it, and another life has taken its place.
func drawGhost(d *rand.Rand, _ int) simFault {
	return drawScene(d, "a life that does not know it is over", 4*time.Second, func(s *simScene) func() {
		n := s.others[s.d.IntN(2)]
		l := n.alive()
		if l == nil || !s.w.canLose(l, nil) {
			return nil
		}
		n.vanish()
		s.haunt(l, 4*time.Second)
		n.start(false)
		s.w.soon(1500*time.Millisecond, func() bool { return n.serves() != nil })
		s.erase(s.leader, 4*time.Second)
		return func() { n.lay(l) }
	})
}

// drawDazed has readers stand still with what they copied in their hands until
// their lease is over. They keep a lock meanwhile, so this is for worlds where
// nothing else happens.
func drawDazed(d *rand.Rand, _ int) simFault {
	return drawScene(d, "readers that take long", 4500*time.Millisecond, func(s *simScene) func() {
		n := s.others[s.d.IntN(2)]
		m := n.alive().machineOf(s.shard)
		s.leave(n, simnet.Hold)
		s.put(time.Second)
		<-time.After(between(s.d, 500*time.Millisecond, 1500*time.Millisecond))
		m.dazed.stay(4 * time.Second)
		s.gaze(n, 20*time.Millisecond)
		return func() { s.back(n) }
	})
}
