package node_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"cloakroom/cluster"
	"cloakroom/snapshot"
)

// fakeView is a state of some bytes.
type fakeView struct{ state []byte }

func (v fakeView) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.state)
	return int64(n), err
}
func (fakeView) Release() {}

// What one node seals the others of its cluster open, as what it was, and
// nobody else does.
func TestSnapshotsPassBetweenNodesOfACluster(t *testing.T) {
	nodes, stranger := openMany(t, 2, nil), open(t, nil)
	state := bytes.Repeat([]byte("sealed records, "), 10_000)
	at := cluster.SnapshotInfo{Group: "shard 3", Generation: 1, Index: 42, Term: 7}
	sealing := at
	sealing.View, sealing.Payload = fakeView{state}, int64(len(state))
	var file bytes.Buffer
	w, err := nodes[0].node.SealSnapshot(&file, sealing)
	if err == nil {
		_, err = w.Write(state)
	}
	if err != nil || w.Close() != nil {
		t.Fatalf("seal: %v", err)
	}
	if got, want := int64(file.Len()), snapshot.Size(int64(len(state))); got != want {
		t.Errorf("%d bytes, announced as %d", got, want)
	}
	if bytes.Contains(file.Bytes(), []byte("sealed records")) {
		t.Error("the state is in clear")
	}
	open := func(h *house, at cluster.SnapshotInfo, file []byte) ([]byte, error) {
		r, err := h.node.OpenSnapshot(bytes.NewReader(file), at)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	for i, h := range nodes {
		if got, err := open(h, at, file.Bytes()); err != nil || !bytes.Equal(got, state) {
			t.Errorf("node %d: %d bytes, %v", i+1, len(got), err)
		}
	}
	if _, err := open(stranger, at, file.Bytes()); !errors.Is(err, snapshot.ErrOther) {
		t.Errorf("a node of another cluster: %v", err)
	}
	for _, other := range []cluster.SnapshotInfo{
		{Group: "shard 2", Generation: 1, Index: 42, Term: 7}, {Group: "shard 3", Generation: 2, Index: 42, Term: 7},
		{Group: "shard 3", Generation: 1, Index: 41, Term: 7}, {Group: "shard 3", Generation: 1, Index: 42, Term: 6},
	} {
		if _, err := open(nodes[1], other, file.Bytes()); !errors.Is(err, snapshot.ErrOther) {
			t.Errorf("taken for %+v: %v", other, err)
		}
	}
	if _, err := open(nodes[1], cluster.SnapshotInfo{Group: "attic"}, file.Bytes()); err == nil {
		t.Error("opened for a group that there is not")
	}
	damaged := bytes.Clone(file.Bytes())
	damaged[len(damaged)-1] ^= 1 // of the signature
	if _, err := open(nodes[1], at, damaged); !errors.Is(err, snapshot.ErrSignature) {
		t.Errorf("with a damaged signature: %v", err)
	}
}

// walked counts how often a state is written out.
type walked struct {
	fakeView
	times *int
}

func (v walked) WriteTo(w io.Writer) (int64, error) {
	*v.times++
	return v.fakeView.WriteTo(w)
}

// Whoever hands a state over has counted it: sealing walks it no third time.
func TestSealingTakesTheLengthItIsGiven(t *testing.T) {
	h, times := open(t, nil), 0
	for _, group := range []string{"directory", "shard 0"} {
		at := cluster.SnapshotInfo{Group: group, Generation: 1, Index: 42, Term: 7, View: walked{fakeView{[]byte("state")}, &times}, Payload: 5}
		w, err := h.node.SealSnapshot(io.Discard, at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("state")); err != nil || w.Close() != nil {
			t.Errorf("%s: %v", group, err)
		}
	}
	if times != 0 {
		t.Errorf("the state was written out %d times", times)
	}
}
