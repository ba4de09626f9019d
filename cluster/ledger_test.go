package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
)

// erased is the erasure of a whole subject.
func erased(serial uint64) directory.Erasure {
	e := directory.Erasure{Generation: 1, Index: serial, At: 1_800_000_000_000}
	binary.BigEndian.PutUint64(e.Subject[8:], serial)
	return e
}

// ledgerOf lists what the ledger of this node's replica says, by serial.
func ledgerOf(c *Cluster) map[uint64]int {
	found := make(map[uint64]int)
	if m := c.desk.member.Load(); m != nil {
		for e := range m.ledger.Erasures() {
			found[binary.BigEndian.Uint64(e.Subject[8:])]++
		}
	}
	return found
}

func TestErasuresAreRecordedAloneAndOnce(t *testing.T) {
	r := open(t, nil)
	var wg sync.WaitGroup
	for i := range uint64(300) {
		wg.Go(func() {
			if err := r.RecordErasure(t.Context(), erased(1+i%100)); err != nil {
				t.Errorf("RecordErasure %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	found := ledgerOf(r.Cluster)
	for i := range uint64(100) {
		if found[1+i] != 1 {
			t.Errorf("erasure %d: %d entries", 1+i, found[1+i])
		}
	}
	if len(found) != 100 {
		t.Errorf("%d subjects in the ledger, want 100", len(found))
	}
}

func TestErasuresThatFitNoViewAreRefused(t *testing.T) {
	r := open(t, nil)
	tests := map[string]func(*directory.Erasure){
		"no subject":         func(e *directory.Erasure) { e.Subject = cloakroom.Token{} },
		"unknown shard":      func(e *directory.Erasure) { e.Shard = 2 },
		"no generation":      func(e *directory.Erasure) { e.Generation = 0 },
		"later generation":   func(e *directory.Erasure) { e.Generation = 2 },
		"no index":           func(e *directory.Erasure) { e.Index = 0 },
		"before the epoch":   func(e *directory.Erasure) { e.At = -1 },
		"never declared":     func(e *directory.Erasure) { e.Fields = []cloakroom.FieldNumber{9} },
		"far too much later": func(e *directory.Erasure) { e.At = 1 << 48 },
	}
	for name, spoil := range tests {
		e := erased(1)
		spoil(&e)
		if err := r.RecordErasure(t.Context(), e); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if found := ledgerOf(r.Cluster); len(found) != 0 {
		t.Errorf("recorded all the same: %v", found)
	}
}

// The directory's leader dies with erasures on their way: each is recorded
// all the same, and once.
func TestErasuresSurviveTheDeathOfTheDirectorysLeader(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	leader := h.node("n1").Status().Directory.Leader
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	total, started := uint64(0), make(chan struct{}, 1000)
	for _, name := range h.names() {
		if name == leader {
			continue
		}
		for range 8 {
			first := total + 1
			total += 40
			n := h.node(name)
			wg.Go(func() {
				for serial := first; serial < first+40; serial++ {
					if err := n.RecordErasure(ctx, erased(serial)); err != nil {
						t.Errorf("%s: RecordErasure: %v", name, err)
						return
					}
					started <- struct{}{}
				}
			})
		}
	}
	for range 100 {
		<-started
	}
	h.kill(leader)
	wg.Wait()
	for _, name := range h.names() {
		n := h.node(name)
		h.await("the ledger of "+name, func() (bool, string) {
			found := ledgerOf(n.Cluster)
			for serial, entries := range found {
				if entries != 1 {
					t.Fatalf("%s: erasure %d has %d entries", name, serial, entries)
				}
			}
			return len(found) == int(total), fmt.Sprintf("%d of %d", len(found), total)
		})
	}
}

// entriesAtOnce records that many erasures at once and returns how many
// entries of the directory's log they took, barriers included.
func entriesAtOnce(t testing.TB, h *house, n *resident, first, count uint64) int {
	leader := h.node(n.Status().Directory.Leader)
	before := leader.Status().Directory.Applied
	var wg sync.WaitGroup
	for serial := first; serial < first+count; serial++ {
		wg.Go(func() {
			if err := n.RecordErasure(t.Context(), erased(serial)); err != nil {
				t.Errorf("RecordErasure %d: %v", serial, err)
			}
		})
	}
	wg.Wait()
	return int(leader.Status().Directory.Applied - before)
}

// 256 erasures that come at once go together: the first alone, while it is on
// its way the others gather.
func TestManyErasuresTakeFewEntries(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	first := uint64(1)
	for _, name := range []string{"n1", "n2"} {
		entries := entriesAtOnce(t, h, h.node(name), first, 256)
		t.Logf("%s: %d entries", name, entries)
		if entries == 0 || entries > 40 {
			t.Errorf("%s: 256 erasures took %d entries", name, entries)
		}
		first += 256
	}
	s := h.node("n1").Status()
	if leader := h.node(s.Directory.Leader); leader.Status().Erasures != 512 {
		t.Errorf("the ledger has %d rows, want 512", leader.Status().Erasures)
	}
}

// What gathers while a page is on its way is the next page.
func TestAPageTakesWhatGathered(t *testing.T) {
	s := newScribe()
	notes := func(count int) {
		for i := range count {
			if err := s.push(&note{erasure: erased(uint64(i + 1)), done: make(chan struct{})}); err != nil {
				t.Fatal(err)
			}
		}
	}
	notes(directory.MaxRecorded + 44)
	for _, want := range []int{directory.MaxRecorded, 44} {
		if p := s.take(t.Context()); p == nil || len(p.notes) != want {
			t.Fatalf("got %+v, want %d notes", p, want)
		}
	}
	if p := s.take(t.Context()); p != nil {
		t.Fatalf("got %d notes, want none", len(p.notes))
	}
	notes(maxNotes)
	if err := s.push(&note{}); !errors.Is(err, cloakroom.ErrOverloaded) {
		t.Errorf("one more: %v", err)
	}
	s.close()
	if err := s.push(&note{}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}

// A page goes on for as long as one of its callers waits.
func TestAPageEndsWithItsLastCaller(t *testing.T) {
	s := newScribe()
	notes := []*note{{erasure: erased(1), done: make(chan struct{})}, {erasure: erased(2), done: make(chan struct{})},
		{erasure: erased(3), done: make(chan struct{})}}
	for _, n := range notes {
		if err := s.push(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.leave(notes[2]); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("before it was on its way: %v", err)
	}
	p := s.take(t.Context())
	if len(p.notes) != 2 {
		t.Fatalf("%d notes, want 2", len(p.notes))
	}
	for i, over := range []bool{false, true} {
		if err := s.leave(notes[i]); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Errorf("on its way: %v", err)
		}
		if (p.ctx.Err() != nil) != over {
			t.Errorf("after %d left: %v", i+1, p.ctx.Err())
		}
	}
}

// Without a majority of the directory nothing is recorded, and nobody waits
// longer than asked; with it, the same erasure goes through.
func TestErasuresWaitForAMajority(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	leader := h.node("n1").Status().Directory.Leader
	var last *resident
	for _, name := range h.names() {
		if last == nil && name != leader {
			last = h.node(name)
			continue
		}
		h.kill(name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := last.RecordErasure(ctx, erased(1))
	if !errors.Is(err, cloakroom.ErrOutcomeUnknown) && !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("without a majority: %v", err)
	}
	if found := ledgerOf(last.Cluster); len(found) != 0 {
		t.Errorf("recorded without a majority: %v", found)
	}
}

// BenchmarkErasuresAtOnce is 256 erasures that come at once, by the
// directory's leader or by another node.
func BenchmarkErasuresAtOnce(b *testing.B) {
	h := newHouse(b, 3, 1, nil)
	leader, serial := h.node("n1").Status().Directory.Leader, uint64(1)
	for _, name := range []string{"n1", "n2", "n3"} {
		kind := map[bool]string{true: "leader", false: "other"}[name == leader]
		b.Run(kind, func(b *testing.B) {
			entries := 0
			for b.Loop() {
				entries += entriesAtOnce(b, h, h.node(name), serial, 256)
				serial += 256
			}
			b.ReportMetric(float64(entries)/float64(b.N), "entries/op")
		})
	}
}

// BenchmarkErasureAlone is one erasure after another.
func BenchmarkErasureAlone(b *testing.B) {
	h := newHouse(b, 3, 1, nil)
	leader, serial := h.node("n1").Status().Directory.Leader, uint64(1)
	for _, name := range []string{"n1", "n2", "n3"} {
		kind := map[bool]string{true: "leader", false: "other"}[name == leader]
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				if err := h.node(name).RecordErasure(b.Context(), erased(serial)); err != nil {
					b.Fatal(err)
				}
				serial++
			}
		})
	}
}
