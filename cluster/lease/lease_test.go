package lease

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

const length = 3 * time.Second

// at is an index that does not change.
func at(index uint64) func() uint64 { return func() uint64 { return index } }

func TestUsable(t *testing.T) {
	if got := Usable(length); got != 2700*time.Millisecond {
		t.Errorf("got %v, want 2.7s", got)
	}
}

func TestHolderGoesForwardOnly(t *testing.T) {
	var h Holder
	for _, until := range []time.Duration{5, 9, 7} {
		h.Extend(until)
	}
	if h.Until() != 9 {
		t.Errorf("got %d, want 9", h.Until())
	}
}

func TestBefore(t *testing.T) {
	var table Table
	if got := table.Enter(4, "a", "n1", time.Second, length, at(10)); got != 10 {
		t.Fatalf("granted at index %d, want 10", got)
	}
	table.Enter(4, "b", "n2", time.Second, length, at(10))
	table.Enter(4, "b", "n2", 2*time.Second, length, at(20)) // does not take back what b had
	for _, c := range []struct {
		index uint64
		now   time.Duration
		want  []Standing
	}{
		{10, 2 * time.Second, nil},
		{11, 2 * time.Second, []Standing{{"a", "n1", 4 * time.Second}, {"b", "n2", 4 * time.Second}}},
		{21, 2 * time.Second, []Standing{{"a", "n1", 4 * time.Second}, {"b", "n2", 5 * time.Second}}},
		{21, 4 * time.Second, []Standing{{"b", "n2", 5 * time.Second}}},
		{21, 5 * time.Second, nil},
	} {
		if got := table.Before(c.index, c.now, nil); !reflect.DeepEqual(got, c.want) {
			t.Errorf("before %d at %v: got %v, want %v", c.index, c.now, got, c.want)
		}
	}
	table.Applied("b", 21)
	if got := table.Before(21, 2*time.Second, nil); len(got) != 1 || got[0].Replica != "a" {
		t.Errorf("b has applied 21: got %v", got)
	}
}

func TestYoung(t *testing.T) {
	var table Table
	table.Found(2)
	if got := table.Young(2, time.Second, length); got > time.Second {
		t.Errorf("nobody led before: waits until %v", got)
	}
	if got := table.Young(3, 5*time.Second, length); got != 8*time.Second {
		t.Errorf("a second term: got %v, want 8s", got)
	}
	table.Lead(3, 6*time.Second) // known already
	if got := table.Young(3, 7*time.Second, length); got != 8*time.Second {
		t.Errorf("asked again: got %v, want 8s", got)
	}
	table.Found(4) // led before, so not the first
	if got := table.Young(4, 9*time.Second, length); got != 12*time.Second {
		t.Errorf("got %v, want 12s", got)
	}
	var other Table
	other.Enter(7, "a", "n1", 2*time.Second, length, at(1))
	if got := other.Young(7, 3*time.Second, length); got != 5*time.Second {
		t.Errorf("a leader that granted first: got %v, want 5s", got)
	}
}

// A table never forgets a lease that stands, says so for no longer than the
// last grant from before an index lasts, and stays small.
func TestTableAgainstAList(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	type entry struct {
		index uint64
		over  time.Duration
	}
	for range 200 {
		var table Table
		all := map[string][]entry{}
		now, applied := time.Duration(0), uint64(1)
		for range 60 {
			now += time.Duration(rnd.Int64N(int64(800 * time.Millisecond)))
			applied += rnd.Uint64N(3)
			id := fmt.Sprint(rnd.IntN(4))
			table.Enter(1, id, "n", now, length, at(applied))
			all[id] = append(all[id], entry{applied, now + length})
			index := applied + 3 - min(applied, rnd.Uint64N(6))
			got := map[string]time.Duration{}
			for _, s := range table.Before(index, now, nil) {
				got[s.Replica] = s.Over
			}
			for id, entries := range all {
				need := time.Duration(0)
				for _, e := range entries {
					if e.index < index && e.over > now {
						need = max(need, e.over)
					}
				}
				if got[id] < need || got[id] > now+length {
					t.Fatalf("seed %d: %s before %d at %v: got %v, want %v", seed, id, index, now, got[id], need)
				}
			}
		}
		for _, r := range table.replicas {
			if len(r.grants) > maxGrants {
				t.Fatalf("%d grants", len(r.grants))
			}
		}
		if n := table.Len(now + length); n != 0 || len(table.replicas) != 0 {
			t.Fatalf("%d entries when all is over", n)
		}
	}
}

// One that asks without end is not waited for without end: what it is granted
// after an index does not keep an older grant standing.
func TestAskingWithoutEnd(t *testing.T) {
	var table Table
	for i := range 100 {
		table.Enter(1, "a", "n", time.Duration(i)*20*time.Millisecond, length, at(uint64(i)))
	}
	now := 100 * 20 * time.Millisecond
	for i := range 300 {
		table.Enter(1, "a", "n", now+time.Duration(i)*20*time.Millisecond, length, at(uint64(100+i)))
	}
	if got := table.Before(100, now+2*length, nil); len(got) > 0 {
		t.Errorf("still stands: %v", got)
	}
}
