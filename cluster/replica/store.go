package replica

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/hashicorp/raft"
)

// Store keeps on disk what a replica must not forget across restarts. Package
// wal has one. The replica has it for itself from New on, and does not close it.
//
// An error that is syscall.ENOSPC means that nothing was done, and passes. Any
// other parks the replica, for good if Retired says so.
type Store interface {
	// Replay calls each with every entry that is there, the oldest first. It is
	// called once, before anything else.
	Replay(each func(*raft.Log) error) error
	// StoreLogs and DeleteRange are those of raft.LogStore; they return when
	// what they did is durable. Entries are read from memory.
	StoreLogs(logs []*raft.Log) error
	DeleteRange(min, max uint64) error
	raft.StableStore
	Snapshots() raft.SnapshotStore
	// Retired returns why the identity must not be used any more, nil if it may.
	Retired() error
	// Full reports whether the disk has so little room left that nothing should
	// be written but what makes room or must not wait.
	Full() bool
}

// durableLog is the log of a replica with a store: entries are in memory, where
// all reading is done, and on disk.
type durableLog struct {
	*memLog
	store Store
}

// load fills the memory from the disk.
func (l *durableLog) load(members *roster) error {
	return l.store.Replay(func(log *raft.Log) error {
		found, err := configurationsIn([]*raft.Log{log})
		if err != nil {
			return err
		}
		members.stored(found)
		return l.memLog.StoreLog(log)
	})
}

// StoreLog implements raft.LogStore.
func (l *durableLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. Memory is first: it refuses what does not
// fit. raft reads no entry before this returns.
func (l *durableLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if err := l.memLog.StoreLogs(logs); err != nil {
		return err
	}
	err := l.store.StoreLogs(logs)
	if err == nil {
		return nil
	}
	if gone := l.memLog.DeleteRange(logs[0].Index, logs[len(logs)-1].Index); gone != nil {
		return errors.Join(err, gone) // parks
	}
	return diskFull(err)
}

// DeleteRange implements raft.LogStore. The disk is first: a log that is longer
// there than in memory could not be gone on from.
func (l *durableLog) DeleteRange(min, max uint64) error {
	if err := l.store.DeleteRange(min, max); err != nil {
		return diskFull(err)
	}
	return l.memLog.DeleteRange(min, max)
}

// diskFull makes errLogFull, which parks nobody, of a full disk.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", errLogFull, err)
	}
	return err
}

// found makes the founder's first entry, as raft.BootstrapCluster does. That
// one refuses stores where a crash came between term and entry.
func found(logs raft.LogStore, stable raft.StableStore, founder raft.Configuration) error {
	if err := stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		return err
	}
	return logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration,
		Data: raft.EncodeConfiguration(founder)})
}

// Retired returns why the identity of this replica must not be used any more,
// which outlives the process: its log on disk can't be trusted. nil while it
// may, parked or not.
func (r *Replica) Retired() error {
	if r.cfg.Store == nil {
		return nil
	}
	return r.cfg.Store.Retired()
}

// Full reports whether the disk of the store is nearly full, as seen within the
// last second. A leader then refuses all but what must not wait.
func (r *Replica) Full() bool { return r.full.Load() }

// watchDisk notes how much room the disk has, and tells when that changes.
func (r *Replica) watchDisk() {
	if r.cfg.Store == nil {
		return
	}
	full := r.cfg.Store.Full()
	switch before := r.full.Swap(full); {
	case full && !before:
		r.cfg.Logger.Error("disk nearly full: nothing but erasures is taken in until there is room", "group", r.cfg.Group)
	case before && !full:
		r.cfg.Logger.Info("disk has room again", "group", r.cfg.Group)
	}
}
