package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

func anyFits(*directory.ReplicaInfo) (int, bool) { return 0, true }

func TestMovesOneByOne(t *testing.T) {
	r := func(id string, s directory.ReplicaState) directory.ReplicaInfo {
		return directory.ReplicaInfo{ID: id, Address: "at-" + id, Node: "n-" + id, State: s}
	}
	m := func(id string, votes bool) replica.Member {
		return replica.Member{Identity: replica.Identity{ID: id, Addr: "at-" + id}, Voter: votes}
	}
	const p, v, l = directory.Preparing, directory.Voter, directory.Leaving
	for _, test := range []struct {
		name    string
		known   []directory.ReplicaInfo
		members []replica.Member
		want    string
	}{
		{"nothing to do", []directory.ReplicaInfo{r("a", v), r("b", v)}, []replica.Member{m("a", true), m("b", true)}, ""},
		{"a new one is added", []directory.ReplicaInfo{r("a", v), r("b", p)}, []replica.Member{m("a", true)}, "addition b;"},
		{"then promoted", []directory.ReplicaInfo{r("a", v), r("b", p)}, []replica.Member{m("a", true), m("b", false)}, "promotion b;"},
		{"then registered", []directory.ReplicaInfo{r("a", v), r("b", p)}, []replica.Member{m("a", true), m("b", true)}, "registration b;"},
		{"the dead go first", []directory.ReplicaInfo{r("a", v), r("b", v), r("c", l), r("d", p)},
			[]replica.Member{m("a", true), m("b", true), m("c", true), m("d", false)}, "removal c;"},
		{"and are forgotten", []directory.ReplicaInfo{r("a", v), r("c", l)}, []replica.Member{m("a", true)}, "dropping c;"},
		{"no more votes than wanted", []directory.ReplicaInfo{r("a", v), r("b", v), r("c", v), r("d", p)},
			[]replica.Member{m("a", true), m("b", true), m("c", true), m("d", false)}, ""},
		{"a member the directory does not know stays", []directory.ReplicaInfo{r("a", v)}, []replica.Member{m("a", true), m("x", true)}, ""},
	} {
		got := ""
		for _, move := range moves(&directory.GroupInfo{Replicas: test.known}, test.members, true, 3, anyFits) {
			got += fmt.Sprintf("%s %s;", move.kind, move.id.ID)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// A leader whose change of members was never committed must not have the
// directory forget who may still vote.
func TestNothingIsToldOfMembersNotCommitted(t *testing.T) {
	known := []directory.ReplicaInfo{{ID: "a", State: directory.Voter}, {ID: "b", State: directory.Preparing},
		{ID: "c", State: directory.Leaving}, {ID: "d", State: directory.Preparing}}
	members := []replica.Member{{Identity: replica.Identity{ID: "a"}, Voter: true}, {Identity: replica.Identity{ID: "b"}, Voter: true}}
	for committed, want := range map[bool]string{false: "addition d;", true: "dropping c;registration b;addition d;"} {
		got := ""
		for _, move := range moves(&directory.GroupInfo{Replicas: known}, members, committed, 3, anyFits) {
			got += fmt.Sprintf("%s %s;", move.kind, move.id.ID)
		}
		if got != want {
			t.Errorf("committed %v: got %q, want %q", committed, got, want)
		}
	}
}

// Whatever happens to nodes, the moves lead to three votes on three living
// nodes, and on the way no group ever has more votes than three.
func TestMovesLeadHome(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		known := []directory.ReplicaInfo{{ID: "r0", Node: "n0", State: directory.Voter}}
		members := []replica.Member{{Identity: replica.Identity{ID: "r0"}, Voter: true}}
		next := 1
		for step := 0; ; step++ {
			if step < 60 && rnd.IntN(3) == 0 {
				// A node comes back as a new life, or a replica is parked.
				if i := rnd.IntN(len(known)); voting(known) > 1 || known[i].State != directory.Voter {
					known[i].State = directory.Leaving
				}
			}
			held := map[string]bool{}
			for _, r := range known {
				held[r.Node] = held[r.Node] || r.State != directory.Leaving
			}
			for n := range 3 {
				if node := fmt.Sprint("n", n); !held[node] && rnd.IntN(2) == 0 {
					known = append(known, directory.ReplicaInfo{ID: fmt.Sprint("r", next), Node: node, State: directory.Preparing})
					next++
				}
			}
			all := moves(&directory.GroupInfo{Replicas: known}, members, true, 3, anyFits)
			if len(all) == 0 && len(known) == 3 && step >= 60 {
				break
			}
			if step > 300 {
				t.Fatalf("no end: %v, %v", known, members)
			}
			if len(all) > 0 {
				known, members = carriedOut(t, all[0], known, members)
			}
		}
		votes := 0
		for _, m := range members {
			if m.Voter {
				votes++
			}
		}
		if votes != 3 || voting(known) != 3 {
			t.Fatalf("%v, %v", known, members)
		}
	}
}

func voting(known []directory.ReplicaInfo) (n int) {
	for _, r := range known {
		if r.State == directory.Voter {
			n++
		}
	}
	return n
}

// carriedOut does what a leader does, and checks what must hold.
func carriedOut(t *testing.T, next move, known []directory.ReplicaInfo, members []replica.Member) ([]directory.ReplicaInfo, []replica.Member) {
	t.Helper()
	var nowKnown []directory.ReplicaInfo
	for _, r := range known {
		switch {
		case r.ID != next.id.ID || next.kind != drop && next.kind != settle:
			nowKnown = append(nowKnown, r)
		case next.kind == settle:
			r.State = directory.Voter
			nowKnown = append(nowKnown, r)
		}
	}
	var nowMembers []replica.Member
	votes := 0
	for _, m := range members {
		if m.ID == next.id.ID && next.kind == remove {
			continue
		}
		if m.ID == next.id.ID && next.kind == promote {
			m.Voter = true
		}
		if m.Voter {
			votes++
		}
		nowMembers = append(nowMembers, m)
	}
	if next.kind == add {
		nowMembers = append(nowMembers, replica.Member{Identity: next.id})
	}
	if votes < 1 || votes > 3 {
		t.Fatalf("%s of %s leaves %d votes", next.kind, next.id.ID, votes)
	}
	return nowKnown, nowMembers
}
