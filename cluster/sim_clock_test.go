package cluster

import (
	"math/rand/v2"
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

// simUptime is how long a machine has been up: off by its rate, never set, and
// going on while its node is paused. A new life of the node finds it as it was,
// one after a power cut at its beginning.
type simUptime struct {
	rate float64

	mu    sync.Mutex
	begin time.Time // of the bubble, when it showed shown
	shown time.Duration
}

// drawUptimes draws those of n machines. Each goes up to 10 % fast or slow, and
// any two differ by less than 10 %, which is what leases rest on; one in two is
// as far off as the others allow.
func drawUptimes(d *rand.Rand, n int) []*simUptime {
	const apart = 1.0999
	slowest := 0.9 + (1.1/apart-0.9)*d.Float64()
	all := make([]*simUptime, n)
	for i := range all {
		rate := slowest * (1 + (apart-1)*d.Float64())
		switch d.IntN(4) {
		case 0:
			rate = slowest
		case 1:
			rate = slowest * apart
		}
		all[i] = &simUptime{rate: rate, begin: time.Now(), shown: time.Duration(d.Int64N(int64(1000 * time.Hour)))}
	}
	return all
}

// now is a [Config.Uptime].
func (u *simUptime) now() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.shown + time.Duration(float64(time.Since(u.begin))*u.rate)
}

// reboot starts it again.
func (u *simUptime) reboot() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begin, u.shown = time.Now(), 0
}
