package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/node/audit"
)

// faulty is a file in memory that can be full, broken or hang.
type faulty struct {
	mu      sync.Mutex
	bytes   []byte
	room    int           // bytes that still fit; -1: any number
	syncErr error         // what Sync answers
	hang    chan struct{} // Write and Sync wait for it to close; nil: they don't
	syncs   int
	closed  bool
}

func (f *faulty) wait() {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

func (f *faulty) Write(p []byte) (int, error) {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room >= 0 && len(p) > f.room {
		n := f.room
		f.bytes = append(f.bytes, p[:n]...)
		f.room = 0
		return n, syscall.ENOSPC
	}
	if f.room >= 0 {
		f.room -= len(p)
	}
	f.bytes = append(f.bytes, p...)
	return len(p), nil
}

func (f *faulty) Sync() error {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs++
	return f.syncErr
}

func (f *faulty) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *faulty) set(change func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faulty) synced() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// pass lets the bubble's clock go on by d, and everybody finish.
func pass(d time.Duration) {
	<-time.NewTimer(d).C
	synctest.Wait()
}

// sequence returns the seq of each whole line, and how many lines are broken.
func (f *faulty) sequence() (whole []int, broken int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for line := range bytes.Lines(f.bytes) {
		var got struct{ Seq int }
		if json.Unmarshal(line, &got) != nil {
			broken++
			continue
		}
		whole = append(whole, got.Seq)
	}
	return whole, broken
}

// open makes a Log on f. What cfg leaves out is the default.
func open(t *testing.T, f *faulty, cfg audit.Config) *audit.Log {
	t.Helper()
	cfg.File = f
	log, err := audit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func write(t *testing.T, log *audit.Log, want error) {
	t.Helper()
	entry := sample()
	if err := log.Write(t.Context(), &entry); !errors.Is(err, want) {
		t.Fatalf("Write = %v, want %v", err, want)
	}
}

func closeLog(t *testing.T, log *audit.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryLineIsInTheFileWhenWriteReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: -1}
		log := open(t, f, audit.Config{})
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				for range 50 {
					write(t, log, nil)
				}
			})
		}
		group.Wait()
		whole, broken := f.sequence()
		if len(whole) != 800 || broken != 0 {
			t.Errorf("%d whole lines, %d broken; want 800, 0", len(whole), broken)
		}
		for i, seq := range whole {
			if seq != i+1 {
				t.Fatalf("line %d has seq %d", i+1, seq)
			}
		}
		closeLog(t, log)
		if !f.closed || f.syncs == 0 {
			t.Errorf("after Close: closed %v, %d syncs", f.closed, f.syncs)
		}
		write(t, log, cloakroom.ErrAuditUnavailable)
		closeLog(t, log) // a second Close does nothing
	})
}

func TestLinesAreSyncedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: -1}
		log := open(t, f, audit.Config{})
		write(t, log, nil)
		if n := f.synced(); n != 0 {
			t.Errorf("%d syncs right after the write", n)
		}
		pass(time.Second)
		if n := f.synced(); n == 0 || log.Stats().Unsynced != 0 {
			t.Errorf("after a second: %d syncs, unsynced for %v", n, log.Stats().Unsynced)
		}
		closeLog(t, log)
	})
}

func TestSyncEachWaitsForTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: -1}
		log := open(t, f, audit.Config{Sync: audit.SyncEach})
		for n := 1; n <= 3; n++ {
			write(t, log, nil)
			if got := f.synced(); got != n {
				t.Errorf("%d syncs after %d writes", got, n)
			}
		}
		f.set(func(f *faulty) { f.syncErr = syscall.EIO })
		write(t, log, cloakroom.ErrAuditUnavailable)
		f.set(func(f *faulty) { f.syncErr = nil })
		write(t, log, nil)
		closeLog(t, log)
	})
}

func TestFullDiskDeniesUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: 400} // one line and a part of the second
		log := open(t, f, audit.Config{})
		write(t, log, nil)
		write(t, log, cloakroom.ErrAuditUnavailable)
		write(t, log, cloakroom.ErrAuditUnavailable)
		f.set(func(f *faulty) { f.room = -1 })
		write(t, log, nil)
		closeLog(t, log)
		whole, broken := f.sequence()
		if len(whole) != 2 || whole[0] != 1 || whole[1] != 4 || broken != 1 {
			t.Errorf("whole lines %v, %d broken; want [1 4], 1", whole, broken)
		}
		if s := log.Stats(); s.Entries != 2 || s.Denied != 2 || s.WriteFailures != 2 || s.Lost != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestFullDiskCountsWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: 0}
		log := open(t, f, audit.Config{OnFailure: audit.Count})
		write(t, log, nil)
		write(t, log, nil)
		if s := log.Stats(); s.Lost != 2 || s.Denied != 0 || s.Entries != 0 {
			t.Errorf("stats %+v", s)
		}
		closeLog(t, log)
		write(t, log, cloakroom.ErrAuditUnavailable) // closed is not failed
	})
}

func TestFailedSyncDeniesUntilOneSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{room: -1, syncErr: syscall.EIO}
		log := open(t, f, audit.Config{})
		write(t, log, nil)
		pass(time.Second)
		write(t, log, cloakroom.ErrAuditUnavailable)
		f.set(func(f *faulty) { f.syncErr = nil })
		pass(time.Second)
		write(t, log, nil)
		if s := log.Stats(); s.SyncFailures == 0 || s.Denied != 1 {
			t.Errorf("stats %+v", s)
		}
		closeLog(t, log)
	})
}

func TestHangingWriteHoldsNoRequestForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{room: -1, hang: release}
		log := open(t, f, audit.Config{Deadline: time.Second})
		start := time.Now()
		write(t, log, cloakroom.ErrAuditUnavailable)
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("the first request waited %v, want the deadline of 1s", waited)
		}
		start = time.Now()
		write(t, log, cloakroom.ErrAuditUnavailable)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the second request waited %v, want 0", waited)
		}
		if s := log.Stats(); s.Stalls != 1 || s.Denied != 2 {
			t.Errorf("stats %+v", s)
		}
		f.set(func(f *faulty) { f.hang = nil })
		close(release)
		synctest.Wait()
		write(t, log, nil)
		closeLog(t, log)
	})
}

func TestRequestThatIsCalledOffStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{room: -1, hang: release}
		log := open(t, f, audit.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start, entry := time.Now(), sample()
		err := log.Write(ctx, &entry)
		if waited := time.Since(start); waited != 10*time.Millisecond || !errors.Is(err, cloakroom.ErrAuditUnavailable) {
			t.Errorf("Write = %v after %v, want ErrAuditUnavailable after 10ms", err, waited)
		}
		f.set(func(f *faulty) { f.hang = nil })
		close(release)
		write(t, log, nil) // one who gave up early does not stop the others
		closeLog(t, log)
	})
}

func TestHangingSyncIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{room: -1}
		log := open(t, f, audit.Config{Deadline: time.Second})
		write(t, log, nil)
		f.set(func(f *faulty) { f.hang = release })
		pass(3 * time.Second)
		start := time.Now()
		write(t, log, cloakroom.ErrAuditUnavailable)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v, want 0", waited)
		}
		f.set(func(f *faulty) { f.hang = nil })
		close(release)
		synctest.Wait()
		write(t, log, nil)
		closeLog(t, log)
	})
}

func TestCloseLeavesAHangingFileBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		log := open(t, &faulty{room: -1, hang: release}, audit.Config{})
		if err := log.Close(); !errors.Is(err, cloakroom.ErrAuditUnavailable) {
			t.Errorf("Close = %v, want ErrAuditUnavailable", err)
		}
		close(release)
	})
}

func TestPendingLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &faulty{room: -1, hang: release}
		log := open(t, f, audit.Config{MaxPending: 4096})
		var group sync.WaitGroup
		var mu sync.Mutex
		denied := 0
		for range 100 {
			group.Go(func() {
				entry := sample()
				if err := log.Write(t.Context(), &entry); err != nil {
					mu.Lock()
					denied++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		if got := log.Stats().PendingBytes; got < 4096 || got > 4096+1024 {
			t.Errorf("%d bytes pending, want 4096 and at most one line more", got)
		}
		f.set(func(f *faulty) { f.hang = nil })
		close(release)
		group.Wait()
		whole, _ := f.sequence()
		if denied == 0 || len(whole)+denied != 100 {
			t.Errorf("%d lines and %d denied of 100", len(whole), denied)
		}
		closeLog(t, log)
	})
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := audit.New(audit.Config{RingBytes: 1, SyncEvery: time.Hour, Deadline: -1, MaxPending: 1, Sync: 9})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"ring", "sync every", "deadline", "pending", "unknown"} {
		if !bytes.Contains([]byte(err.Error()), []byte(part)) {
			t.Errorf("%q does not mention %q", err, part)
		}
	}
}

func TestOnFailureNames(t *testing.T) {
	for _, mode := range []audit.OnFailure{audit.Deny, audit.Count} {
		if got, err := audit.ParseOnFailure(mode.String()); got != mode || err != nil {
			t.Errorf("ParseOnFailure(%q) = %v, %v", mode, got, err)
		}
	}
	if _, err := audit.ParseOnFailure("ignore"); err == nil {
		t.Error(`"ignore" was accepted`)
	}
}
