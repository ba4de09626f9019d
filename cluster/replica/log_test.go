package replica

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The log does what a plain list does, through deletes at both ends, and its
// counts of bytes stay true.
func TestLogAgainstAModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	mem := &memory{}
	log := newMemLog(mem.Map, mem.Unmap, 256<<10)
	var model []raft.Log
	next := uint64(1)
	for step := range 4000 {
		switch rnd.IntN(10) {
		case 0: // compaction
			if len(model) > 0 {
				n := rnd.IntN(len(model) + 1)
				if n > 0 {
					mustDelete(t, log, model[0].Index, model[n-1].Index)
					model = model[n:]
				}
			}
		case 1: // a conflicting tail
			if len(model) > 1 {
				n := 1 + rnd.IntN(len(model)-1)
				mustDelete(t, log, model[n].Index, model[len(model)-1].Index)
				next, model = model[n].Index, model[:n]
			}
		default:
			e := raft.Log{Index: next, Term: rnd.Uint64N(9), Type: raft.LogType(rnd.IntN(3)),
				Data: make([]byte, rnd.IntN(9000)), Extensions: make([]byte, rnd.IntN(3)),
				AppendedAt: time.Unix(0, rnd.Int64())}
			for i := range e.Data {
				e.Data[i] = byte(rnd.Uint32())
			}
			if used, _ := log.size(); used > 256<<10 {
				continue
			}
			if err := log.StoreLog(&e); err != nil {
				t.Fatalf("step %d: store: %v", step, err)
			}
			model = append(model, e)
			next++
		}
		compare(t, step, log, model)
	}
	if mem.top > 512<<10 {
		t.Errorf("mapped %d bytes at the top, budget 256 KiB", mem.top)
	}
	log.close()
	if mem.mapped != 0 {
		t.Errorf("%d bytes not given back", mem.mapped)
	}
}

func mustDelete(t *testing.T, log *memLog, min, max uint64) {
	t.Helper()
	if err := log.DeleteRange(min, max); err != nil {
		t.Fatalf("delete %d to %d: %v", min, max, err)
	}
}

func compare(t *testing.T, step int, log *memLog, model []raft.Log) {
	t.Helper()
	var first, last uint64
	var bytesUsed int
	for i := range model {
		bytesUsed += entryHeader + offsetBytes + len(model[i].Data) + len(model[i].Extensions)
	}
	if len(model) > 0 {
		first, last = model[0].Index, model[len(model)-1].Index
	}
	gotFirst, _ := log.FirstIndex()
	gotLast, _ := log.LastIndex()
	if used, _ := log.size(); gotFirst != first || gotLast != last || used != bytesUsed {
		t.Fatalf("step %d: got %d to %d, %d bytes; want %d to %d, %d bytes",
			step, gotFirst, gotLast, used, first, last, bytesUsed)
	}
	var got raft.Log
	for _, outside := range []uint64{first - 1, last + 1} {
		if err := log.GetLog(outside, &got); err != raft.ErrLogNotFound {
			t.Fatalf("step %d: entry %d outside the log: got %v", step, outside, err)
		}
	}
	if len(model) == 0 {
		return
	}
	want := &model[step%len(model)]
	if err := log.GetLog(want.Index, &got); err != nil {
		t.Fatalf("step %d: get %d: %v", step, want.Index, err)
	}
	if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type ||
		!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) ||
		!got.AppendedAt.Equal(want.AppendedAt) || log.term(want.Index) != want.Term {
		t.Fatalf("step %d: entry %d differs", step, want.Index)
	}
}

// What trails fits into the bytes it may take, and the next entry would not.
func TestTrailingCountsBytes(t *testing.T) {
	mem := &memory{}
	log := newMemLog(mem.Map, mem.Unmap, 256<<10)
	defer log.close()
	for i := uint64(1); i <= 2000; i++ {
		if err := log.StoreLog(&raft.Log{Index: i, Data: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	mustDelete(t, log, 1, 300)
	const size = entryHeader + 100 + offsetBytes
	for _, n := range []int{0, size - 1, size, 10 * size, 10*size + 5, 500 * size, 1400 * size} {
		if got, want := log.trailing(n), uint64(n/size); got != want {
			t.Errorf("%d bytes: got %d entries, want %d", n, got, want)
		}
	}
	if got := log.trailing(1 << 30); got != 1700 {
		t.Errorf("all: got %d entries, want 1700", got)
	}
}

// raft asks for ranges outside the log, and for none at all; the library's own
// store loses its indexes at (0, 0).
func TestDeleteOutsideTheLog(t *testing.T) {
	mem := &memory{}
	log := newMemLog(mem.Map, mem.Unmap, 64<<10)
	defer log.close()
	mustDelete(t, log, 0, 0)
	for i := uint64(5); i < 9; i++ {
		if err := log.StoreLog(&raft.Log{Index: i}); err != nil {
			t.Fatal(err)
		}
	}
	mustDelete(t, log, 0, 0)
	mustDelete(t, log, 9, 20)
	mustDelete(t, log, 7, 6)
	if err := log.DeleteRange(6, 7); err == nil {
		t.Error("a hole in the middle: got no error")
	}
	if err := log.StoreLog(&raft.Log{Index: 11}); err == nil {
		t.Error("a gap: got no error")
	}
	if first, _ := log.FirstIndex(); first != 5 {
		t.Errorf("first index: got %d, want 5", first)
	}
}

// StoreLogs stores all or nothing.
func TestStoreLogsAllOrNothing(t *testing.T) {
	mem := &memory{}
	log := newMemLog(mem.Map, mem.Unmap, 64<<10)
	defer log.close()
	big := make([]byte, 50<<10)
	err := log.StoreLogs([]*raft.Log{{Index: 1, Data: big}, {Index: 2, Data: big}, {Index: 3, Data: big}})
	if err == nil {
		t.Fatal("three times 50 KiB into a budget of 64 KiB: got no error")
	}
	if last, _ := log.LastIndex(); last != 0 {
		t.Fatalf("last index: got %d, want 0", last)
	}
	if used, _ := log.size(); used != 0 {
		t.Fatalf("used: got %d, want 0", used)
	}
}
