package audit

import (
	"context"
	"time"
)

// How lines reach a file:
//
//	Write ──line──▶ batch ──▶ writeLoop ──write(2)──▶ file ◀──fsync── syncLoop
//	  ▲                           │
//	  └───────── result ──────────┘
//
// A request adds its line to the batch and waits. The writer takes the whole
// batch, writes it with one call and tells each request whether its line got
// there, so that many requests share a call and none waits for an fsync (but
// for SyncEach). No request touches the file itself: a write(2) that hangs
// cannot be interrupted, waiting for a channel can.

// waiter is one request that waits for its line to be written.
type waiter struct {
	end    int        // offset of the end of its line in the batch
	result chan error // holds one, so that the writer never waits for a request
	timer  *time.Timer
}

func newWaiter(deadline time.Duration) *waiter {
	w := &waiter{result: make(chan error, 1), timer: time.NewTimer(deadline)}
	w.timer.Stop()
	return w
}

// batch is what the writer takes at once.
type batch struct {
	bytes   []byte
	waiters []*waiter
}

func (b *batch) add(line []byte, w *waiter) {
	b.bytes = append(b.bytes, line...)
	w.end = len(b.bytes)
	b.waiters = append(b.waiters, w)
}

// await waits for the writer's word on w.
func (l *Log) await(ctx context.Context, w *waiter) error {
	w.timer.Reset(l.cfg.Deadline)
	select {
	case err := <-w.result:
		w.timer.Stop()
		l.waiters.Put(w)
		if err == nil {
			return nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failed()
	case <-ctx.Done():
		w.timer.Stop()
		return l.gaveUp(w, false)
	case <-w.timer.C:
		return l.gaveUp(w, true)
	}
}

// gaveUp ends a wait without the writer's word. w is not used again: the
// writer still holds it. After a full deadline the requests that follow are
// not made to wait as well, until the writer is back.
func (l *Log) gaveUp(w *waiter, deadline bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-w.result: // it came at the last moment
		if err == nil {
			return nil
		}
	default:
		if deadline {
			l.state.stalled = true
			l.stats.Stalls++
			l.logFailing("audit file hangs", nil)
		}
	}
	return l.failed()
}

// writeLoop writes batches until Close, then what is left, and closes the file.
func (l *Log) writeLoop(synced <-chan struct{}) {
	defer close(l.stopped)
	var mine batch
	torn := false // the file ends in the middle of a line
	for open := true; open; {
		select {
		case <-l.wake:
		case <-l.stop:
			open = false
		}
		l.mu.Lock()
		mine, l.batch = l.batch, batch{bytes: mine.bytes[:0], waiters: mine.waiters[:0]}
		l.mu.Unlock()
		if len(mine.bytes) > 0 {
			torn = l.writeBatch(&mine, torn)
		}
	}
	<-synced
	if err := l.cfg.File.Sync(); err != nil {
		l.cfg.Logger.Error("audit file cannot be synced", "error", err)
	}
	if err := l.cfg.File.Close(); err != nil {
		l.cfg.Logger.Error("audit file cannot be closed", "error", err)
	}
}

// writeBatch writes b and answers its waiters. It returns whether the file
// now ends in the middle of a line; the next batch then starts a new one, so
// that no whole line is ever glued to half of another.
func (l *Log) writeBatch(b *batch, torn bool) bool {
	written, err := 0, error(nil)
	if torn {
		var n int
		n, err = l.cfg.File.Write([]byte{'\n'})
		torn = n == 0
	}
	if err == nil {
		written, err = l.cfg.File.Write(b.bytes)
		if written > 0 {
			torn = b.bytes[written-1] != '\n'
		}
	}
	syncErr := error(nil)
	if l.cfg.Sync == SyncEach && written > 0 {
		syncErr = l.cfg.File.Sync()
	}
	l.report(b, written, err, syncErr)
	return torn
}

// report tells each waiter of b whether its line is among the first written
// bytes, and notes how the file is.
func (l *Log) report(b *batch, written int, err, syncErr error) {
	now := l.cfg.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.stalled = false
	l.state.written += uint64(written)
	if written > 0 && l.state.dirtySince.IsZero() && l.cfg.Sync == SyncWithin {
		l.state.dirtySince = now
	}
	switch {
	case err != nil:
		l.stats.WriteFailures++
		l.logFailing("audit file cannot be written", err)
	case syncErr != nil:
		l.stats.SyncFailures++
		l.logFailing("audit file cannot be synced", syncErr)
	default:
		l.logRecovered()
	}
	for _, w := range b.waiters {
		result := syncErr
		if w.end > written {
			result = err
		}
		if result == nil {
			l.stats.Entries++
		}
		w.result <- result
	}
}

// syncLoop syncs the file every SyncEvery until Close.
func (l *Log) syncLoop(synced chan<- struct{}) {
	defer close(synced)
	if l.cfg.Sync == SyncEach {
		return // the writer syncs
	}
	ticker := time.NewTicker(l.cfg.SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.sync()
		case <-l.stop:
			return
		}
	}
}

// sync makes what was written before it durable. It runs when nothing was
// written too: that is when a file on disk notices that it was moved away.
func (l *Log) sync() {
	start := l.cfg.Now()
	l.mu.Lock()
	before := l.state.written
	l.mu.Unlock()

	err := l.cfg.File.Sync()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.syncFailed = err != nil
	if err != nil {
		l.stats.SyncFailures++
		l.logFailing("audit file cannot be synced", err)
		return
	}
	if l.state.written == before {
		l.state.dirtySince = time.Time{}
	} else {
		l.state.dirtySince = start // what was written since then
	}
	l.logRecovered()
}

// logFailing tells the operator once that the file fails. l.mu is held.
func (l *Log) logFailing(message string, err error) {
	if l.state.failing {
		return
	}
	l.state.failing = true
	l.cfg.Logger.Error(message, "error", err, "on_failure", l.cfg.OnFailure.String())
}

// logRecovered tells the operator once that it works again. l.mu is held.
func (l *Log) logRecovered() {
	if !l.state.failing || l.state.syncFailed || l.state.stalled {
		return
	}
	l.state.failing = false
	l.cfg.Logger.Info("audit file works again", "denied", l.stats.Denied, "lost", l.stats.Lost)
}

// String returns the name used in the configuration.
func (o OnFailure) String() string {
	if o == Count {
		return "count"
	}
	return "deny"
}
