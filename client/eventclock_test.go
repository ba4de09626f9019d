package client

import (
	"errors"
	"testing"
	"time"
	"unsafe"
)

// slept returns t as if the machine had slept for d since, whole seconds: the
// wall clock of t lies back, the monotonic one does not.
func slept(t *testing.T, at time.Time, d time.Duration) time.Time {
	before := at
	*(*uint64)(unsafe.Pointer(&before)) -= uint64(d/time.Second) << 30 // the seconds of a time with both clocks
	if at.Sub(before) != 0 || at.Round(0).Sub(before.Round(0)) != d {
		t.Skip("a time is laid out in another way")
	}
	return before
}

// Words that waited in a buffer while the machine slept do not pass for new.
func TestWordsOlderThanASleep(t *testing.T) {
	now := time.Now()
	m := message{name: "alive", data: []byte(`{"at_ms":2000}`)}
	if _, err := m.event(slept(t, now.Add(-time.Second), 10*time.Minute), now); !errors.Is(err, errSlept) {
		t.Errorf("after a sleep: %v", err)
	}
	if e, err := m.event(slept(t, now.Add(-1500*time.Millisecond), time.Second), now); err != nil || now.Sub(e.Known) != 500*time.Millisecond {
		t.Errorf("after a nap: %v, %v", e, err)
	}
}

func TestAgeOfAWord(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ elapsed, byWall, at, want time.Duration }{
		{5 * s, 5 * s, 3 * s, 2 * s},
		{5 * s, 5 * s, 7 * s, 0}, // the server's clock is faster
		{5 * s, 6 * s, 6 * s, 0},
		{5 * s, 6 * s, 5 * s, s}, // slept for a second
		{5 * s, -60 * s, 4 * s, s},
	} {
		if got := ageOf(c.elapsed, c.byWall, c.at); got != c.want {
			t.Errorf("%v, %v by the wall clock, at %v: got %v, want %v", c.elapsed, c.byWall, c.at, got, c.want)
		}
	}
}
