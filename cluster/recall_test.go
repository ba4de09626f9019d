package cluster

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/directory/directorytest"
	"cloakroom/cluster/wal"
)

// The log may begin before the snapshot ends. What the snapshot holds is not
// carried out again, or the recalled view would be newer than any there is.
func TestARecallCarriesNothingOutTwice(t *testing.T) {
	w := directorytest.New(2, 1, rand.New(rand.NewPCG(1, 1)).IntN)
	next, err := (&directory.Command{NextSealing: &directory.NextSealing{}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Feed(next)
	w.Feed(next)
	at, _ := w.Machine.Applied()
	var image bytes.Buffer
	snapshot := w.Machine.Snapshot()
	if _, err := snapshot.WriteTo(&image); err != nil {
		t.Fatal(err)
	}
	snapshot.Release()
	w.Feed(next)

	r := &recall{c: &Cluster{desk: newDesk(1, nil)}, machine: directory.New()}
	defer r.c.desk.close()
	if err := r.snapshot(&image, wal.Snapshot{Index: at, Term: 1}); err != nil {
		t.Fatal(err)
	}
	for index := at - 1; index <= at+1; index++ {
		if err := r.entry(index, next); err != nil {
			t.Fatal(err)
		}
	}
	got, want := r.machine.Load(), w.View()
	if got.Epoch != want.Epoch || got.SealingNumber != want.SealingNumber {
		t.Errorf("recalled epoch %d, number %d; want %d, %d", got.Epoch, got.SealingNumber, want.Epoch, want.SealingNumber)
	}
}
