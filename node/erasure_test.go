package node_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
)

// ledger returns how many erasures the directory's replica here knows.
func (h *house) ledger() int {
	h.t.Helper()
	var s struct{ Ledger int }
	h.call("GET", "/v1/sys/status", "").want(h.t, 200, "").decode(h.t, &s)
	return s.Ledger
}

// Once an erasure is acknowledged no node serves the value, at any level,
// whichever node served it a moment before and whichever erased it.
func TestAnErasedValueIsServedNowhere(t *testing.T) {
	nodes := openMany(t, 3, nil)
	var took []time.Duration
	for i := range 30 {
		var d deposited
		made := nodes[i%3].call("POST", "/v1/subjects", ada).want(t, 201, "")
		made.decode(t, &d)
		path := "/v1/subjects/" + d.ID
		for _, h := range nodes { // every replica answers from memory
			if p := h.resolve([]string{d.ID}, `["email"]`, indexHeader, made.header.Get(indexHeader)); len(p.Subjects) != 1 {
				t.Fatalf("deposit %d is not served", i)
			}
		}
		whole := i%2 == 0
		began := time.Now()
		if whole {
			nodes[(i+1)%3].call("DELETE", path, "").want(t, 200, "")
		} else {
			nodes[(i+1)%3].call("PATCH", path, `{"fields":{"email":null}}`).want(t, 200, "")
		}
		took = append(took, time.Since(began))
		for k, h := range nodes {
			for _, level := range []string{"lease", "linearizable"} {
				p := h.resolve([]string{d.ID}, `["email"]`, "Cloakroom-Consistency", level)
				if p.Subjects[d.ID]["email"] != nil || whole != (len(p.Missing) == 1) {
					t.Fatalf("erasure %d: node %d still serves it at level %s", i, k+1, level)
				}
			}
		}
	}
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	t.Logf("an erasure takes %v on average", sum/time.Duration(len(took)))
}

// The ledger is what a restore goes by: an erasure stands in it before it is
// acknowledged, once, however often it is asked for.
func TestErasuresStandInTheLedger(t *testing.T) {
	nodes := openMany(t, 3, nil)
	d, other := nodes[0].deposit(ada), nodes[1].deposit(ada)
	known := func(want int) {
		t.Helper()
		for k, h := range nodes { // a follower of the directory may be a moment behind
			await(t, fmt.Sprintf("node %d knows of %d erasures, it says %d", k+1, want, h.ledger()), func() bool { return h.ledger() == want })
		}
	}
	erase := func(h *house) string {
		return h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "").body
	}
	receipt := erase(nodes[0])
	known(1)
	for _, h := range nodes {
		if erase(h) != receipt {
			t.Error("another receipt")
		}
	}
	known(1)
	patch := `{"fields":{"email":null,"phone":null,"display_name":"Ada King"}}`
	nodes[2].call("PATCH", "/v1/subjects/"+other.ID, patch, "Idempotency-Key", "k1").want(t, 200, "")
	known(3) // one for each field
	nodes[1].call("PATCH", "/v1/subjects/"+other.ID, patch, "Idempotency-Key", "k1").want(t, 200, "")
	known(3)
	// What is not an erasure leaves no trace there.
	nodes[0].call("PUT", "/v1/subjects/"+other.ID, `{"fields":{"email":"a@example.org"}}`).want(t, 200, "")
	nodes[0].call("PATCH", "/v1/subjects/"+other.ID, `{"fields":{"email":"b@example.org"}}`).want(t, 200, "")
	nodes[0].call("DELETE", "/v1/subjects/00000000-0000-4000-8000-000000000001", "").want(t, 404, "not-found")
	known(3)
}

// Whatever is written under an erased id on any node is refused, repetitions of
// what was written before included.
func TestNothingIsWrittenUnderAnErasedID(t *testing.T) {
	nodes := openMany(t, 3, nil)
	d := nodes[0].deposit(ada, "Idempotency-Key", "k1")
	path := "/v1/subjects/" + d.ID
	put := `{"fields":{"email":"king@example.org"}}`
	nodes[1].call("PUT", path, put, "Idempotency-Key", "k2").want(t, 200, "")
	nodes[2].call("PATCH", path, put, "Idempotency-Key", "k3").want(t, 200, "")
	receipt := nodes[1].call("DELETE", path, "", "Idempotency-Key", "k4").want(t, 200, "").body
	for i, h := range nodes {
		h.call("POST", "/v1/subjects", ada, "Idempotency-Key", "k1").want(t, 409, "erased")
		h.call("PUT", path, put, "Idempotency-Key", "k2").want(t, 409, "erased")
		h.call("PUT", path, put).want(t, 409, "erased")
		h.call("PATCH", path, put, "Idempotency-Key", "k3").want(t, 409, "erased")
		h.call("PATCH", path, `{"fields":{"email":null}}`).want(t, 409, "erased")
		batch := h.call("POST", "/v1/subjects/batch", `{"subjects":[{"id":"`+d.ID+`","fields":{"email":"king@example.org"}}]}`).want(t, 200, "")
		if !strings.Contains(batch.body, "/problems/erased") {
			t.Errorf("node %d: a batch writes under an erased id", i+1)
		}
		for _, key := range []string{"k4", "k5", ""} {
			headers := []string{"Idempotency-Key", key}
			if key == "" {
				headers = nil
			}
			if h.call("DELETE", path, "", headers...).want(t, 200, "").body != receipt {
				t.Errorf("node %d, key %q: another receipt", i+1, key)
			}
		}
	}
	await(t, "no subject lives", func() bool { return nodes[0].node.Subjects() == 0 })
}

