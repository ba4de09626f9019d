package cluster

import (
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"cloakroom/cluster/replica"
	"cloakroom/securemem"
)

// What a remedy is for shows when it is left out: within a bounded number of
// seeds the histories must betray it. The seeds are those of TestSimulation,
// which finds nothing with all remedies in; here one kind of fault comes alone,
// so that few are enough.

// A deposed leader that is told nothing new answers reads from before.
func TestSimulationMissesTheConfirmRound(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes too long")
	}
	memory := simMemory(t)
	for seed := uint64(1); seed <= 40; seed++ {
		_, broken := simRun(t, seed, memory, func(w *simWorld) {
			w.hazards, w.kinds = hazards{noConfirm: true}, []simFaultKind{{1, drawLateWord}}
		})
		if len(broken) > 0 {
			t.Logf("seed %d: %s", seed, broken[0])
			return
		}
	}
	t.Error("40 seeds found nothing")
}

// simMissing is a rule of leases or of the erasure's barrier, the scene in
// which its absence shows, and how many seeds of it must be enough; 0: none
// are, so it is only looked for when SIM_SEEDS says so.
type simMissing struct {
	name  string
	rule  hazards
	scene simFaultDraw
	nodes int
	seeds uint64
}

func simMissings() []simMissing {
	return []simMissing{
		{"leaseBeforeOwnTerm", hazards{replica: replica.Hazards{ReadBeforeOwnTerm: true}}, drawLateApply, 3, 10},
		{"leaseUnentered", hazards{leaseUnentered: true}, drawLonely, 3, 24},
		{"leaseIndexFirst", hazards{leaseIndexFirst: true}, drawCrowd, 3, 60},
		{"leaseNoRound", hazards{leaseNoRound: true}, drawStuck, 3, 40},
		{"leaseByAddress", hazards{leaseByAddress: true}, drawGhost, 3, 10},
		{"leaseFullTerm", hazards{leaseFullTerm: true}, drawLonely, 3, 24},
		{"leaseFromAnswer", hazards{leaseFromAnswer: true}, drawLateGrant, 3, 20},
		{"leaseUnapplied", hazards{leaseUnapplied: true}, drawReturn, 3, 20},
		{"leaseNoRecheck", hazards{leaseNoRecheck: true}, drawDazed, 3, 16},
		{"leaseWallClock", hazards{leaseWallClock: true}, drawSetBack, 3, 10},
		{"settleNone", hazards{settleNone: true}, drawLonely, 3, 24},
		{"settleOnlyMembers", hazards{settleOnlyMembers: true}, drawRemoval, 3, 10},
		{"settleVotersOnly", hazards{settleVotersOnly: true, oneMoreWaits: true}, drawLearner, 4, 10},
		{"settleYoungLeader", hazards{settleYoungLeader: true}, drawSuccession, 3, 20},
		{"settleOnce", hazards{settleOnce: true}, drawLonely, 3, 24},
	}
}

// Every rule of leases and of the barrier, one at a time.
func TestSimulationMissesEachRuleOfLeases(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes too long")
	}
	memory := simMemory(t)
	for _, m := range simMissings() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if m.seeds == 0 && os.Getenv("SIM_SEEDS") == "" {
				t.Skip("not found reliably")
			}
			seeds := uint64(simNumber(t, "SIM_SEEDS", max(int(m.seeds), 1)))
			found, played := uint64(0), int64(0)
			for seed := uint64(1); seed <= seeds; seed++ {
				w, broken := simPlay(t, seed, m.nodes, memory, m.scene, m.rule)
				played += w.suffered.Load()
				if len(broken) == 0 {
					continue
				}
				if found++; found == 1 {
					t.Logf("seed %d: %s", seed, broken[0])
				}
				if os.Getenv("SIM_SEEDS") == "" {
					return
				}
			}
			if found == 0 {
				t.Errorf("%d seeds found nothing", seeds)
			}
			t.Logf("%d of %d seeds, %d scenes", found, seeds, played)
		})
	}
}

// simPlay runs one scene in a world of its own where nothing else happens.
func simPlay(t *testing.T, seed uint64, nodes int, memory *securemem.Memory, scene simFaultDraw, without hazards) (*simWorld, []string) {
	return simBubble(t, seed, func(t *testing.T) *simWorld {
		w := newSimWorld(t, seed, nodes, 1, memory)
		w.hazards, w.brief = without, true
		w.alone(scene)
		return w
	})
}

// alone starts all nodes, lets one fault happen, and ends.
func (w *simWorld) alone(fault simFaultDraw) {
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
	if !w.until(time.Minute, w.replicated) {
		w.truth.violated("not replicated a minute after the start: %s", w.standing())
		return
	}
	<-time.After(between(d, 500*time.Millisecond, time.Second)) // there are leases
	f := fault(d, len(w.nodes))
	f.at = 0
	w.suffer([]simFault{f})
}
