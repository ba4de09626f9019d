package node_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// Every write that carries a key is done once, whichever node its repetitions
// reach, and another body under the key is refused.
func TestARepetitionOnAnotherNodeDoesNothing(t *testing.T) {
	nodes := openMany(t, 3, nil)
	put := "/v1/subjects/0b8c3a52-6f0e-4f7e-9d8b-3f3a5f6b7c8d"
	patched := nodes[0].deposit(ada)
	for i, write := range []struct{ method, path, body, other string }{
		{"POST", "/v1/subjects", ada, `{"fields":{"email":"eve@example.org"}}`},
		{"POST", "/v1/subjects", `{"fields":{"email":"ada@example.org"},"ttl":"2h"}`, `{"fields":{"email":"ada@example.org"},"ttl":"3h"}`},
		{"PUT", put, ada, `{"fields":{"email":"eve@example.org"}}`},
		{"PATCH", put, `{"fields":{"email":"king@example.org"}}`, `{"fields":{"email":null}}`},
		{"PATCH", "/v1/subjects/" + patched.ID, `{"fields":{"email":null}}`, ada},
	} {
		key := []string{"Idempotency-Key", fmt.Sprintf("key-%d", i)}
		first := nodes[0].call(write.method, write.path, write.body, key...)
		if first.status/100 != 2 {
			t.Fatalf("%s: status %d %s", write.method, first.status, first.problem())
		}
		for range 2 {
			for k, h := range nodes {
				again := h.call(write.method, write.path, write.body, key...)
				if again.body != first.body || again.status != first.status && write.method != "PUT" || again.status/100 != 2 {
					t.Errorf("%s on node %d: %d, another answer: %v", write.method, k+1, again.status, again.body != first.body)
				}
				h.call(write.method, write.path, write.other, key...).want(t, 422, "idempotency")
			}
		}
	}
	// A key is the caller's and one request's: a DELETE under that of a PATCH is another.
	nodes[1].call("PATCH", put, ada, "Idempotency-Key", "k").want(t, 200, "")
	nodes[2].call("DELETE", put, "", "Idempotency-Key", "k").want(t, 422, "idempotency")
	await(t, "four subjects are stored", func() bool { return nodes[0].node.Subjects() == 4 })
}

// A batch is repeated as a whole: what was done stays, under the same ids.
func TestABatchIsRepeatedOnAnotherNode(t *testing.T) {
	nodes := openMany(t, 3, nil)
	items := make([]string, 40)
	for i := range items {
		items[i] = fmt.Sprintf(`{"fields":{"display_name":"Person %d"}}`, i)
	}
	items[7] = `{"id":"0b8c3a52-6f0e-4f7e-9d8b-3f3a5f6b7c8d","fields":{"display_name":"Chosen"}}`
	body := `{"subjects":[` + strings.Join(items, ",") + `]}`
	first := nodes[0].call("POST", "/v1/subjects/batch", body, "Idempotency-Key", "b1").want(t, 200, "")
	for k, h := range nodes {
		if again := h.call("POST", "/v1/subjects/batch", body, "Idempotency-Key", "b1").want(t, 200, ""); again.body != first.body {
			t.Errorf("node %d answers the repetition otherwise", k+1)
		}
	}
	// Another body under the key: no item is written over.
	var out struct {
		Results []struct{ Problem struct{ Type string } }
	}
	other := strings.ReplaceAll(body, "Person", "Nobody")
	nodes[1].call("POST", "/v1/subjects/batch", other, "Idempotency-Key", "b1").want(t, 200, "").decode(t, &out)
	for i, r := range out.Results {
		if r.Problem.Type != "/problems/idempotency" {
			t.Fatalf("item %d: %q, want idempotency", i, r.Problem.Type)
		}
	}
	await(t, "each is stored once", func() bool { return nodes[0].node.Subjects() == len(items) })
}

// ending is how a write that met a failover may end: done, or one of the two
// refusals that tell a client what it may do.
func ending(t *testing.T, what string, a answer) (done bool) {
	t.Helper()
	switch {
	case a.status/100 == 2:
		return true
	case a.status == 503 || a.status == 504 && a.problem() == "/problems/outcome-unknown":
		return false
	}
	t.Errorf("%s: %d %s", what, a.status, a.problem())
	return false
}

