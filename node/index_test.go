package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
	"cloakroom/node/api"
)

const indexHeader = "Cloakroom-Index"

// indexOf returns the opened index of an answer.
func (h *house) indexOf(a answer) []cloakroom.Index {
	h.t.Helper()
	at, err := h.node.OpenIndex(a.header.Get(indexHeader))
	if err != nil || len(at) == 0 {
		h.t.Fatalf("the answer's index %q: %v, %v", a.header.Get(indexHeader), at, err)
	}
	return at
}

func TestEveryWriteAnswersAnIndexThatAnyNodeWaitsFor(t *testing.T) {
	nodes := openMany(t, 3, nil)
	id := "/v1/subjects/0b8c3a52-6f0e-4f7e-9d8b-3f3a5f6b7c8d"
	patch := func(name string) string { return `{"fields":{"display_name":"` + name + `"}}` }
	var last uint64
	for i, write := range []struct {
		method, body string
		status       int
	}{
		{"PUT", ada, 201}, {"PUT", patch("Ada 1"), 200}, {"PATCH", patch("Ada 2"), 200}, {"PATCH", `{"fields":{"display_name":null}}`, 200},
		{"DELETE", "", 200}, {"DELETE", "", 200},
	} {
		h, other := nodes[i%3], nodes[(i+1)%3]
		a := h.call(write.method, id, write.body).want(t, write.status, "")
		at := other.indexOf(a)
		if len(at) != 1 || at[0].Index <= last || at[0].Generation != 1 {
			t.Errorf("%s: index %v after %d", write.method, at, last)
		}
		last = at[0].Index
		text := a.header.Get(indexHeader)
		for _, level := range []string{"lease", "linearizable"} {
			for k, reader := range nodes {
				got := reader.call("GET", id, "", indexHeader, text, "Cloakroom-Consistency", level)
				switch {
				case write.method == "DELETE" && got.status != 404, write.method != "DELETE" && got.status != 200:
					t.Errorf("node %d, %s after %s: status %d", k+1, level, write.method, got.status)
				case strings.HasPrefix(write.body, `{"fields":{"display_name":"Ada `) && !strings.Contains(got.body, write.body[26:31]):
					t.Errorf("node %d, %s: %s is not seen", k+1, level, write.body)
				}
			}
		}
	}
	post := nodes[0].call("POST", "/v1/subjects", ada, indexHeader, nodes[2].node.SealIndex(cloakroom.Index{Shard: 1, Generation: 1, Index: 1})).want(t, 201, "")
	nodes[1].indexOf(post)
}

// A batch goes to many shards, and says of each how far it has come.
func TestABatchAnswersAnIndexOfEveryShard(t *testing.T) {
	nodes := openMany(t, 3, nil)
	items := make([]string, 64)
	for i := range items {
		items[i] = fmt.Sprintf(`{"fields":{"display_name":"Person %d"}}`, i)
	}
	a := nodes[0].call("POST", "/v1/subjects/batch", `{"subjects":[`+strings.Join(items, ",")+`]}`).want(t, 200, "")
	at := nodes[1].indexOf(a)
	var shards []cloakroom.ShardID
	for _, x := range at {
		shards = append(shards, x.Shard)
	}
	if !slices.Equal(shards, []cloakroom.ShardID{0, 1, 2, 3}) {
		t.Errorf("64 people are in shards %v", shards)
	}
	var out struct{ Results []deposited }
	a.decode(t, &out)
	ids := make([]string, len(out.Results))
	for i := range ids {
		ids[i] = out.Results[i].ID
	}
	for k, h := range nodes {
		if p := h.resolve(ids, `["display_name"]`, indexHeader, a.header.Get(indexHeader)); len(p.Subjects) != len(ids) {
			t.Errorf("node %d: %d of %d are seen", k+1, len(p.Subjects), len(ids))
		}
	}
}

// An index is as good as what it says: nobody makes one, alters one or brings
// one of another cluster, and nothing changes for the try.
func TestAForgedIndexIsRefused(t *testing.T) {
	nodes := openMany(t, 3, nil)
	stranger := open(t, nil)
	a := nodes[0].call("POST", "/v1/subjects", ada).want(t, 201, "")
	var d deposited
	a.decode(t, &d)
	good := a.header.Get(indexHeader)
	forged := []string{
		"x", "AAAA", strings.Repeat("A", 40), strings.Repeat("A", api.MaxIndexBytes), good + "A", good + "=", good[:len(good)-1], good[1:], good + good,
		stranger.call("POST", "/v1/subjects", ada).want(t, 201, "").header.Get(indexHeader),
	}
	for i := range good { // every character stands for something
		b := []byte(good)
		if b[i] = 'A'; good[i] == 'A' {
			b[i] = 'B'
		}
		forged = append(forged, string(b))
	}
	one := `{"fields":{"display_name":"Somebody Else"}}`
	path := "/v1/subjects/" + d.ID
	for i, text := range forged {
		h := nodes[i%3]
		for _, c := range []struct{ method, path, body string }{
			{"GET", path, ""}, {"POST", "/v1/resolve", `{"ids":["` + d.ID + `"],"fields":["email"]}`},
			{"PATCH", path, one}, {"PUT", path, one}, {"POST", "/v1/subjects", one}, {"POST", "/v1/subjects/batch", `{"subjects":[` + one + `]}`},
			{"DELETE", path, ""},
		} {
			refused := h.call(c.method, c.path, c.body, indexHeader, text).want(t, 400, "malformed")
			if !strings.Contains(refused.body, "Cloakroom-Index") || len(text) > 4 && strings.Contains(refused.body, text) {
				t.Fatalf("%s: the problem must name the header and not repeat it", c.method)
			}
		}
	}
	for _, h := range nodes {
		if p := h.resolve([]string{d.ID}, `["display_name"]`, indexHeader, good); p.Subjects[d.ID]["display_name"] != "Ada Lovelace" || h.node.Subjects() != 1 {
			t.Error("something changed")
		}
	}
}

