package placement_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/directory/directorytest"
	"cloakroom/cluster/placement"
)

func walk(t *rapid.T) *directorytest.Walk {
	choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
	return directorytest.New(1+choose(4), 1+2*choose(2), choose)
}

// standing lists the nodes whose replicas of g are not leaving.
func standing(v *directory.View, g directory.GroupID) []string {
	group, _ := v.Group(g)
	var on []string
	for _, r := range group.Replicas {
		if r.State != directory.Leaving {
			on = append(on, r.Node)
		}
	}
	return on
}

// lost reports whether no voter of g lives.
func lost(v *directory.View, g directory.GroupID) bool {
	group, _ := v.Group(g)
	return !slices.ContainsFunc(group.Replicas, func(r directory.ReplicaInfo) bool {
		n, _ := v.Node(r.Node)
		return r.State == directory.Voter && n.Life == r.Life
	})
}

func full(v *directory.View, g directory.GroupID) bool {
	group, _ := v.Group(g)
	return len(group.Replicas) == directory.MaxReplicas
}

// plenty is a limit of installs that nothing meets.
const plenty = 1 << 10

// next is what is to be done where everybody is alive.
func next(v *directory.View) (placement.Step, bool) {
	return placement.Next(v, placement.Sight{}, plenty)
}

// take carries out one step.
func take(w *directorytest.Walk, v *directory.View, step placement.Step) directory.Result {
	if step.Kind == placement.Leave {
		cmd := directorytest.Set(step.Group, step.Replica, directory.Leaving)
		cmd.SetReplica.Seen = step.Seen
		return w.Apply(cmd)
	}
	cmd := w.Add(v, step.Group, directory.NodeInfo{Name: step.Node, Life: step.Life})
	cmd.AddReplica.Seen = step.Seen
	return w.Apply(cmd)
}

// obey does what the leaders of the groups do: members that leave are dropped,
// and whoever is to vote does.
func obey(t *rapid.T, w *directorytest.Walk) {
	for g := range w.View().Groups() {
		group, _ := w.View().Group(g)
		if lost(w.View(), g) {
			continue
		}
		for _, r := range group.Replicas {
			if r.State == directory.Leaving {
				w.Apply(directorytest.Drop(g, r.ID))
			}
		}
		limit, fits := placement.Votes(w.View(), g)
		group, _ = w.View().Group(g)
		var waiting []directory.ReplicaInfo
		voters := 0
		for _, r := range group.Replicas {
			if r.State == directory.Voter {
				voters++
			} else if _, ok := fits(&r); ok {
				waiting = append(waiting, r)
			}
		}
		slices.SortStableFunc(waiting, func(x, y directory.ReplicaInfo) int {
			a, _ := fits(&x)
			b, _ := fits(&y)
			return a - b
		})
		for _, r := range waiting[:min(len(waiting), max(0, limit-voters))] {
			if got := w.Apply(directorytest.Set(g, r.ID, directory.Voter)); got.Code != directory.Done {
				t.Fatalf("promote %s: %+v", r.ID, got)
			}
		}
	}
}

// ownReplicas has every node bring a replica of the directory, as joiners do.
func ownReplicas(w *directorytest.Walk) {
	for _, n := range w.View().Nodes {
		if n.Seated() && !slices.Contains(standing(w.View(), directory.DirectoryGroup), n.Name) {
			w.Apply(w.Add(w.View(), directory.DirectoryGroup, n))
		}
	}
}

// open lists the nodes that should hold replicas.
func open(v *directory.View) (names []string) {
	for _, n := range v.Nodes {
		if n.Seated() && !n.Emptying() {
			names = append(names, n.Name)
		}
	}
	return names
}

