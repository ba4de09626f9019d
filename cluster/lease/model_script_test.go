package lease_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// elected has a replica win an election.
func (w *world) elected(r *replica) {
	for !r.flag {
		w.elect(r)
	}
	w.events = nil // what else would begin with it
}

// carried brings somebody the leader's log, and has it committed.
func (w *world) carried(l, f *replica) {
	for len(f.log) < len(l.log) || l.commit < len(l.log) {
		w.replicate(l, f)
	}
}

// A vote that comes along with a question is one of the round that shows that
// the leader was one when the lease began. Were it older, the leader might have
// lost the lead in between, and by that very vote. Schedules that are drawn find
// this too seldom, so here is one: the asker's process looks at its term, waits,
// looks at its clock and asks, all while its raft goes on.
func TestAVoteIsNoOlderThanItsQuestion(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, old := range []bool{false, true} {
		w := newWorld(seed, everyRule)
		w.events = nil
		leader, asker, next := w.made[0], w.made[1], w.made[2]
		for _, f := range []*replica{asker, next} {
			w.carried(leader, f)
		}
		for _, r := range w.made {
			r.applied, r.heard = leader.commit, w.now
		}
		vote := asker.term
		w.cut[0][2], w.cut[2][0] = time.Hour, time.Hour
		w.elected(next)
		w.append(next, entry{term: next.led})
		w.carried(next, asker)
		next.applied = next.commit // and the asker takes its time to apply
		w.acked = append(w.acked, ack{w.now, next.applied})
		if !old {
			vote = asker.term
		}
		for range 50 { // some are lost
			w.now += 20 * time.Millisecond
			w.events = nil
			w.question(asker, leader, w.clock(asker.node), vote)
			w.run(w.now + 10*time.Millisecond)
		}
		if held := asker.holder.Until() > 0; held != old {
			t.Fatalf("vote older than the question: %v; a lease from the deposed leader: %v", old, held)
		}
		w.now += 2100 * time.Millisecond
		w.events = nil
		w.read(asker)
		w.run(w.now + time.Second)
		if lied := strings.Contains(w.broken, "older than a lease"); lied != old {
			t.Errorf("vote older than the question: %v; broken: %q", old, w.broken)
		}
	}
}
