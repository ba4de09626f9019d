package directory_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/directory/directorytest"
)

func walk(t *rapid.T) *directorytest.Walk {
	choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
	return directorytest.New(1+choose(3), 1+2*choose(2), choose)
}

// written is what v says of nodes and replicas; the slots would cost too much.
func written(t *rapid.T, v *directory.View) string {
	data, err := json.Marshal([]any{v.Epoch, v.Nodes, v.JoinTokens, v.Directory, v.Shards})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func image(t *rapid.T, m *directory.Machine) []byte {
	var b bytes.Buffer
	if _, err := m.Snapshot().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// residents checks what must hold of nodes and replicas in every view, in
// words of its own: it shares no code with the machine.
func residents(t *rapid.T, v *directory.View) {
	lives := map[string]string{} // :: node → life
	names := []string{}
	for _, n := range v.Nodes {
		names = append(names, n.Name)
		if n.State == directory.Removed || n.State == directory.Pending {
			if n.Life != "" {
				t.Fatalf("lives without taking part: %+v", n)
			}
			lives[n.Name] = "none of " + n.Name
		} else {
			lives[n.Name] = cmp.Or(n.Life, "none of "+n.Name)
		}
		if got, ok := v.Node(n.Name); !ok || got != n {
			t.Fatalf("node %s: found %+v, %v", n.Name, got, ok)
		}
	}
	if len(lives) != len(names) || !slices.IsSorted(names) {
		t.Fatalf("nodes out of order: %v", names)
	}
	if len(slices.Compact(slices.Sorted(maps.Values(lives)))) != len(lives) {
		t.Fatalf("two nodes have one life: %v", lives)
	}
	identities := map[string]int{}
	replicas := 0
	for g := range directory.GroupID(len(v.Shards) + 1) {
		group, ok := v.Group(g)
		if !ok {
			t.Fatalf("%s is not there", g)
		}
		voters, standing := 0, map[string]int{}
		var strays []directory.ReplicaInfo
		for _, r := range group.Replicas {
			replicas++
			identities["id "+r.ID]++
			identities["at "+r.Address]++
			if in, got, ok := v.Replica(r.ID); !ok || in != g || got != r {
				t.Fatalf("by id %s: %s %+v, %v", r.ID, in, got, ok)
			}
			if in, got, ok := v.ReplicaAt(r.Address); !ok || in != g || got != r {
				t.Fatalf("by address %s: %s %+v, %v", r.Address, in, got, ok)
			}
			if r.State == directory.Leaving {
				continue
			}
			standing[r.Node]++
			if r.State == directory.Voter {
				voters++
			}
			if r.Durable {
				if g != directory.DirectoryGroup {
					t.Fatalf("%s: %+v", g, r)
				}
				if strings.HasPrefix(lives[r.Node], "none of ") && !joined(v, r.Node) {
					strays = append(strays, r)
				}
			} else if lives[r.Node] != r.Life {
				strays = append(strays, r)
			}
		}
		if voters == 0 {
			t.Fatalf("%s has no voter", g)
		}
		for name, n := range standing {
			if n > 1 {
				t.Fatalf("%s: %d replicas on %s", g, n, name)
			}
		}
		if len(strays) > 1 || len(strays) == 1 && (voters != 1 || strays[0].State != directory.Voter) {
			t.Fatalf("%s: of lives that are over: %+v", g, strays)
		}
	}
	if len(identities) != 2*replicas {
		t.Fatalf("identities are not unique: %v", identities)
	}
}

// joined reports whether a node takes part.
func joined(v *directory.View, name string) bool {
	n, _ := v.Node(name)
	return n.State == directory.Member || n.State == directory.Draining
}

// refounded checks that a group which began anew had lost all its voters, and
// has one that lives; their identities don't come again.
func refounded(t *rapid.T, from, to *directory.View, g directory.GroupID, gone map[string]bool) {
	group, _ := from.Group(g)
	next, _ := to.Group(g)
	for _, was := range group.Replicas {
		if n, _ := from.Node(was.Node); was.State != directory.Preparing && n.Life == was.Life {
			t.Fatalf("%s began anew, and %+v lived", g, was)
		}
		gone[was.ID] = true
	}
	if r := next.Replicas[0]; len(next.Replicas) != 1 || next.Generation != group.Generation+1 || r.State != directory.Voter || !to.Lives(&r) {
		t.Fatalf("%s began anew as %+v", g, next)
	}
}

// onwards checks that replicas only move forward from one view to the next,
// and that an identity or a life that went doesn't come again. gone collects
// those.
func onwards(t *rapid.T, from, to *directory.View, gone map[string]bool) {
	rank := map[directory.ReplicaState]int{directory.Preparing: 0, directory.Voter: 1, directory.Leaving: 2}
	for g := range from.Groups() {
		group, _ := from.Group(g)
		next, _ := to.Group(g)
		if same := slices.Equal(group.Replicas, next.Replicas); same && next.Changed != group.Changed || !same && next.Changed != to.Epoch {
			t.Fatalf("%s changed at epoch %d, then at %d", g, group.Changed, next.Changed)
		}
		if next.Generation != group.Generation {
			refounded(t, from, to, g, gone)
			continue
		}
		for _, was := range group.Replicas {
			_, is, ok := to.Replica(was.ID)
			if !ok {
				if was.State != directory.Leaving {
					t.Fatalf("%+v was dropped", was)
				}
				gone[was.ID] = true
				continue
			}
			if rank[is.State] < rank[was.State] {
				t.Fatalf("went back from %+v to %+v", was, is)
			}
			if was.State = is.State; was != is {
				t.Fatalf("changed from %+v to %+v", was, is)
			}
		}
	}
	for _, was := range from.Nodes {
		is, ok := to.Node(was.Name)
		switch {
		case !ok, is.Life == was.Life && was.Life != "" && (is.Address != was.Address || is.Boot != was.Boot || is.Key != was.Key),
			was.State == directory.Removed && is.State != directory.Removed && is.State != directory.Pending && !to.Settings.SinglePerson,
			was.Life != "" && is.Life == "" && is.State != directory.Removed:
			t.Fatalf("node %+v became %+v, %v", was, is, ok)
		case is.Life != was.Life && was.Life != "":
			gone[was.Life] = true
		}
	}
	for _, was := range from.JoinTokens {
		if is, ok := to.JoinToken(was.Hash); ok && was.UsedBy != "" && is != was {
			t.Fatalf("token %+v became %+v", was, is)
		}
	}
	for _, n := range to.Nodes {
		if n.Life != "" && gone[n.Life] {
			t.Fatalf("lives again: %+v", n)
		}
	}
	for id := range gone {
		if _, r, ok := to.Replica(id); ok {
			t.Fatalf("came again: %+v", r)
		}
	}
}

// Whatever is sent, by whoever knows whichever view, in time or late, twice or
// nonsensical: the invariants hold, and refusals change nothing.
func TestRandomHistoriesKeepTheInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		old := w.View() // as somebody else still sees it
		gone := map[string]bool{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			if w.Choose(3) == 0 {
				old = w.View()
			}
			before := w.View()
			text := written(t, before)
			data := w.Draw(old)
			got := w.Feed(data)
			after := w.View()
			epochs := uint64(1)
			if bytes.Contains(data, []byte(`"record_erasures"`)) {
				epochs = 0
			}
			switch {
			case got.Code == directory.Done && after.Epoch != before.Epoch+epochs,
				epochs == 0 && after != before,
				got.Code != directory.Done && after != before,
				got.Epoch != after.Epoch:
				t.Fatalf("%+v led from epoch %d to %d", got, before.Epoch, after.Epoch)
			}
			residents(t, after)
			onwards(t, before, after, gone)
			if written(t, before) != text {
				t.Fatal("a view changed after it was published")
			}
		}
	})
}