// From any view that commands lead to, step after step is accepted, they end,
// and then every group that can change has what it should have, nothing is left
// on nodes that are drained and could be, and no node holds two more replicas
// than another.
func TestStepsLeadFromAnyViewToBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		for range rapid.IntRange(0, 80).Draw(t, "commands") {
			w.Feed(w.Draw(w.View()))
		}
		installs := 1 + w.Choose(3)
		for left := 400; ; left-- {
			if left == 0 {
				t.Fatalf("no end: %+v %+v %+v", w.View().Nodes, w.View().Directory, w.View().Shards)
			}
			if w.Choose(2) == 0 {
				ownReplicas(w)
			}
			v := w.View()
			step, more := placement.Next(v, placement.Sight{}, installs)
			if again, alike := placement.Next(v, placement.Sight{}, installs); again != step || alike != more {
				t.Fatalf("got %+v, then %+v", step, again)
			}
			if more {
				if got := take(w, v, step); got.Code != directory.Done {
					t.Fatalf("%+v was refused: %+v", step, got)
				}
				if step.Kind == placement.Add && installing(w.View(), step.Node) > installs && step.Group != directory.DirectoryGroup {
					t.Fatalf("%+v: %d are made there", step, installing(w.View(), step.Node))
				}
			}
			if more && w.Choose(3) > 0 {
				continue
			}
			before := w.View().Epoch
			ownReplicas(w)
			obey(t, w)
			if !more && w.View().Epoch == before {
				break
			}
		}
		balanced(t, w.View())
	})
}

// installing counts the replicas of shards that are being made on a node.
func installing(v *directory.View, node string) (n int) {
	for i, shard := range v.Shards {
		for _, r := range shard.Replicas {
			if r.Node == node && r.State == directory.Preparing && !lost(v, directory.GroupID(i+1)) {
				n++
			}
		}
	}
	return n
}

// balanced checks that nothing is left to wish for.
func balanced(t *rapid.T, v *directory.View) {
	load, anyLost := map[string]int{}, false
	for _, name := range open(v) {
		load[name] = 0
	}
	for g := range v.Groups() {
		if lost(v, g) || full(v, g) {
			anyLost = true
			continue
		}
		group, _ := v.Group(g)
		voters := []string{}
		for _, r := range group.Replicas {
			if r.State == directory.Voter {
				voters = append(voters, r.Node)
			} else if g != directory.DirectoryGroup || r.State == directory.Leaving {
				t.Fatalf("%s: left over: %+v", g, r)
			}
		}
		if len(voters) != v.Wanted() {
			t.Fatalf("%s votes on %v, want %d", g, voters, v.Wanted())
		}
		for _, name := range voters {
			if !slices.Contains(open(v), name) && len(open(v)) >= v.Wanted() {
				t.Fatalf("%s votes on %s, which is to be empty", g, name)
			}
			if _, counts := load[name]; counts && g != directory.DirectoryGroup {
				load[name]++
			}
		}
	}
	if anyLost || len(load) == 0 {
		return
	}
	loads := slices.Sorted(maps.Values(load))
	if len(load) > v.Wanted() && loads[len(loads)-1]-loads[0] > 1 {
		t.Fatalf("out of balance: %v", load)
	}
}

// drive lets somebody who knows the view v do one thing that is to be done in
// it, as the leaders of the groups and of the directory do.
func drive(w *directorytest.Walk, v *directory.View) {
	var due []*directory.Command
	if step, more := next(v); more {
		cmd := directorytest.Set(step.Group, step.Replica, directory.Leaving)
		if step.Kind == placement.Add {
			cmd = w.Add(v, step.Group, directory.NodeInfo{Name: step.Node, Life: step.Life})
			cmd.AddReplica.Seen = step.Seen
		} else {
			cmd.SetReplica.Seen = step.Seen
		}
		due = append(due, cmd)
	}
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for _, r := range group.Replicas {
			switch {
			case lost(v, g): // no leader, nobody does anything
			case r.State == directory.Preparing:
				due = append(due, directorytest.Set(g, r.ID, directory.Voter))
			case r.State == directory.Leaving:
				due = append(due, directorytest.Drop(g, r.ID))
			}
		}
	}
	if len(due) > 0 {
		w.Apply(due[w.Choose(len(due))])
	}
}

