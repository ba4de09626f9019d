package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// A snapshot is a mark; opening it later gives the state of then, and an index
// that belongs to that state.
func TestOpenStreamsTheLiveState(t *testing.T) {
	r, _, _ := open(t, nil)
	mustApply(t, r, []byte{5})
	snap := r.raft.Snapshot()
	if err := snap.Error(); err != nil {
		t.Fatal(err)
	}
	marks, err := r.snaps.List()
	if err != nil || len(marks) != 1 {
		t.Fatalf("List: got %v, %v; want one mark", marks, err)
	}
	later, _ := mustApply(t, r, []byte{7})
	meta, stream, err := r.snaps.Open(marks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	state, err := io.ReadAll(stream)
	stream.Close()
	if err != nil || binary.BigEndian.Uint64(state) != 12 {
		t.Fatalf("state: got %v, %v; want 12", state, err)
	}
	if meta.Index != later || meta.Term == 0 || meta.Size != int64(len(state)) {
		t.Fatalf("meta: got %+v, want index %d and %d bytes", meta, later, len(state))
	}
	if len(meta.Configuration.Servers) != 1 || meta.ConfigurationIndex == 0 {
		t.Fatalf("meta: got configuration %+v at %d", meta.Configuration, meta.ConfigurationIndex)
	}
}

// A reader that goes away must not leave the writer behind (goleak sees it).
func TestStreamClosedEarly(t *testing.T) {
	r, _, _ := open(t, nil)
	mustApply(t, r, []byte{5})
	if err := r.takeMark(); err != nil {
		t.Fatal(err)
	}
	marks, _ := r.snaps.List()
	_, stream, err := r.snaps.Open(marks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenOfAConfigurationKnowsItsTerm(t *testing.T) {
	r, _, _ := open(t, nil)
	// Nothing but the first configuration was handed over.
	if err := r.takeMark(); err != nil {
		t.Fatal(err)
	}
	marks, _ := r.snaps.List()
	meta, stream, err := r.snaps.Open(marks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if meta.Index != 1 || meta.Term != 1 {
		t.Fatalf("meta: got index %d term %d, want 1 and 1", meta.Index, meta.Term)
	}
}

func TestReceivedSnapshotReachesTheMachineOnce(t *testing.T) {
	r, machine, mem := open(t, nil)
	mustApply(t, r, []byte{1})
	before := mem.mapped
	if err := r.Restore(bytes.NewReader(binary.BigEndian.AppendUint64(nil, 40)), 1000, 8); err != nil {
		t.Fatal(err)
	}
	if mem.mapped > before {
		t.Fatalf("received bytes are still held: %d mapped, %d before", mem.mapped, before)
	}
	if index, got := mustApply(t, r, []byte{2}); got != uint64(42) || index <= 1000 {
		t.Fatalf("after restore: got %v at %d, want 42 above 1000", got, index)
	}
	if machine.sum != 42 {
		t.Fatalf("sum: got %d", machine.sum)
	}
	marks, _ := r.snaps.List()
	_, stream, err := r.snaps.Open(marks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if state, err := io.ReadAll(stream); err != nil || binary.BigEndian.Uint64(state) != 42 {
		t.Fatalf("opened again: got %v, %v; want the live state", state, err)
	}
}

// raft panics when a snapshot can't be restored.
func TestUnreadableSnapshotParks(t *testing.T) {
	r, _, _ := open(t, nil)
	mustApply(t, r, []byte{1})
	if err := r.Restore(bytes.NewReader([]byte("short")), 1000, 5); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("Restore: got %v, want unavailable", err)
	}
	if _, _, err := r.Apply([]byte{1}); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Fatalf("Apply: got %v, want unavailable", err)
	}
}

func TestSpoolGivesBackWhatItHeld(t *testing.T) {
	mem := &memory{}
	s := &spool{mapMem: mem.Map, unmapMem: mem.Unmap}
	want := bytes.Repeat([]byte("0123456789abcdef!"), 3*spoolPiece/16)
	for at := 0; at < len(want); {
		n := min(len(want)-at, 70_001)
		if _, err := s.write(want[at : at+n]); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	r := &receivedReader{from: &spoolReader{spool: s}, fsm: &fsm{turn: newTurn(), members: &roster{changed: func() {}}}}
	got, err := io.ReadAll(r)
	r.Close()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, %v; want the %d written", len(got), err, len(want))
	}
	if mem.mapped != 0 {
		t.Fatalf("%d bytes still mapped", mem.mapped)
	}
}

// Who reads here was promised never to be taken back: a snapshot from before
// what is applied is not restored, and the index stays.
func TestASnapshotOlderThanTheStateIsNotTaken(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		mem := &memory{}
		s := &spool{mapMem: mem.Map, unmapMem: mem.Unmap}
		if _, err := s.write([]byte("state")); err != nil {
			t.Fatal(err)
		}
		f := &fsm{turn: newTurn(), members: &roster{changed: func() {}}}
		f.command.Store(10)
		r := &receivedReader{from: &spoolReader{spool: s}, fsm: f, meta: raft.SnapshotMeta{Index: 9}, back: allowed}
		if _, err := io.ReadAll(r); (err == nil) != allowed {
			t.Errorf("allowed %v: got %v", allowed, err)
		}
		r.Close()
		if got := f.command.Load(); got != 10 {
			t.Errorf("applied at %d, want 10", got)
		}
	}
}
