package placement_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/directory/directorytest"
	"cloakroom/cluster/placement"
)

// seen is what somebody sees who hears all nodes of v but the silent ones, and
// takes the dead ones for dead.
func seen(v *directory.View, silent, dead []string) placement.Sight {
	s := placement.Sight{Alive: map[string]bool{}, Dead: map[string]bool{}}
	for _, n := range v.Nodes {
		s.Alive[n.Name] = !slices.Contains(silent, n.Name) && !slices.Contains(dead, n.Name)
		s.Dead[n.Name] = slices.Contains(dead, n.Name)
	}
	return s
}

// fourth is a cluster of four settled nodes, the directory's fourth replica
// without a vote.
func fourth(t *testing.T) *directorytest.Walk {
	t.Helper()
	w := ward(t, 2, "n2", "n3", "n4")
	settle(t, w)
	n4, _ := w.View().Node("n4")
	if got := w.Apply(w.Add(w.View(), directory.DirectoryGroup, n4)); got.Code != directory.Done {
		t.Fatal(got)
	}
	return w
}

func TestOnlyTheDeadAreReplaced(t *testing.T) {
	w := fourth(t)
	on := loads(w.View())
	if got := settleAs(t, w, seen(w.View(), []string{"n2"}, nil)); got != nil {
		t.Errorf("n2 is silent: got %v", got)
	}
	dead := seen(w.View(), nil, []string{"n2"})
	got := settleAs(t, w, dead)
	if want := 1 + 2*on["n2"]; len(got) != want || got[0] != "directory off n2" {
		t.Errorf("n2 is dead: got %v, want %d steps, the directory's first", got, want)
	}
	for g := range w.View().Groups() {
		if slices.Contains(standing(w.View(), g), "n2") {
			t.Errorf("%s stands on %v", g, standing(w.View(), g))
		}
	}
	if again := settleAs(t, w, dead); again != nil {
		t.Errorf("got %v", again)
	}
}

func TestTheDeadStayWhereNobodyCanTakeTheirPlace(t *testing.T) {
	w := ward(t, 2, "n2", "n3")
	settle(t, w)
	if got := settleAs(t, w, seen(w.View(), nil, []string{"n3"})); got != nil {
		t.Errorf("got %v", got)
	}
}

// Whoever hears no majority of the nodes may be the one that is cut off.
func TestNothingIsDoneWithoutAMajorityOfNodes(t *testing.T) {
	w := fourth(t)
	w.Apply(&directory.Command{DrainNode: &directory.DrainNode{Name: "n1"}})
	if _, more := next(w.View()); !more {
		t.Fatal("nothing to do")
	}
	if step, more := placement.Next(w.View(), seen(w.View(), []string{"n2"}, []string{"n3"}), plenty); more {
		t.Errorf("got %+v", step)
	}
}

func TestADrainedNodeIsEmptied(t *testing.T) {
	w := fourth(t)
	w.Apply(&directory.Command{DrainNode: &directory.DrainNode{Name: "n1"}})
	v := w.View()
	// The directory's replica on n4 gets a vote first, then n1's leaves.
	limit, fits := placement.Votes(v, directory.DirectoryGroup)
	at := slices.IndexFunc(v.Directory.Replicas, func(r directory.ReplicaInfo) bool { return r.Node == "n4" })
	if rank, ok := fits(&v.Directory.Replicas[at]); limit != 4 || !ok || rank != 0 {
		t.Fatalf("limit %d, rank %d, %v", limit, rank, ok)
	}
	w.Apply(directorytest.Set(0, v.Directory.Replicas[at].ID, directory.Voter))
	got := settle(t, w)
	if got[0] != "directory off n1" || w.View().Holds("n1") != 0 {
		t.Errorf("got %v, it holds %d", got, w.View().Holds("n1"))
	}
	w.Apply(&directory.Command{DrainNode: &directory.DrainNode{Name: "n1", Cancel: true}})
	settle(t, w)
	if w.View().Holds("n1") == 0 {
		t.Error("nothing came back")
	}
}

func TestADrainWithNowhereToGoMovesNothing(t *testing.T) {
	w := ward(t, 2, "n2", "n3")
	settle(t, w)
	w.Apply(&directory.Command{DrainNode: &directory.DrainNode{Name: "n3"}})
	if got := settle(t, w); got != nil {
		t.Errorf("got %v", got)
	}
	w = fourth(t)
	w.Apply(&directory.Command{DrainNode: &directory.DrainNode{Name: "n3", LeadersOnly: true}})
	if got := settle(t, w); got != nil {
		t.Errorf("leads only: got %v", got)
	}
}

