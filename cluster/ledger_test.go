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
