package lease_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 300, "how many worlds the model test makes")
	seed  = flag.Uint64("seed", 0, "the one world to make, 0: random ones")
)

// rule is one of the protocol. The model leaves out one at a time, and must
// notice each.
type rule int

const (
	everyRule    rule = iota
	ownTerm           // a leader counts as one once an entry of its own term is applied
	entered           // what is granted stands in the table
	together          // the index is taken with the entry
	round             // a round after the question shows that the leader is one
	identity          // replicas are asked for by identity, and leases are theirs
	margin            // a holder uses 0.9 of a lease
	fromQuestion      // counted from before it asked
	applied           // once it has applied the index
	untilFirst        // until when is taken before the copy
	recheck           // the clock is looked at after the copy
	uptime            // by a clock that is never set
	barrier           // an erasure is acknowledged after a barrier
	onlyMembers       // which waits for replicas that are members no more
	onlyVoters        // and for learners
	youngLeader       // and for the leases of earlier leaders
	stillLed          // at a leader that still leads once it has applied the erasure
	repeated          // also for an erasure that is repeated
	rules
)

func (r rule) String() string {
	return [...]string{"every rule", "own term", "entered", "together", "round", "identity", "margin", "from the question", "applied", "until first",
		"recheck", "uptime", "barrier", "removed replicas", "learners", "young leader", "still led", "repeated"}[r]
}

// Over terms, logs, configurations, messages and clocks, with every rule in
// place: no replica answers from a state before an erasure that was
// acknowledged before it was asked, nor from one that is older than a lease when
// it looks at the clock. Tables, holders and their decisions are the real ones.
func TestLeasesNeverLie(t *testing.T) {
	from, n := *seed, 1
	if from == 0 {
		from, n = rand.Uint64(), *seeds
	}
	begin := time.Now()
	var all counts
	for i := range uint64(n) {
		w := play(from+i, everyRule)
		if w.broken != "" {
			t.Fatalf("seed %d (go test -run %s -seed %d): %s", from+i, t.Name(), from+i, w.broken)
		}
		all.add(w.count)
	}
	t.Logf("seeds %d to %d in %v: %+v", from, from+uint64(n)-1, time.Since(begin), all)
	if n > 10 && (all.reads < 300*n || all.refused < 100*n || all.grants < 20*n || all.elections < 2*n || all.erasures < 30*n || all.young < 5*n) {
		t.Error("too little happened to mean anything")
	}
}

// A model that finds nothing proves nothing: each rule must be missed. A seed
// says everything that happens in a world, so the same seeds find the same.
func TestEachRuleIsMissed(t *testing.T) {
	for without := everyRule + 1; without < rules; without++ {
		t.Run(without.String(), func(t *testing.T) {
			for i := range uint64(1000) {
				if w := play(1+i, without); w.broken != "" {
					t.Logf("seed %d: %s", 1+i, w.broken)
					return
				}
			}
			t.Error("not found with seeds 1 to 1000")
		})
	}
}