// Several drivers with views of their own, as old as they come, nodes that
// start anew, commands that arrive late or twice: once that ends, the cluster
// gets whole, and nothing is left that is leaving.
func TestDriversWithOldViewsGetTheClusterWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		known := []*directory.View{w.View(), w.View(), w.View()} // one per driver
		for range rapid.IntRange(0, 150).Draw(t, "moments") {
			who := w.Choose(len(known))
			switch w.Choose(8) {
			case 0, 1:
				known[who] = w.View()
			case 2:
				w.Apply(w.Join(w.View(), fmt.Sprintf("n%d", 1+w.Choose(4))))
			case 3:
				w.Feed(w.Fed[w.Choose(len(w.Fed))]) // late or twice
			default:
				drive(w, known[who])
			}
		}
		for left := 40 * directory.MaxReplicas; !whole(w.View()); left-- {
			if left == 0 {
				t.Fatalf("not whole: %+v %+v", w.View().Directory, w.View().Shards)
			}
			drive(w, w.View())
		}
	})
}

// whole reports whether every group that is not lost has as many voters as it
// should, all alive, and nothing else.
func whole(v *directory.View) bool {
	wanted := v.Wanted()
	for g := range v.Groups() {
		if lost(v, g) {
			continue
		}
		group, _ := v.Group(g)
		voters := 0
		for _, r := range group.Replicas {
			if r.State != directory.Voter || !v.Lives(&r) {
				return false
			}
			voters++
		}
		if voters < wanted {
			return false
		}
	}
	return true
}

// ward is a cluster of n1 and nodes named like "a1": zone and number. Zone n is
// none.
func ward(t *testing.T, shards int, names ...string) *directorytest.Walk {
	t.Helper()
	w := directorytest.New(shards, 3, func(int) int { return 0 })
	for _, name := range names {
		cmd := w.Join(w.View(), name)
		cmd.PutNode.Node.Zone = name[:1]
		if name[0] == 'n' {
			cmd.PutNode.Node.Zone = ""
		}
		if got := w.Apply(cmd); got.Code != directory.Done {
			t.Fatalf("join %s: %+v", name, got)
		}
	}
	return w
}

// settle takes steps until none is left, promotes what they add and drops what
// they have leave.
func settle(t *testing.T, w *directorytest.Walk) (taken []string) {
	t.Helper()
	return settleAs(t, w, placement.Sight{})
}

// settleAs is settle as one does who sees s.
func settleAs(t *testing.T, w *directorytest.Walk, s placement.Sight) (taken []string) {
	t.Helper()
	for range 200 {
		v := w.View()
		step, more := placement.Next(v, s, plenty)
		if !more {
			return taken
		}
		if got := take(w, v, step); got.Code != directory.Done {
			t.Fatalf("%+v: %+v", step, got)
		}
		if step.Kind == placement.Leave {
			_, r, _ := v.Replica(step.Replica)
			w.Apply(directorytest.Drop(step.Group, step.Replica))
			taken = append(taken, fmt.Sprintf("%s off %s", step.Group, r.Node))
			continue
		}
		group, _ := w.View().Group(step.Group)
		w.Apply(directorytest.Set(step.Group, group.Replicas[len(group.Replicas)-1].ID, directory.Voter))
		taken = append(taken, fmt.Sprintf("%s on %s", step.Group, step.Node))
	}
	t.Fatalf("no end: %v", taken)
	return nil
}

func TestThreeNodesHoldEveryGroup(t *testing.T) {
	w := ward(t, 2)
	if got := settle(t, w); got != nil {
		t.Fatalf("one node: got %v", got)
	}
	w.Apply(w.Join(w.View(), "n2"))
	if got, want := settle(t, w), []string{"directory on n2", "shard 0 on n2", "shard 1 on n2"}; !slices.Equal(got, want) {
		t.Fatalf("two nodes: got %v, want %v", got, want)
	}
	w.Apply(w.Join(w.View(), "n3"))
	if got, want := settle(t, w), []string{"directory on n3", "shard 0 on n3", "shard 1 on n3"}; !slices.Equal(got, want) {
		t.Fatalf("three nodes: got %v, want %v", got, want)
	}
	w.Apply(w.Join(w.View(), "n4"))
	if got, want := settle(t, w), []string{"shard 0 on n4", "shard 0 off n3"}; !slices.Equal(got, want) {
		t.Fatalf("four nodes: got %v, want %v", got, want)
	}
	w.Apply(w.Join(w.View(), "n2")) // a new life: its old replicas are leaving, but for the directory's, which is in its folder
	if got, want := settle(t, w), []string{"shard 0 on n2", "shard 1 on n2"}; !slices.Equal(got, want) {
		t.Fatalf("after a restart: got %v, want %v", got, want)
	}
}