// Every step of a driver may be taken twice: the second time finds it done.
func TestRepeatedStepsAreDoneAlready(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			data := w.Draw(w.View())
			first := w.Feed(data)
			var cmd directory.Command
			if err := directory.Decode(data, &cmd); err != nil {
				t.Fatal(err)
			}
			if cmd.NextSealing != nil || cmd.Init != nil {
				continue
			}
			again := w.Feed(data)
			want := first.Code
			if want == directory.Done {
				want = directory.Already
			}
			if again.Code != want || again.Code == directory.Already && again.Err() != nil {
				t.Fatalf("%s: first %+v, then %+v", data[1:], first, again)
			}
		}
	})
}

// A machine restored anywhere in a history shows the same view and judges the
// rest of the history as the others do.
func TestRestoredAnywhereItGoesOnAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		other := directory.New()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if w.Choose(5) == 0 || other.Load().Epoch == 0 {
				other = directory.New()
				if err := other.Restore(bytes.NewReader(image(t, w.Machine))); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(other.Load(), w.View()) {
					t.Fatalf("views differ:\n%+v\n%+v", other.Load(), w.View())
				}
			}
			data := w.Draw(w.View())
			want := w.Feed(data)
			if got := other.Apply(uint64(len(w.Fed)), data); got != want {
				t.Fatalf("%s: got %+v, want %+v", data[1:], got, want)
			}
			if written(t, other.Load()) != written(t, w.View()) {
				t.Fatal("views differ")
			}
		}
		if !bytes.Equal(image(t, other), image(t, w.Machine)) {
			t.Fatal("images differ")
		}
	})
}

// One command has one spelling, and one result.
func TestEncodingsOfCommandsAndResultsAreCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		for range 10 {
			data := w.Draw(w.View())
			var cmd directory.Command
			if err := directory.Decode(data, &cmd); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if again, err := cmd.Append(nil); err != nil || !bytes.Equal(again, data) {
				t.Fatalf("got %s, %v, want %s", again, err, data)
			}
			spaced := append([]byte{data[0]}, strings.Replace(string(data[1:]), ":", ": ", 1)...)
			if directory.Decode(spaced, &cmd) == nil {
				t.Fatalf("accepted %s", spaced)
			}
			result := w.Feed(data)
			back, err := directory.DecodeResult(result.Append(nil))
			if err != nil || back != result {
				t.Fatalf("result: got %+v, %v, want %+v", back, err, result)
			}
		}
	})
}

