package cluster

import (
	"sync"
	"time"
)

// simClock is the clock of one node. It runs fast or slow against the bubble's
// clock, jumps, and stands still while its node is paused.
type simClock struct {
	mu     sync.Mutex
	since  time.Time // of the bubble, when it showed shown
	shown  time.Time
	rate   float64
	paused bool
	frozen time.Time        // what it shows while paused
	held   []chan time.Time // alarms that went off during a pause
}

func newSimClock(rate float64) *simClock {
	now := time.Now()
	return &simClock{since: now, shown: now, rate: rate}
}

// Now implements [Clock].
func (c *simClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *simClock) now() time.Time {
	if c.paused {
		return c.frozen
	}
	return c.shown.Add(time.Duration(float64(time.Since(c.since)) * c.rate))
}

// After implements [Clock]. A step of the clock does not move it.
func (c *simClock) After(d time.Duration) <-chan time.Time {
	alarm := make(chan time.Time, 1)
	time.AfterFunc(time.Duration(float64(d)/c.rate), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.paused {
			c.held = append(c.held, alarm)
			return
		}
		alarm <- c.now()
	})
	return alarm
}

// step moves the clock by d.
func (c *simClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = c.shown.Add(d)
}

// set makes the clock show the bubble's time and d.
func (c *simClock) set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
	c.shown = c.since.Add(d)
}

// pause stops the clock or lets it go on. A process that was stopped finds on
// its wall clock that time went by.
func (c *simClock) pause(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == paused {
		return
	}
	now := c.now()
	c.paused = paused
	if paused {
		c.frozen = now
		return
	}
	now = c.now()
	for _, alarm := range c.held {
		alarm <- now
	}
	c.held = nil
}
