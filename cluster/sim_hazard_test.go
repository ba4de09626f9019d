package cluster

import "testing"

// What a remedy is for shows when it is left out: within a bounded number of
// seeds the histories must betray it. The seeds are those of TestSimulation,
// which finds nothing with all remedies in; here one kind of fault comes alone,
// so that few are enough.

// A deposed leader that is told nothing new answers reads from before.
func TestSimulationMissesTheConfirmRound(t *testing.T) {
	simFinds(t, 40, hazards{noConfirm: true}, drawLateWord)
}

// simFinds runs seeds without a remedy until one fails.
func simFinds(t *testing.T, seeds uint64, without hazards, fault simFaultDraw) {
	if testing.Short() || raceEnabled {
		t.Skip("takes too long")
	}
	memory := simMemory(t)
	for seed := uint64(1); seed <= seeds; seed++ {
		_, broken := simRun(t, seed, memory, func(w *simWorld) {
			w.hazards, w.kinds = without, []simFaultKind{{1, fault}}
		})
		if len(broken) > 0 {
			t.Logf("seed %d: %s", seed, broken[0])
			return
		}
	}
	t.Errorf("%d seeds found nothing", seeds)
}