// An erasure races with every kind of write, from every node. Each write ends
// before it or is refused: once it is acknowledged nothing is ever seen again.
func TestAnErasureRacesWithWrites(t *testing.T) {
	nodes := openMany(t, 3, nil)
	for round := range 12 {
		d := nodes[round%3].deposit(ada)
		path := "/v1/subjects/" + d.ID
		var race sync.WaitGroup
		stop := make(chan struct{})
		for i, h := range nodes {
			race.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					var a answer
					switch (n + i) % 3 {
					case 0:
						a = h.call("PUT", path, fmt.Sprintf(`{"fields":{"email":"p%d@example.org"}}`, n))
					case 1:
						a = h.call("PATCH", path, fmt.Sprintf(`{"fields":{"display_name":"Ada %d","email":null}}`, n))
					case 2:
						a = h.call("POST", "/v1/subjects/batch", fmt.Sprintf(`{"subjects":[{"id":"%s","fields":{"email":"b%d@example.org"}}]}`, d.ID, n))
					}
					if a.status != 200 && a.problem() != "/problems/erased" && a.problem() != "/problems/version" {
						t.Errorf("round %d: a write got %d %s", round, a.status, a.problem())
					}
				}
			})
		}
		receipts := make([]string, 3)
		var erasers sync.WaitGroup
		for i, h := range nodes { // all erase at once, and all get the one receipt
			erasers.Go(func() {
				receipts[i] = h.call("DELETE", path, "").want(t, 200, "").body
				for k, other := range nodes {
					if p := other.resolve([]string{d.ID}, `["display_name","email"]`); len(p.Missing) != 1 {
						t.Errorf("round %d: erased at node %d, and node %d serves it", round, i+1, k+1)
					}
				}
			})
		}
		erasers.Wait()
		close(stop)
		race.Wait()
		if receipts[0] != receipts[1] || receipts[1] != receipts[2] {
			t.Errorf("round %d: receipts differ", round)
		}
		for k, h := range nodes {
			if p := h.resolve([]string{d.ID}, `["display_name","email"]`); len(p.Missing) != 1 {
				t.Errorf("round %d: node %d serves it after the race", round, k+1)
			}
		}
	}
	await(t, "12 marks are all that is kept", func() bool {
		return nodes[0].node.Subjects() == 0 && nodes[0].node.Records() == 12
	})
}

// An erasure that could not be made final in time is outcome-unknown, never
// "nothing was done"; asking again completes it.
func TestAnErasureThatIsNotConfirmedIsUnknown(t *testing.T) {
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Limits.Request = 800 * time.Millisecond })
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = nodes[0].deposit(ada).ID
	}
	silent := follower(nodes)
	h := nodes[(silent+1)%3]
	erase := func(i int) answer { // every other one a field only
		if i%2 == 0 {
			return h.call("DELETE", "/v1/subjects/"+ids[i], "")
		}
		return h.call("PATCH", "/v1/subjects/"+ids[i], `{"fields":{"email":null}}`)
	}
	var killing, erasing sync.WaitGroup
	killing.Go(func() {
		if err := nodes[silent].node.Kill(); err != nil {
			t.Error(err)
		}
	})
	await(t, "the node is cut off", func() bool { return !reachable(nodes[silent].url) })
	answers := make([]answer, len(ids)) // its leases are good for seconds, and nobody knows how it is
	for i := range ids {
		erasing.Go(func() { answers[i] = erase(i) })
	}
	erasing.Wait()
	killing.Wait()
	unknown := 0
	for i, a := range answers {
		switch {
		case a.status == 503: // it led that shard: nothing was done
			continue
		case a.status != 504 || a.problem() != "/problems/outcome-unknown":
			t.Errorf("erasure %d: %d %s, want outcome-unknown", i, a.status, a.problem())
		}
		unknown++
		await(t, "the erasure is confirmed", func() bool { return erase(i).status == 200 })
		if p := h.resolve(ids[i:i+1], `["email"]`); p.Subjects[ids[i]]["email"] != nil {
			t.Errorf("erasure %d was confirmed, and the value is served", i)
		}
	}
	if unknown == 0 {
		t.Error("no erasure was left unknown")
	}
}

// reachable reports whether somebody takes connections there.
func reachable(url string) bool {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// follower returns the node that leads fewest shards.
func follower(nodes []*house) int {
	leads := make([]int, len(nodes))
	for i, h := range nodes {
		for shard := range 4 {
			if h.node.Leads(cloakroom.ShardID(shard)) {
				leads[i]++
			}
		}
	}
	least := 0
	for i := range leads {
		if leads[i] < leads[least] {
			least = i
		}
	}
	return least
}
