//go:build linux

package hosts

import (
	"strings"
	"testing"
	"time"
)

func TestOneNodeStopsAndComesBackWithASharesHelp(t *testing.T) {
	f := NewFleet(t, program(t, ""), nil)
	n := f.Found("n1", "--shares", "3", "--threshold", "2")
	if err := n.Settled(1); err != nil {
		t.Error(err)
	}
	if len(f.Shares) != 3 {
		t.Fatalf("%d shares", len(f.Shares))
	}
	if err := n.Process().Stop(20 * time.Second); err != nil {
		t.Fatalf("stop: %v\n%s", err, n.Process().Log())
	}
	p := n.Start("")
	p.AwaitLine(t, "stage=sealed", patience)
	for i, share := range f.Shares[:2] {
		f.write("share", share)
		out := f.Do("unseal", "--share-file", f.token("share"), "--addr", n.Place.Address(Operator), "--fingerprint", f.Fingerprint)
		t.Logf("share %d: %s", i+1, strings.TrimSpace(out))
	}
	p.AwaitLine(t, ready, patience)
	if err := n.Settled(1); err != nil {
		t.Error(err)
	}
}