// n4 has the fewest replicas, but the one that is missing would be its second.
func TestTheLeastLoadedNodeIsPassedOverIfItHoldsOne(t *testing.T) {
	w := ward(t, 3, "n2", "n3")
	settle(t, w)
	w.Apply(w.Join(w.View(), "n4"))
	for _, name := range []string{"n2", "n3"} {
		group, _ := w.View().Group(1)
		at := slices.IndexFunc(group.Replicas, func(r directory.ReplicaInfo) bool { return r.Node == name && r.State == directory.Voter })
		w.Apply(directorytest.Set(1, group.Replicas[at].ID, directory.Leaving))
		if got, want := settle(t, w), map[string]string{"n2": "shard 0 on n4", "n3": "shard 0 on n2"}[name]; !slices.Equal(got, []string{want}) {
			t.Fatalf("without %s: got %v, want %s", name, got, want)
		}
	}
}

// A group without a leader can't remove what a restless node leaves behind.
func TestAFullGroupIsLeftAlone(t *testing.T) {
	w := ward(t, 1, "n3")
	for range directory.MaxReplicas - 1 {
		step, more := next(w.View())
		if !more || step.Group != directory.DirectoryGroup {
			t.Fatalf("got %+v, %v", step, more)
		}
		take(w, w.View(), step)
		w.Apply(w.Join(w.View(), "n3"))
	}
	if step, more := next(w.View()); !more || step.Group != 1 {
		t.Errorf("got %+v, %v, want a step for shard 0", step, more)
	}
}

func TestOneReplicaIsEnoughIfTheSettingsSaySo(t *testing.T) {
	w := directorytest.New(2, 1, func(int) int { return 0 })
	w.Apply(w.Join(w.View(), "n2"))
	if got, want := settle(t, w), []string{"shard 0 on n2", "shard 0 off n1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestZonesCountWhenThereAreThree(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes []string
		want  []string // what the directory stands on after n1
	}{
		"two zones":          {[]string{"a1", "a2", "b1"}, []string{"a1", "a2"}},
		"three zones":        {[]string{"a1", "a2", "b1", "c1"}, []string{"a1", "b1"}},
		"some in no zone":    {[]string{"a1", "a2", "b1", "n3"}, []string{"a1", "a2"}},
		"no zone is one too": {[]string{"a1", "b1", "c1", "n0"}, []string{"a1", "b1"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := ward(t, 1, tt.nodes...)
			settle(t, w)
			if got, want := standing(w.View(), 0), append([]string{"n1"}, tt.want...); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// loads counts the replicas of shards on each node.
func loads(v *directory.View) map[string]int {
	load := map[string]int{}
	for i := range v.Shards {
		for _, name := range standing(v, directory.GroupID(i+1)) {
			load[name]++
		}
	}
	return load
}

func TestLoadIsSpread(t *testing.T) {
	w := ward(t, 16, "n2", "n3", "n4", "n5")
	settle(t, w)
	for name, n := range loads(w.View()) { // 16 shards × 3
		if n != 9 && n != 10 {
			t.Errorf("%s holds %d, want 9 or 10", name, n)
		}
	}
	if len(loads(w.View())) != 5 {
		t.Errorf("got %v", loads(w.View()))
	}
}

func TestALostGroupIsLeftAlone(t *testing.T) {
	w := ward(t, 2, "n2", "n3")
	v := w.View()
	for _, name := range []string{"n2", "n3"} { // all but shard 1
		for g := range directory.GroupID(2) {
			n, _ := v.Node(name)
			if got := w.Apply(w.Add(w.View(), g, n)); got.Code != directory.Done {
				t.Fatal(got)
			}
			group, _ := w.View().Group(g)
			w.Apply(directorytest.Set(g, group.Replicas[len(group.Replicas)-1].ID, directory.Voter))
		}
	}
	w.Apply(w.Join(w.View(), "n1"))
	if got, want := settle(t, w), []string{"directory on n1", "shard 0 on n1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !lost(w.View(), 2) {
		t.Error("shard 1 is not lost")
	}
}
