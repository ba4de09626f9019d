// Package audit keeps the record of who asked for what: one JSON line per
// request, written before the request is answered.
//
// It owns the format of the line and the promise about the sink: with a file,
// [Log.Write] returns when the line has been handed to the operating system,
// and it is on disk within a second; when that cannot be had, the request is
// denied, or counted, as configured. It never sees a value or a pseudonym,
// and takes no free text of a caller: every name in an [Entry] comes from the
// schema or the directory.
//
// A [Log] is safe for concurrent use.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cloakroom"
)

// File is where lines go. [OpenFile] returns one on disk.
type File interface {
	Write(line []byte) (int, error)
	Sync() error
	Close() error
}

// SyncMode says what a request waits for.
type SyncMode uint8

const (
	SyncWithin SyncMode = iota // the write; fsync follows within a second
	SyncEach                   // the fsync too; one covers all that wait together
)

// OnFailure says what becomes of a request that cannot be recorded.
type OnFailure uint8

const (
	Deny  OnFailure = iota // it is answered with ErrAuditUnavailable
	Count                  // it goes on, and Stats.Lost grows
)

// ParseOnFailure reads "deny" or "count".
func ParseOnFailure(text string) (OnFailure, error) {
	switch text {
	case "deny":
		return Deny, nil
	case "count":
		return Count, nil
	}
	return 0, errors.New(`audit.on_failure: want "deny" or "count"`)
}

// Config is what a Log is made of.
type Config struct {
	File      File // closed by Close; nil keeps the latest lines in memory
	RingBytes int  // size of that memory, in bytes, default 1 MiB
	Sync      SyncMode
	OnFailure OnFailure

	SyncEvery  time.Duration // pause between two fsyncs, default 500 ms, at most 1 s
	Deadline   time.Duration // longest wait of one request for the file, default 2 s
	MaxPending int           // bytes that may wait for the file, default 1 MiB

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default discards
}

func (c *Config) fill() error {
	if c.RingBytes == 0 {
		c.RingBytes = 1 << 20
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = 500 * time.Millisecond
	}
	if c.Deadline == 0 {
		c.Deadline = 2 * time.Second
	}
	if c.MaxPending == 0 {
		c.MaxPending = 1 << 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	if c.RingBytes < 4096 {
		faults = append(faults, fmt.Errorf("ring of %d bytes: want at least 4096", c.RingBytes))
	}
	if c.SyncEvery < 0 || c.SyncEvery > time.Second {
		faults = append(faults, fmt.Errorf("sync every %v: want at most 1s", c.SyncEvery))
	}
	if c.Deadline < 0 {
		faults = append(faults, fmt.Errorf("deadline %v: want more than 0", c.Deadline))
	}
	if c.MaxPending < 4096 {
		faults = append(faults, fmt.Errorf("%d pending bytes: want at least 4096", c.MaxPending))
	}
	if c.Sync > SyncEach || c.OnFailure > Count {
		faults = append(faults, errors.New("unknown sync mode or failure mode"))
	}
	return errors.Join(faults...)
}

// Log records requests. See the package comment for what it promises.
type Log struct {
	cfg     Config
	waiters sync.Pool     // of *waiter
	wake    chan struct{} // holds one when there are pending lines
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when both goroutines ended and the file is closed

	mu    sync.Mutex
	lines encoder
	ring  ring
	batch batch // what the writer takes next
	state health
	stats Stats
}

// health is what a Log knows of its file. It is guarded by Log.mu.
type health struct {
	closed     bool
	stalled    bool      // a request gave up waiting, and the writer is still out
	syncFailed bool      // the latest fsync failed
	dirtySince time.Time // when the oldest line not yet fsynced was written; zero: none
	written    uint64    // bytes written so far
	failing    bool      // the latest thing logged was that the file fails
}

// Stats counts what a Log did since it was made.
type Stats struct {
	Entries       uint64        // recorded: in the file, or in memory
	Denied        uint64        // requests answered with ErrAuditUnavailable
	Lost          uint64        // requests that went on without a sure record
	WriteFailures uint64        // writes of the file that failed or fell short
	SyncFailures  uint64        // fsyncs that failed
	Stalls        uint64        // times a request gave up waiting for the file
	PendingBytes  int           // waiting for the file now
	Unsynced      time.Duration // age of the oldest line not yet fsynced
}

// New makes a Log. With a file it starts two goroutines, one that writes and
// one that syncs; Close stops both and waits for them.
func New(cfg Config) (*Log, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("configure audit log: %w", err)
	}
	l := &Log{
		cfg:     cfg,
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if cfg.File == nil {
		l.ring.bytes = make([]byte, cfg.RingBytes)
		close(l.stopped)
		return l, nil
	}
	l.waiters.New = func() any { return newWaiter(cfg.Deadline) }
	synced := make(chan struct{})
	go l.syncLoop(synced) // Close stops it, writeLoop waits for it
	go l.writeLoop(synced)
	return l, nil
}

// Write records e. It returns [cloakroom.ErrAuditUnavailable] when that was
// not possible within the deadline of ctx or of the Log and failures deny;
// the line may reach the file later all the same: too much is recorded
// rather than too little. Neither e nor what it points at is kept.
func (l *Log) Write(ctx context.Context, e *Entry) error {
	now := l.cfg.Now()
	l.mu.Lock()
	if !l.ready(now) {
		defer l.mu.Unlock()
		return l.failed()
	}
	if l.cfg.File == nil {
		l.ring.append(l.lines.line(now, e))
		l.stats.Entries++
		l.mu.Unlock()
		return nil
	}
	w := l.waiters.Get().(*waiter)
	l.batch.add(l.lines.line(now, e), w)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // the writer is called already
	}
	return l.await(ctx, w)
}

// ready says whether a line can be taken now. l.mu is held.
func (l *Log) ready(now time.Time) bool {
	s := &l.state
	if s.closed {
		return false
	}
	if l.cfg.File == nil {
		return true
	}
	// An fsync that hangs shows as lines that stay dirty for too long.
	late := !s.dirtySince.IsZero() && now.Sub(s.dirtySince) > time.Second+l.cfg.Deadline
	return !s.stalled && !s.syncFailed && !late && len(l.batch.bytes) < l.cfg.MaxPending
}

// failed counts a request that could not be recorded and says what it is
// told. l.mu is held. A Log that was closed denies in either mode.
func (l *Log) failed() error {
	if l.cfg.OnFailure == Count && !l.state.closed {
		l.stats.Lost++
		return nil
	}
	l.stats.Denied++
	return cloakroom.ErrAuditUnavailable
}

// Recent appends the latest lines kept in memory to dst, oldest first. With a
// file there are none.
func (l *Log) Recent(dst []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ring.appendTo(dst)
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	now := l.cfg.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.PendingBytes = len(l.batch.bytes)
	if !l.state.dirtySince.IsZero() {
		s.Unsynced = max(0, now.Sub(l.state.dirtySince))
	}
	return s
}

// Close writes what is pending, syncs and closes the file, and waits for
// that, but for no longer than the deadline: a file that hangs is left
// behind, with an error. Writes after Close are denied.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.state.closed
	l.state.closed = true
	l.mu.Unlock()
	if !again {
		close(l.stop)
	}
	timer := time.NewTimer(l.cfg.Deadline)
	defer timer.Stop()
	select {
	case <-l.stopped:
		return nil
	case <-timer.C:
		return fmt.Errorf("close audit log: %w", cloakroom.ErrAuditUnavailable)
	}
}