// A history that was begun anew never comes to an old index: it is ignored.
func TestAnIndexOfAnotherGenerationIsIgnored(t *testing.T) {
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Limits.Read = time.Second })
	d := nodes[0].deposit(ada)
	path := "/v1/subjects/" + d.ID
	for _, h := range nodes { // without an index of its own generation a read may come too early
		await(t, "every replica has the deposit", func() bool { return h.call("GET", path, "").status == 200 })
	}
	all := func(generation uint32) string {
		var at []cloakroom.Index
		for shard := range 4 {
			at = append(at, cloakroom.Index{Shard: cloakroom.ShardID(shard), Generation: generation, Index: 1 << 40})
		}
		return nodes[1].node.SealIndex(at...)
	}
	for _, generation := range []uint32{0, 2, 1<<32 - 1} {
		for _, h := range nodes {
			h.call("GET", path, "", indexHeader, all(generation)).want(t, 200, "")
			h.call("PATCH", path, ada, indexHeader, all(generation)).want(t, 200, "")
			if p := h.resolve([]string{d.ID}, `["email"]`, indexHeader, all(generation)); len(p.Subjects) != 1 {
				t.Errorf("generation %d: not answered", generation)
			}
		}
	}
	// One of its own generation is waited for, which is what would happen above.
	nodes[0].call("GET", path, "", indexHeader, all(1)).want(t, 503, "unavailable")
	// One of a shard that there is not says nothing about those that there are.
	beyond := nodes[0].node.SealIndex(cloakroom.Index{Shard: 63, Generation: 1, Index: 1 << 40})
	nodes[2].call("GET", path, "", indexHeader, beyond).want(t, 200, "")
}

// The header has room for the longest index.
func TestTheLongestIndexFits(t *testing.T) {
	h := open(t, nil)
	var at []cloakroom.Index
	for shard := range cloakroom.MaxShards {
		at = append(at, cloakroom.Index{Shard: cloakroom.ShardID(shard), Generation: 1<<32 - 1, Index: 1<<64 - 1})
	}
	text := h.node.SealIndex(at...)
	if len(text) > api.MaxIndexBytes {
		t.Fatalf("%d bytes, want at most %d", len(text), api.MaxIndexBytes)
	}
	got, err := h.node.OpenIndex(text)
	if err != nil || !slices.Equal(got, at) {
		t.Errorf("opened: %v, %v", got, err)
	}
	if again := h.node.SealIndex(at[0]); again != h.node.SealIndex(at[0]) || again == h.node.SealIndex(at[1]) {
		t.Error("equal positions have equal texts, and others have others")
	}
}

func TestTheConsistencyHeader(t *testing.T) {
	nodes := openMany(t, 3, nil)
	d := nodes[0].deposit(ada)
	resolve := `{"ids":["` + d.ID + `"],"fields":["email"]}`
	for i, h := range nodes {
		for _, level := range []string{"lease", "linearizable"} {
			name := fmt.Sprintf("Ada %s %d", level, i)
			nodes[(i+1)%3].call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"display_name":"`+name+`"}}`, "Cloakroom-Consistency", level).want(t, 200, "")
			if p := h.resolve([]string{d.ID}, `["display_name"]`, "Cloakroom-Consistency", "linearizable"); p.Subjects[d.ID]["display_name"] != name {
				t.Errorf("node %d: a linearizable read misses what another node acknowledged", i+1)
			}
			h.call("POST", "/v1/resolve", resolve, "Cloakroom-Consistency", level).want(t, 200, "")
		}
		for _, level := range []string{"eventual", "Lease", "LINEARIZABLE", "lease,linearizable", ""} {
			for _, c := range []struct{ method, path, body string }{
				{"GET", "/v1/subjects/" + d.ID, ""}, {"POST", "/v1/resolve", resolve}, {"POST", "/v1/subjects", ada}, {"DELETE", "/v1/subjects/" + d.ID, ""},
			} {
				h.call(c.method, c.path, c.body, "Cloakroom-Consistency", level).want(t, 400, "malformed")
			}
		}
	}
	for i, h := range nodes {
		if got := h.node.Subjects(); got != 1 {
			t.Errorf("node %d: %d subjects, want the one of before", i+1, got)
		}
	}
}
