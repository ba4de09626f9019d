package api

import (
	"context"
	"sync"
	"time"
)

// deadline is a context that ends at a time, or with the request. Its timer
// is made when somebody first waits on Done: most requests never do.
type deadline struct {
	parent context.Context
	at     time.Time

	mu     sync.Mutex
	timed  context.Context // nil until Done is asked for
	cancel context.CancelFunc
}

func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }

// shorten moves the end to an earlier time, unless somebody waits for it
// already.
func (d *deadline) shorten(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil && at.Before(d.at) {
		d.at = at
	}
}

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadlineCause(d.parent, d.at, context.DeadlineExceeded)
	}
	return d.timed.Done()
}

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed != nil {
		return d.timed.Err()
	}
	if err := d.parent.Err(); err != nil {
		return err
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value asks the timed context once there is one, so that a child finds its
// parent's cancellation without a goroutine.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	ctx := d.timed
	d.mu.Unlock()
	if ctx == nil {
		ctx = d.parent
	}
	return ctx.Value(key)
}

// end releases the timer. The parent ends right after it.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
}
