package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/node"
	"cloakroom/node/api"
)

// openMany starts nodes of one cluster in this process and waits until each of
// its groups is on as many as it should be.
func openMany(t *testing.T, n int, change func(*node.Config)) []*house {
	t.Helper()
	var houses []*house
	for i := range n {
		houses = append(houses, open(t, beside(houses, fmt.Sprintf("n%d", i+1), "127.0.0.1:0", change)))
	}
	settle(t, houses)
	return houses
}

// beside makes the configuration of a node that joins those of other houses.
func beside(others []*house, name, listen string, change func(*node.Config)) func(*node.Config) {
	return func(cfg *node.Config) {
		cfg.Name, cfg.Network = name, &node.Network{Listen: listen}
		cfg.Memory.Limit, cfg.Shards = 64<<20, 4
		for _, h := range others {
			cfg.Beside = append(cfg.Beside, h.node)
		}
		if change != nil {
			change(cfg)
		}
	}
}

func settle(t *testing.T, houses []*house) {
	t.Helper()
	want := (min(len(houses), 3) - 1) / 2
	await(t, "every group is where it should be", func() bool {
		for _, h := range houses {
			health := h.node.Health()
			for _, g := range health.Groups {
				if !g.Settled || g.Tolerates < want {
					return false
				}
			}
			if !health.Ready {
				return false
			}
		}
		return true
	})
}

// await asks every few milliseconds, for half a minute at most.
func await(t *testing.T, what string, ask func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

func TestThreeNodesAreOneStore(t *testing.T) {
	nodes := openMany(t, 3, nil)
	d := nodes[1].deposit(ada, "Idempotency-Key", "k1")
	for i, h := range nodes {
		if again := h.deposit(ada, "Idempotency-Key", "k1"); again != d {
			t.Errorf("node %d: a retry made another subject", i+1)
		}
		p := h.resolve([]string{d.ID}, `["display_name"]`)
		if p.Subjects[d.ID]["display_name"] != "Ada Lovelace" {
			t.Errorf("node %d does not resolve what another took", i+1)
		}
	}
	nodes[0].call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"display_name":"Ada King"}}`).want(t, 200, "")
	if got := nodes[2].call("GET", "/v1/subjects/"+d.ID, "").want(t, 200, ""); !strings.Contains(got.body, "Ada King") {
		t.Error("a change is not seen by another node")
	}
	receipt := nodes[2].call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "").body
	for i, h := range nodes {
		h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 404, "not-found")
		if again := h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "").body; again != receipt {
			t.Errorf("node %d signs another receipt", i+1)
		}
	}
}

// A schema that was put at one node is in force at all as soon as a shard has
// heard of it, also for a caller that was authenticated before.
func TestASchemaIsInForceEverywhere(t *testing.T) {
	nodes := openMany(t, 3, nil)
	for epoch := 1; epoch <= 8; epoch++ {
		caller, err := nodes[1].node.Authenticate([]byte(allToken))
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"epoch":%d,"fields":[{"name":"display_name","type":"text","purposes":["display"],"max_retention":"%dh"}]}`, epoch, 8760+epoch)
		nodes[0].call("PUT", "/v1/schema", body).want(t, 200, "")
		for range 8 { // every shard hears of it
			nodes[0].deposit(`{"fields":{"display_name":"Grace Hopper"}}`)
		}
		for i := range 8 {
			deposit := &api.Deposit{Fields: []api.FieldValue{{Name: []byte("display_name"), Kind: api.String, Value: []byte("Ada")}}}
			if _, err := nodes[1].node.Deposit(t.Context(), &api.Request{Caller: caller}, deposit); err != nil {
				t.Fatalf("epoch %d, deposit %d at another node: %v", epoch, i, err)
			}
		}
	}
}

func TestANodeThatDiedComesBack(t *testing.T) {
	nodes := openMany(t, 3, nil)
	var ids []string
	for i := range 50 {
		ids = append(ids, nodes[i%3].deposit(ada).ID)
	}
	address := nodes[1].node.ClusterAddr()
	if err := nodes[1].node.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].node.Kill(); err != nil {
		t.Errorf("killed twice: %v", err)
	}
	rest := []*house{nodes[0], nodes[2]}
	erased := ids[0]
	rest[0].call("DELETE", "/v1/subjects/"+erased, "").want(t, 200, "")
	ids = append(ids[1:], rest[1].deposit(ada).ID)
	nodes[1] = open(t, beside(rest, "n2", address, nil))
	settle(t, nodes)
	if got := nodes[1].node.ClusterAddr(); got != address {
		t.Errorf("it came back at %s, was at %s", got, address)
	}
	p := nodes[1].resolve(append(ids, erased), `["display_name"]`)
	if len(p.Subjects) != len(ids) || len(p.Missing) != 1 {
		t.Errorf("it knows %d of %d subjects, and misses %d", len(p.Subjects), len(ids), len(p.Missing))
	}
	if got := nodes[1].node.Subjects(); got != len(ids) {
		t.Errorf("its own replicas hold %d subjects, want %d", got, len(ids))
	}
}

