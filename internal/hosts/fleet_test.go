//go:build linux

package hosts

import (
	"testing"
	"time"
)

func TestANodeIsFoundedAndStopsInOrder(t *testing.T) {
	t.Parallel()
	f := NewFleet(t, program(t, ""), nil)
	n := f.Found("n1", "--shares", "3", "--threshold", "2")
	if err := n.Settled(1); err != nil {
		t.Error(err)
	}
	if len(f.Shares) != 3 {
		t.Errorf("%d shares", len(f.Shares))
	}
	if err := n.Process().Stop(20 * time.Second); err != nil {
		t.Fatalf("stop: %v\n%s", err, n.Process().Log())
	}
}