// Leaders die while writes are on their way. Each is repeated on whichever
// node until it is acknowledged, and was done exactly once.
func TestWritesAreDoneOnceWhenLeadersDie(t *testing.T) {
	nodes := openMany(t, 3, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dies := rand.New(rand.NewPCG(seed, 1)).IntN(3)
	rest := []*house{nodes[(dies+1)%3], nodes[(dies+2)%3]}
	const writers = 8
	var wait sync.WaitGroup
	created := make([][]string, writers)
	begun := make(chan struct{}, writers*100)
	for w := range writers {
		wait.Go(func() {
			for n := range 40 {
				key := fmt.Sprintf("w%d-%d", w, n)
				body := fmt.Sprintf(`{"fields":{"display_name":"Person %s"}}`, key)
				created[w] = append(created[w], writeOnce(t, rest, "POST", "/v1/subjects", body, key))
				begun <- struct{}{}
			}
		})
	}
	for range writers * 10 {
		<-begun
	}
	if err := nodes[dies].node.Kill(); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	ids := map[string]bool{}
	for w := range created {
		for n, id := range created[w] {
			ids[id] = true
			want := fmt.Sprintf("Person w%d-%d", w, n)
			if p := rest[n%2].resolve([]string{id}, `["display_name"]`); p.Subjects[id]["display_name"] != want {
				t.Errorf("%s is not served", want)
			}
		}
	}
	if len(ids) != writers*40 {
		t.Errorf("%d ids, want %d", len(ids), writers*40)
	}
	await(t, "each is stored once", func() bool { return rest[0].node.Subjects() == len(ids) })
}

// writeOnce repeats a write with its key on alternating nodes until it is
// acknowledged, and returns the id.
func writeOnce(t *testing.T, nodes []*house, method, path, body, key string) string {
	for try := range 50 {
		a := nodes[try%len(nodes)].call(method, path, body, "Idempotency-Key", key)
		if ending(t, method, a) {
			var d deposited
			if err := json.Unmarshal([]byte(a.body), &d); err != nil {
				t.Errorf("%s: %v", method, err)
			}
			return d.ID
		}
	}
	t.Errorf("%s: never acknowledged", method)
	return ""
}

// The other writes through a failover: each changes its subject once, which a
// version shows, and an erasure leaves one mark.
func TestChangesAreDoneOnceWhenTheirLeaderDies(t *testing.T) {
	nodes := openMany(t, 3, nil)
	d := nodes[0].deposit(ada)
	path := "/v1/subjects/" + d.ID
	dies := 0
	for i, h := range nodes {
		if h.node.Leads(nodes[0].node.ShardOf(d.ID)) {
			dies = i
		}
	}
	rest := []*house{nodes[(dies+1)%3], nodes[(dies+2)%3]}
	if err := nodes[dies].node.Kill(); err != nil {
		t.Fatal(err)
	}
	writeOnce(t, rest, "PUT", path, `{"fields":{"display_name":"Ada","email":"a@example.org"}}`, "k1")
	version := func(key, method, body string) string {
		a := rest[0].call(method, path, body, "Idempotency-Key", key).want(t, 200, "")
		var out deposited
		a.decode(t, &out)
		return out.Version
	}
	v := version("k1", "PUT", `{"fields":{"display_name":"Ada","email":"a@example.org"}}`)
	writeOnce(t, rest, "PATCH", path, `{"fields":{"email":null}}`, "k2")
	if w := version("k2", "PATCH", `{"fields":{"email":null}}`); w == v {
		t.Error("the patch changed nothing")
	}
	writeOnce(t, rest, "DELETE", path, "", "k3")
	rest[1].call("PATCH", path, `{"fields":{"email":null}}`, "Idempotency-Key", "k2").want(t, 409, "erased")
	await(t, "no replica has it any more", func() bool { return rest[0].node.Subjects()+rest[1].node.Subjects() == 0 })
}