// Three nodes in one zone, then two more zones: every group spreads out.
func TestGroupsSpreadOverZonesThatComeLater(t *testing.T) {
	w := ward(t, 4, "a1", "a2", "b1", "c1")
	w.Apply(&directory.Command{RemoveNode: &directory.RemoveNode{Name: "n1"}})
	settle(t, w)
	v := w.View()
	for i := range v.Shards {
		zones := map[string]bool{}
		for _, name := range standing(v, directory.GroupID(i+1)) {
			n, _ := v.Node(name)
			zones[n.Zone] = true
		}
		if len(zones) != 3 {
			t.Errorf("shard %d stands on %v", i, standing(v, directory.GroupID(i+1)))
		}
	}
}

// Whatever the nodes lead: transfers end, nobody who drains leads what another
// could, and nobody leads two groups more than another who could lead one of
// them.
func TestLeadsComeIntoBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		for range rapid.IntRange(0, 40).Draw(t, "commands") {
			w.Feed(w.Draw(w.View()))
		}
		for range 60 {
			step, more := next(w.View())
			if !more {
				break
			}
			take(w, w.View(), step)
			ownReplicas(w)
			obey(t, w)
		}
		v := w.View()
		var silent []string
		if w.Choose(3) == 0 {
			silent = append(silent, v.Nodes[w.Choose(len(v.Nodes))].Name)
		}
		s, leads := seen(v, silent, nil), map[directory.GroupID]string{}
		for g := range v.Groups() {
			if voters := could(v, g, &s); len(voters) > 0 && w.Choose(8) > 0 {
				leads[g] = voters[w.Choose(len(voters))]
			}
		}
		for left := 300; ; left-- {
			step, more := placement.NextLead(v, s, leads, nil)
			if !more {
				break
			}
			if left == 0 {
				t.Fatalf("no end: %+v of %v", step, leads)
			}
			_, r, _ := v.Replica(step.Replica)
			if leads[step.Group] != step.From || r.Node != step.To || !slices.Contains(could(v, step.Group, &s), step.To) {
				t.Fatalf("%+v of %v", step, leads)
			}
			leads[step.Group] = step.To
		}
		fair(t, v, &s, leads)
	})
}

// could lists the nodes with a living voter of g.
func could(v *directory.View, g directory.GroupID, s *placement.Sight) (names []string) {
	group, _ := v.Group(g)
	for _, r := range group.Replicas {
		if r.State == directory.Voter && v.Lives(&r) && s.Alive[r.Node] {
			names = append(names, r.Node)
		}
	}
	return names
}

func fair(t *rapid.T, v *directory.View, s *placement.Sight, leads map[directory.GroupID]string) {
	count, still := map[string]int{}, true
	for _, node := range leads {
		count[node]++
	}
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for _, r := range group.Replicas {
			still = still && (r.State == directory.Voter || g == directory.DirectoryGroup && r.State == directory.Preparing)
		}
	}
	for g, node := range leads {
		n, _ := v.Node(node)
		for _, other := range could(v, g, s) {
			o, _ := v.Node(other)
			if o.State != directory.Member {
				continue
			}
			if n.State == directory.Draining || still && count[node] > count[other]+1 {
				t.Fatalf("%s leads %s, %s could: %v", node, g, other, count)
			}
		}
	}
}

// n1 leads three groups, n2 two and n3 one, and n3 could lead only what n2
// leads: two transfers make it even.
func TestLeadsMoveAlongAPath(t *testing.T) {
	w := directorytest.New(6, 1, func(int) int { return 0 })
	for _, name := range []string{"n2", "n3"} {
		w.Apply(w.Join(w.View(), name))
	}
	leads := map[directory.GroupID]string{}
	for g, who := range map[directory.GroupID]string{1: "n1 n2", 2: "n1 n2", 3: "n1 n2", 4: "n2 n3", 5: "n2 n3", 6: "n3"} {
		voters := strings.Fields(who)
		for _, name := range voters {
			if name != "n1" {
				n, _ := w.View().Node(name)
				w.Apply(w.Add(w.View(), g, n))
				group, _ := w.View().Group(g)
				w.Apply(directorytest.Set(g, group.Replicas[len(group.Replicas)-1].ID, directory.Voter))
			}
		}
		if voters[0] != "n1" {
			w.Apply(directorytest.Set(g, w.View().Shards[g-1].Replicas[0].ID, directory.Leaving))
			w.Apply(directorytest.Drop(g, w.View().Shards[g-1].Replicas[0].ID))
		}
		leads[g] = voters[0]
	}
	var hops []string
	for range 5 {
		step, more := placement.NextLead(w.View(), placement.Sight{}, leads, nil)
		if !more {
			break
		}
		hops = append(hops, step.From+step.To)
		leads[step.Group] = step.To
	}
	if want := []string{"n2n3", "n1n2"}; !slices.Equal(hops, want) {
		t.Errorf("got %v, want %v; %v", hops, want, slices.Sorted(maps.Values(leads)))
	}
	if step, more := placement.NextLead(w.View(), placement.Sight{}, map[directory.GroupID]string{1: "n1", 2: "n1"},
		map[directory.GroupID]bool{1: true, 2: true}); more {
		t.Errorf("shunned: got %+v", step)
	}
}
