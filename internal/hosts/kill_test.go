//go:build linux

package hosts

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// workerGrant is what the clients of a load may do.
var workerGrant = []string{"--action", "deposit,update,read,resolve,erase", "--all-fields"}

// rounds returns how often a test does what it does: some times in `make test`,
// more often where the environment says so.
func rounds(name string, n int) int {
	if more, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return more
	}
	return n
}

// three founds a cluster of three nodes.
func three(t *testing.T, land *Land) (*Fleet, *Node) {
	t.Helper()
	f := NewFleet(t, program(t, ""), land)
	f.More = os.Getenv("HOSTS_CONFIG") // for those who look for a fault: "log: { level: debug }"
	n := f.Found("n1")
	f.Join(n, "n2", "n3")
	f.AwaitSettled(3, time.Minute)
	return f, n
}

// Nodes are killed, one after the other, and come back. Whatever was
// acknowledged is there, and writes are taken again soon. KILLS says how often.
func TestWritesAreBackSoonAfterAKill(t *testing.T) {
	f, n := three(t, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	outage := f.NewOutage(f.Principal(n, "prober", workerGrant...), seed)
	load := f.Work(f.Principal(n, "worker", workerGrant...), 4, 50*time.Millisecond, f.Serving)
	calm := outage.Measure(f.Serving(), func() {})
	var all []time.Duration
	for range rounds("KILLS", 1) {
		names := f.Names()
		victim := f.Node(names[rng.IntN(len(names))])
		rest := slices.DeleteFunc(f.Serving(), func(n *Node) bool { return n == victim })
		took := outage.Measure(rest, victim.Process().Kill)
		all = append(all, took[len(took)-1])
		victim.Run("")
		f.AwaitSettled(3, time.Minute)
	}
	tally := load.Stop()
	slices.Sort(all)
	t.Logf("without a kill %v; %d kills: every shard takes writes after %v (median), %v (worst); load: %d requests, %d failed, slowest %v",
		calm[len(calm)-1], len(all), all[len(all)/2], all[len(all)-1], tally.Asked, len(tally.Failed), tally.Slowest)
	report(t, "wrong", append(tally.Wrong, load.Verify()...))
	if worst := all[len(all)-1]; worst > 10*time.Second {
		t.Errorf("writes were back after %v", worst)
	}
}

// report fails a test by what should not have happened.
func report(t *testing.T, what string, list []string) {
	t.Helper()
	if len(list) > 0 {
		t.Errorf("%d %s, the first of them:", len(list), what)
		for _, l := range list[:min(10, len(list))] {
			t.Error("  ", l)
		}
	}
}
