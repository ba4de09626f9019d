package securemem

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBuddyAgainstModel takes and gives blocks at random and checks that none
// overlap, that they are aligned, and that all join up again in the end.
func TestBuddyAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const leaves, top = 7 << 4, 4
	b := newBuddy(leaves, top)
	var owner [leaves]bool
	type block struct {
		leaf  int32
		order int
	}
	var live []block
	for range 100_000 {
		if rng.IntN(2) == 0 && len(live) > 0 {
			i := rng.IntN(len(live))
			for at := live[i].leaf; at < live[i].leaf+1<<live[i].order; at++ {
				owner[at] = false
			}
			b.give(live[i].leaf, live[i].order)
			live = append(live[:i], live[i+1:]...)
			continue
		}
		order := rng.IntN(top + 1)
		leaf, ok := b.take(order)
		if !ok {
			if hasRoom(owner[:], order) {
				t.Fatalf("no block of order %d although one is free", order)
			}
			continue
		}
		if leaf%(1<<order) != 0 {
			t.Fatalf("leaf %d is not aligned to order %d", leaf, order)
		}
		for at := leaf; at < leaf+1<<order; at++ {
			if owner[at] {
				t.Fatalf("leaf %d is given twice", at)
			}
			owner[at] = true
		}
		live = append(live, block{leaf, order})
	}
	for _, l := range live {
		b.give(l.leaf, l.order)
	}
	for range leaves >> top {
		if _, ok := b.take(top); !ok {
			t.Fatal("free blocks do not join up again")
		}
	}
}

// hasRoom reports whether an aligned block of that order is free.
func hasRoom(owner []bool, order int) bool {
	for at := 0; at < len(owner); at += 1 << order {
		free := true
		for i := range 1 << order {
			free = free && !owner[at+i]
		}
		if free {
			return true
		}
	}
	return false
}

func TestOrderFor(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 0, 4096: 0, 4097: 1, 8192: 1, 8193: 2, 16 << 20: 12} {
		if got := orderFor(n); got != want || leafBytes<<got < n {
			t.Errorf("order for %d bytes is %d, want %d", n, got, want)
		}
	}
}
