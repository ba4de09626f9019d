package cluster

import (
	"testing"
	"time"
	"unsafe"
)

const year = 365 * 24 * time.Hour

// setAhead returns t as a wall clock shows it that was set by d, in whole
// seconds; the monotonic reading stays.
func setAhead(t time.Time, d time.Duration) time.Time {
	// The wall seconds of a time with a monotonic reading stand from bit 30 on.
	*(*uint64)(unsafe.Pointer(&t)) += uint64(d/time.Second) << 30
	return t
}

// monotonicClock starts with a monotonic reading and ticks by hand.
type monotonicClock struct {
	start time.Time
	ticks chan time.Time
}

func (c *monotonicClock) Now() time.Time                       { return c.start }
func (c *monotonicClock) After(time.Duration) <-chan time.Time { return c.ticks }

// ClockStepAlone: the only clock of a shard was set a year ahead, and a second
// later shard time was a year on for good.
func TestAStepOfTheOnlyClockMovesNoShardTime(t *testing.T) {
	clock := &monotonicClock{start: time.Now(), ticks: make(chan time.Time)}
	r := open(t, func(cfg *Config, _ *rig) { cfg.Clock = clock })
	m := r.machines[0]
	last := func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		return time.UnixMilli(int64(m.times[len(m.times)-1]))
	}
	// Each tick is handled, and what it queued applied, before the next check.
	tick := func(since, ahead time.Duration) time.Duration {
		now := setAhead(clock.start.Add(since), ahead)
		clock.ticks <- now
		clock.ticks <- now // the tick before is done with
		if err := <-r.background(t.Context(), put(1, 1)); err != nil {
			t.Fatal(err)
		}
		return last().Sub(clock.start).Round(time.Second)
	}
	for _, step := range []struct {
		what               string
		since, ahead, want time.Duration
		skewed             bool
	}{
		{"in step", time.Second, 0, time.Second, false},
		{"a small step", 2 * time.Second, 9 * time.Second, 11 * time.Second, false},
		{"a year ahead", 3 * time.Second, year, 11 * time.Second, true},
		{"for most of an hour", 50 * time.Minute, year, 11 * time.Second, true},
		{"set right", 51 * time.Minute, 0, 51 * time.Minute, false},
		{"a year ahead again", 52 * time.Minute, year, 51 * time.Minute, true},
		{"two years ahead", 100 * time.Minute, 2 * year, 51 * time.Minute, true},
		{"not for an hour", 120 * time.Minute, 2 * year, 51 * time.Minute, true},
		{"for an hour", 160 * time.Minute, 2 * year, 2*year + 160*time.Minute, false},
	} {
		if got := tick(step.since, step.ahead); got != step.want {
			t.Errorf("%s: shard time is %v on, want %v", step.what, got, step.want)
		}
		if got := r.Status().ClockSkew; got != step.skewed {
			t.Errorf("%s: skew %v, want %v", step.what, got, step.skewed)
		}
	}
}
