//go:build linux

package hosts

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"cloakroom/internal/history"
)

// trouble is a minority's: what happens to one of the nodes at a time. Each
// undoes itself in the end.
type trouble struct {
	name  string
	begin func(land *Land, n *Node, others []string)
	end   func(land *Land, n *Node, others []string)
}

func troubles() []trouble {
	nothing := func(*Land, *Node, []string) {}
	every := func(do func(land *Land, n, other string)) func(*Land, *Node, []string) {
		return func(land *Land, n *Node, others []string) {
			for _, other := range others {
				do(land, n.Name, other)
			}
		}
	}
	return []trouble{
		{"kill", func(_ *Land, n *Node, _ []string) { n.Process().Kill() }, func(_ *Land, n *Node, _ []string) { n.Run("") }},
		{"stop", func(_ *Land, n *Node, _ []string) { n.Process().Stop(time.Minute) }, func(_ *Land, n *Node, _ []string) { n.Run("") }}, //nolint:errcheck // it is run again anyway
		{"pause", func(_ *Land, n *Node, _ []string) { n.Process().Pause() }, func(_ *Land, n *Node, _ []string) { n.Process().Resume() }},
		{"cut", every((*Land).Cut), every((*Land).Heal)},
		{"cut out", every((*Land).CutOneWay), every((*Land).HealOneWay)},
		{"cut in", every(func(l *Land, n, other string) { l.CutOneWay(other, n) }), every(func(l *Land, n, other string) { l.HealOneWay(other, n) })},
		{"calm", nothing, nothing},
	}
}

// One node at a time is killed, stopped, paused or cut off, both ways or one,
// and comes back, while clients work. What was acknowledged stays, what was
// erased stays away, and every history has an order that explains it.
// CHAOS_TIME says for how long, CHAOS_SEED with which troubles.
func TestChaos(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("CHAOS_TIME"))
	if err != nil {
		limit = 5 * time.Second
	}
	seed, err := strconv.ParseUint(os.Getenv("CHAOS_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("CHAOS_SEED=%d", seed)
	land := NewLand(t)
	f, n1 := three(t, land)
	token := f.Principal(n1, "worker", workerGrant...)
	load := f.Work(token, 3, 50*time.Millisecond, f.Serving)
	rng := rand.New(rand.NewPCG(seed, 1))
	begun, histories, operations := time.Now(), 0, 0
	counts := map[string]int{}
	for time.Since(begun) < limit {
		hit := troubles()[rng.IntN(len(troubles()))]
		names := []string{"n1", "n2", "n3"}
		at := rng.IntN(3)
		victim := f.Node(names[at])
		others := append(names[:at:at], names[at+1:]...)
		stop, told := make(chan struct{}), make(chan *Tale)
		each := rng.Uint64()
		go func() { told <- f.Tell(token, each, 8, stop) }() // ends when stop is closed
		<-time.After(200 * time.Millisecond)
		hit.begin(land, victim, others)
		<-time.After(time.Duration(200+rng.IntN(4000)) * time.Millisecond)
		hit.end(land, victim, others)
		<-time.After(300 * time.Millisecond)
		close(stop)
		tale := <-told
		if faults := tale.Check(history.Bounds{Lease: 3 * time.Second}); len(faults) > 0 {
			t.Fatalf("history %d, %s of %s: %v", histories, hit.name, victim.Name, faults)
		}
		report(t, "strange answers", tale.Strange())
		histories, operations = histories+1, operations+len(tale.Operations())
		counts[hit.name]++
		f.AwaitSettled(3, time.Minute)
	}
	tally := load.Stop()
	t.Logf("%v: %v, %d histories with %d operations; load: %d requests of %d subjects, %d unanswered or refused, slowest %v",
		time.Since(begun).Round(time.Second), counts, histories, operations, tally.Asked, tally.Subjects, len(tally.Failed), tally.Slowest)
	report(t, "wrong", append(tally.Wrong, load.Verify()...))
}
