package node

import (
	"testing"
	"time"
)

// What a shard's clock says is believed when it has said so for an hour of a
// clock that nobody sets.
func TestGrace(t *testing.T) {
	const hour = 3600
	var g grace
	at := time.Duration(0)
	step := func(d time.Duration, shardTime uint32) uint32 {
		at += d
		g.note(3, at, shardTime)
		return g.before(3, at, shardTime)
	}
	for i := range uint32(60) {
		if got := step(time.Minute, 10*hour+60*i); got != 0 {
			t.Fatalf("after %d minutes: up to %d", i, got)
		}
	}
	if got := step(time.Minute, 11*hour); got != 10*hour {
		t.Errorf("after an hour: up to %d, want %d", got, 10*hour)
	}
	// The majority's clocks jump ahead by a day: the hour counts from now on.
	for i := range uint32(60) {
		if got := step(time.Minute, 35*hour+60*i); got > 11*hour {
			t.Fatalf("%d minutes after the jump: up to %d", i, got)
		}
	}
	if got := step(time.Minute, 36*hour); got != 35*hour {
		t.Errorf("an hour after the jump: up to %d, want %d", got, 35*hour)
	}
	// A shard whose clock stands still lets nothing more go.
	for range 120 {
		if got := step(time.Minute, 36*hour); got != 35*hour {
			t.Fatalf("while it stands: up to %d, want %d", got, 35*hour)
		}
	}
	if n := len(g.seen[3]); n > 62 {
		t.Errorf("%d sightings are kept", n)
	}
	if got := g.before(4, at, 36*hour); got != 0 {
		t.Errorf("of a shard never seen: up to %d", got)
	}
	// Sightings seconds apart are one.
	for range 600 {
		step(time.Second, 37*hour)
	}
	if n := len(g.seen[3]); n > 62 {
		t.Errorf("%d sightings are kept", n)
	}
}