// Once the log is cut, a node that comes back gets its shards as snapshots,
// and takes none that is not sealed and signed.
func TestANodeThatComesBackIsSentSealedSnapshots(t *testing.T) {
	change := func(cfg *node.Config) { cfg.Shards, cfg.LogBudget = 1, 1<<20 }
	nodes := openMany(t, 3, change)
	const fresh = "\ncloakroom_snapshots_opened_total 0\n"
	cut := func() bool {
		return !strings.Contains(nodes[0].call("GET", "/metrics", "").body, "\ncloakroom_shard_snapshots_total{shard=\"0\"} 0\n")
	}
	large := `{"fields":{"address":{"street":"` + strings.Repeat("Long Street ", 300) + `"}}}`
	var ids []string
	for !cut() {
		if len(ids) > 2000 {
			t.Fatal("2000 large values have not cut the log")
		}
		for range 20 {
			ids = append(ids, nodes[0].deposit(large).ID)
		}
	}
	address := nodes[1].node.ClusterAddr()
	if err := nodes[1].node.Kill(); err != nil {
		t.Fatal(err)
	}
	nodes[1] = open(t, beside([]*house{nodes[0], nodes[2]}, "n2", address, change))
	settle(t, nodes)
	page := nodes[1].call("GET", "/metrics", "").want(t, 200, "").body
	if strings.Contains(page, fresh) || !strings.Contains(page, "\ncloakroom_snapshots_opened_total ") {
		t.Error("it came back without a sealed snapshot")
	}
	if got := nodes[1].node.Subjects(); got != len(ids) {
		t.Errorf("its replica holds %d subjects, want %d", got, len(ids))
	}
	if p := nodes[1].resolve(ids[len(ids)-20:], `["address"]`); len(p.Subjects) != 20 {
		t.Errorf("%d of 20 subjects are answered", len(p.Subjects))
	}
}