// The random histories must get somewhere, or they show nothing.
func TestRandomHistoriesReachEveryCorner(t *testing.T) {
	reached := map[string]int{}
	choose := rapid.Custom(func(t *rapid.T) []int {
		return rapid.SliceOfN(rapid.IntRange(0, 1<<20), 4000, 4000).Draw(t, "choices")
	})
	for seed := range 20 {
		choices := choose.Example(seed)
		w := directorytest.New(2, 3, func(n int) int {
			c := choices[0] % n
			choices = append(choices[1:], choices[0])
			return c
		})
		for range 300 {
			data := w.Draw(w.View())
			var cmd directory.Command
			if err := directory.Decode(data, &cmd); err != nil {
				t.Fatal(err)
			}
			kind := strings.SplitN(string(data[3:]), `"`, 2)[0]
			reached[fmt.Sprint(kind, w.Feed(data).Code)]++
		}
		for _, n := range w.View().Nodes {
			reached[n.State.String()]++
		}
		for g := range w.View().Groups() {
			group, _ := w.View().Group(g)
			for _, r := range group.Replicas {
				reached[fmt.Sprint(r.State, w.View().Lives(&r))]++
			}
			if len(group.Replicas) == directory.MaxReplicas {
				reached["full"]++
			}
		}
	}
	for _, corner := range []string{"put_node0", "put_node3", "put_node6", "add_replica0", "add_replica3",
		"add_replica4", "add_replica6", "set_replica0", "set_replica2", "set_replica3", "set_replica4", "set_replica6",
		"drop_replica0", "drop_replica3", "drop_replica6", "preparingtrue", "votertrue", "voterfalse", "leavingtrue", "leavingfalse",
		"record_erasures0", "record_erasures6", "put_join_token0", "use_join_token0", "use_join_token6", "use_join_token8",
		"use_join_token9", "admit_node0", "admit_node6", "drain_node0", "drain_node6", "remove_node0", "remove_node3", "remove_node6",
		"removed", "pending", "draining", "refound_group0", "refound_group2", "refound_group3", "refound_group6"} {
		if reached[corner] == 0 {
			t.Errorf("never reached %s; got %v", corner, reached)
		}
	}
}

// told is what the ledger must say of one field of a subject, 0 for all of it,
// in one life of a shard.
type told struct {
	subject    cloakroom.Token
	field      cloakroom.FieldNumber
	shard      cloakroom.ShardID
	generation uint32
}

// book is the ledger once more, as a map from what was erased to the last
// index at which it was.
type book map[told]uint64

// enter notes one erasure and reports whether it says anything new.
func (b book) enter(e *directory.Erasure) bool {
	whole := told{e.Subject, 0, e.Shard, e.Generation}
	if _, gone := b[whole]; gone {
		return false
	}
	if len(e.Fields) == 0 {
		b[whole] = e.Index
		return true
	}
	news := false
	for _, f := range e.Fields {
		key := told{e.Subject, f, e.Shard, e.Generation}
		if e.Index > b[key] {
			b[key], news = e.Index, true
		}
	}
	return news
}

// The ledger says the same as a map does, whatever is recorded, restored and
// read in between.
func TestTheLedgerSaysWhatAMapSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := walk(t)
		fields := &directory.SetSchema{Fields: []directory.Field{{Name: "a", Type: directory.Text}, {Name: "b", Type: directory.Text}}}
		if got := w.Apply(&directory.Command{SetSchema: fields}); got.Code != directory.Done {
			t.Fatalf("schema: %+v", got)
		}
		want := book{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if w.Choose(8) == 0 {
				other := directory.New()
				if err := other.Restore(bytes.NewReader(image(t, w.Machine))); err != nil {
					t.Fatal(err)
				}
				w.Machine = other
			}
			cmd := w.Erasures(w.View())
			code := directory.Already
			for i := range cmd.RecordErasures.Entries {
				if want.enter(&cmd.RecordErasures.Entries[i]) {
					code = directory.Done
				}
			}
			if got := w.Apply(cmd); got.Code != code {
				t.Fatalf("%+v: got %+v, want code %d", cmd.RecordErasures.Entries, got, code)
			}
			got := book{}
			for e := range w.Machine.Erasures() {
				key := told{e.Subject, 0, e.Shard, e.Generation}
				if len(e.Fields) == 1 {
					key.field = e.Fields[0]
				}
				if len(e.Fields) > 1 || got[key] != 0 {
					t.Fatalf("of more than one field, or twice: %+v", e)
				}
				got[key] = e.Index
			}
			if !maps.Equal(got, want) || w.Machine.ErasureCount() != len(want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}
