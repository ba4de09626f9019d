//go:build linux

package hosts

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// deposit has the nodes take so many subjects, in batches.
func (f *Fleet) deposit(t *testing.T, token string, subjects int) {
	t.Helper()
	const batch = 5000
	client, nodes := f.Client(), f.Serving()
	defer client.CloseIdleConnections()
	client.Timeout = 2 * time.Minute
	var all sync.WaitGroup
	work := make(chan int)
	for range 4 {
		all.Go(func() { // ends when work is closed
			for from := range work {
				var body strings.Builder
				body.WriteString(`{"subjects":[`)
				for i := from; i < min(from+batch, subjects); i++ {
					fmt.Fprintf(&body, `{"fields":{"display_name":"Person %d"}},`, i)
				}
				text := strings.TrimSuffix(body.String(), ",") + "]}"
				if a := ask(client, token, nodes[from/batch%len(nodes)], "POST", "/v1/subjects/batch", text); a.code != 200 {
					t.Errorf("deposit %d subjects: %v", batch, a)
				}
			}
		})
	}
	for from := 0; from < subjects; from += batch {
		work <- from
	}
	close(work)
	all.Wait()
}

// A fourth node joins three with many subjects, under load: replicas and leads
// are spread over four soon, and no request fails. SUBJECTS says how many.
func TestAFourthNodeJoinsUnderLoad(t *testing.T) {
	subjects := rounds("SUBJECTS", 0)
	if subjects == 0 {
		t.Skip("SUBJECTS is not set; TestThreeMachines has a fourth join, too")
	}
	f := NewFleet(t, program(t, ""), nil)
	f.More = "memory: { limit: 1GiB, lock: off }"
	n1 := f.Found("n1")
	f.Join(n1, "n2", "n3")
	f.AwaitSettled(3, time.Minute)
	token := f.Principal(n1, "worker", workerGrant...)
	begun := time.Now()
	f.deposit(t, token, subjects)
	t.Logf("%d subjects in %v", subjects, time.Since(begun))
	load := f.Work(token, 4, 20*time.Millisecond, f.Serving)
	load.awaitRequests(t, 50)
	at := load.fine(t, "at rest", Tally{})
	begun = time.Now()
	f.Join(n1, "n4")
	t.Logf("the fourth is ready after %v", time.Since(begun))
	Await(t, 3*time.Minute, func() error { return n1.Balanced("n1", "n2", "n3", "n4") })
	t.Logf("balanced after %v", time.Since(begun))
	load.fine(t, "a fourth node joins", at)
	tally := load.Stop()
	t.Logf("slowest request %v", tally.Slowest)
	report(t, "wrong", append(tally.Wrong, load.Verify()...))
}

// Nodes come and go many times; what a node that stayed has open and locked is
// what it was. COMINGS says how often.
func TestComingAndGoingLeavesNothingBehind(t *testing.T) {
	comings := rounds("COMINGS", 0)
	if comings == 0 {
		t.Skip("COMINGS is not set")
	}
	f, n1 := three(t, nil)
	token := f.Principal(n1, "worker", workerGrant...)
	f.deposit(t, token, 1000)
	measure := func() Resources {
		r, err := n1.Resources()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := Resources{}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range comings {
		victim := f.Node(fmt.Sprintf("n%d", 2+rng.IntN(2)))
		if err := victim.Process().Stop(30 * time.Second); err != nil {
			t.Fatal(err)
		}
		victim.Run("")
		f.AwaitSettled(3, time.Minute)
		if i == 0 { // what is made once is made by then
			first = measure()
		}
	}
	Await(t, time.Minute, func() error {
		now := measure()
		if now.Threads > first.Threads+8 || now.Descriptors > first.Descriptors+8 || now.Locked > first.Locked {
			return fmt.Errorf("at first %+v, now %+v", first, now)
		}
		t.Logf("at first %+v, now %+v", first, now)
		return nil
	})
}