// Two nodes of one name would count for one, and be two.
func TestTwoNodesOfOneName(t *testing.T) {
	nodes := openMany(t, 3, nil)
	cfg := node.DevConfig([]byte(allToken))
	cfg.KeepDumpable = true
	beside(nodes, "n2", "127.0.0.1:0", nil)(&cfg)
	n, err := node.New(t.Context(), cfg)
	if err == nil {
		n.Close()
		t.Fatal("a second n2 was taken in")
	}
	if !errors.Is(err, cloakroom.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	d := nodes[1].deposit(ada)
	if p := nodes[2].resolve([]string{d.ID}, `["email"]`); len(p.Subjects) != 1 {
		t.Error("the cluster suffered")
	}
}

// Without a majority nothing is promised, and what can't be answered is said
// to be: 503 means that nothing was done.
func TestWithoutAMajority(t *testing.T) {
	nodes := openMany(t, 3, func(cfg *node.Config) {
		cfg.Limits.Read, cfg.Limits.Request = 300*time.Millisecond, time.Second
	})
	d := nodes[0].deposit(ada)
	for _, h := range nodes[:2] {
		if err := h.node.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	last := nodes[2]
	var write answer
	await(t, "the last node has noticed", func() bool {
		write = last.call("POST", "/v1/subjects", ada)
		return write.problem() != "/problems/outcome-unknown" // what was on its way to the dead
	})
	write.want(t, 503, "unavailable")
	for _, g := range last.node.Health().Groups {
		if len(g.Voters) != 3 || g.Quorum != 2 {
			t.Errorf("%s: voters %v, quorum %d: who is not heard was left out", g.Name, g.Voters, g.Quorum)
		}
	}
	resolve := last.call("POST", "/v1/resolve", `{"ids":["`+d.ID+`"],"fields":["email"]}`).want(t, 503, "unavailable")
	if resolve.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	last.call("GET", "/v1/subjects/"+d.ID, "").want(t, 503, "unavailable")
	last.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 503, "unavailable")
	last.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"email":"a@example.org"}}`).want(t, 503, "unavailable")
	last.call("GET", "/readyz", "").want(t, 200, "")                        // it speaks of this node only
	await(t, "the last node tells that the majority is lost", func() bool { // two ticks after the deaths
		page := last.call("GET", "/metrics", "").body
		return strings.Contains(page, `cloakroom_shard_majority{shard="0"} 0`) && strings.Contains(page, `cloakroom_shard_majority{shard="directory"} 0`)
	})
	verbose := last.call("GET", "/readyz?verbose", "").want(t, 200, "").body
	if !strings.Contains(verbose, `"majority":false`) || strings.Contains(verbose, `"majority":true`) {
		t.Error("the verbose readiness does not tell of the lost majority")
	}
	if !strings.Contains(verbose, `"tolerates":0`) || strings.Contains(verbose, `"tolerates":1`) {
		t.Error("the verbose readiness does not tell")
	}
}

// A page of ids of which some shards lost their majority is answered for the
// others.
func TestSomeShardsCannotAnswer(t *testing.T) {
	change := func(cfg *node.Config) { cfg.Shards, cfg.Limits.Read = 8, 500*time.Millisecond }
	nodes := openMany(t, 5, change)
	var ids []string
	for range 60 {
		ids = append(ids, nodes[0].deposit(ada).ID)
	}
	// All shards are on the first three, which came first. What the first held
	// is spread over the others when it dies and comes back.
	if err := nodes[0].node.Kill(); err != nil {
		t.Fatal(err)
	}
	nodes[0] = open(t, beside(nodes[1:], "n1", "127.0.0.1:0", change))
	settle(t, nodes)
	held := map[string]int{} // shards, by pairs of nodes
	for _, g := range nodes[0].node.Health().Groups[1:] {
		slices.SortFunc(g.Voters, func(a, b node.Voter) int { return strings.Compare(a.Node, b.Node) })
		for i, a := range g.Voters {
			for _, b := range g.Voters[i+1:] {
				held[a.Node+b.Node]++
			}
		}
	}
	for i := range nodes { // two whose deaths stop some shards, not all
		for k := range nodes[:i] {
			name := fmt.Sprintf("n%dn%d", k+1, i+1)
			if held[name] == 0 || held[name] == 8 {
				continue
			}
			rest := slices.Delete(slices.Delete(slices.Clone(nodes), i, i+1), k, k+1)
			for _, dead := range []*house{nodes[i], nodes[k]} {
				if err := dead.node.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			somePage(t, rest[0], ids)
			return
		}
	}
	t.Fatalf("no two nodes hold some shards, and not all, together: %v", held)
}

func somePage(t *testing.T, h *house, ids []string) {
	t.Helper()
	await(t, "some ids are answered and some are unavailable", func() bool {
		a := h.call("POST", "/v1/resolve", `{"ids":["`+strings.Join(ids, `","`)+`"],"fields":["email"]}`)
		if a.status == 503 { // elections are under way
			return false
		}
		var p page
		a.want(t, 200, "").decode(t, &p)
		if len(p.Subjects)+len(p.Unavailable) != len(ids) || len(p.Missing) > 0 {
			t.Fatalf("%d subjects, %d unavailable, %d missing of %d", len(p.Subjects), len(p.Unavailable), len(p.Missing), len(ids))
		}
		return len(p.Subjects) > 0 && len(p.Unavailable) > 0 && a.header.Get("Retry-After") != ""
	})
}

func TestEveryDeclaredMetricIsExposed(t *testing.T) {
	nodes := openMany(t, 3, nil)
	h := nodes[0]
	h.resolve([]string{h.deposit(ada).ID}, `["email"]`)
	stranger, err := net.Dial("tcp", h.node.ClusterAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := io.WriteString(stranger, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "the handshake is refused", func() bool {
		return strings.Contains(h.call("GET", "/metrics", "").body, "\ncloakroom_cluster_refused_total{")
	})
	var page string
	for _, line := range []string{
		`cloakroom_requests_total{route="resolve",status="200"} 1`,
		`cloakroom_request_seconds_count{route="deposit"} 1`,
		`cloakroom_shard_tolerates{shard="directory"} 1`,
		`cloakroom_shard_tolerates{shard="3"} 1`,
		`cloakroom_shard_majority{shard="directory"} 1`,
		`cloakroom_shard_majority{shard="3"} 1`,
		`cloakroom_shard_leader_known{shard="0"} 1`,
		`cloakroom_nodes{alive="yes"} 3`,
		`cloakroom_clock_skew 0`,
	} {
		await(t, "there is a line "+line, func() bool { // a leader may be missing for a moment
			page = h.call("GET", "/metrics", "").want(t, 200, "").body
			return strings.Contains(page, "\n"+line)
		})
	}
	for _, desc := range node.MetricNames() {
		name := strings.Split(strings.TrimPrefix(desc, `Desc{fqName: "`), `"`)[0]
		if name == "cloakroom_hardening" {
			continue // the test process is not hardened
		}
		if !strings.Contains(page, "\n"+name) {
			t.Errorf("declared and never exposed: %s", name)
		}
	}
}

// A node that starts while its cluster can't take it in says so when its time
// is over, and leaves nothing behind.
func TestJoiningHasAnEnd(t *testing.T) {
	nodes := openMany(t, 3, nil)
	for _, h := range nodes[:2] {
		if err := h.node.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	cfg := node.DevConfig([]byte(allToken))
	cfg.KeepDumpable = true
	beside(nodes[2:], "n4", "127.0.0.1:0", nil)(&cfg)
	if n, err := node.New(ctx, cfg); err == nil {
		n.Close()
		t.Fatal("joined a cluster without a majority")
	}
}
