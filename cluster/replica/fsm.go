package replica

import (
	"cloakroom/cluster/bell"

	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// errParked answers entries that a parked replica does not apply.
var errParked = errors.New("the replica is parked")

// fsm stands between raft and the machine. It remembers which entry the state
// is at, so that a view and its index are taken together.
type fsm struct {
	machine Machine
	park    func(error)
	termAt  func(index uint64) uint64 // of an entry in the log
	members *roster
	applied bell.Bell     // rings when an entry is applied and somebody waits
	keeps   bool          // snapshots are written down
	turn    turn          // held by who changes the state or takes a view of it; comes before mu
	command atomic.Uint64 // index of the last command applied; only grows

	mu          sync.Mutex
	failed      bool   // the machine gave up: apply nothing any more
	index, term uint64 // of the last entry raft handed over; configurations count
	config      raft.Configuration
	configIndex uint64
}

// turn is a lock that may be held for long: an entry or a snapshot can take the
// machine a while, and nobody who asks how far the replica is should wait for
// it. It is a channel, so that a bubble's clock moves on meanwhile.
type turn chan struct{}

func newTurn() turn   { return make(turn, 1) }
func (t turn) take()  { t <- struct{}{} }
func (t turn) leave() { <-t }

// Apply implements raft.FSM. The answer is the machine's result or an error.
// A parked replica goes on answering, so that raft's channels drain.
func (f *fsm) Apply(log *raft.Log) any {
	f.turn.take()
	defer f.turn.leave()
	if f.gaveUp() {
		return errParked
	}
	result, err := f.machine.Apply(log.Index, log.Data)
	if err != nil {
		f.giveUp(fmt.Errorf("apply entry %d: %w", log.Index, err))
		return errParked
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.command.Store(log.Index)
	f.index, f.term = log.Index, log.Term
	f.applied.Ring()
	return result
}

// gaveUp reports whether the machine has failed.
func (f *fsm) gaveUp() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// giveUp notes that the machine has failed, and why.
func (f *fsm) giveUp(reason error) {
	f.mu.Lock()
	f.failed = true
	f.mu.Unlock()
	f.park(reason)
}

// StoreConfiguration implements raft.ConfigurationStore. Without it an idle
// group could not take a snapshot after a change of its members.
func (f *fsm) StoreConfiguration(index uint64, config raft.Configuration) {
	f.turn.take()
	defer f.turn.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	// raft doesn't say the term; the entry can't have left the log, since a
	// snapshot never goes beyond what was handed over here.
	f.index, f.term = index, f.termAt(index)
	f.config, f.configIndex = config, index
	f.members.committed(index)
}

// Snapshot implements raft.FSM. There is nothing to write without a store: see
// snapshots.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.turn.take()
	defer f.turn.leave()
	if f.gaveUp() {
		return nil, errParked
	}
	if !f.keeps {
		return liveSnapshot{}, nil
	}
	view, err := f.machine.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return liveSnapshot{view}, nil
}

// Restore implements raft.FSM. raft panics on an error here, so a failure
// parks the replica and is not told.
func (f *fsm) Restore(source io.ReadCloser) error {
	f.turn.take()
	defer f.turn.leave()
	if f.gaveUp() {
		return nil
	}
	if err := f.machine.Restore(source); err != nil {
		f.giveUp(fmt.Errorf("restore: %w", err))
	}
	return nil
}

// restored notes where a received snapshot put the state.
func (f *fsm) restored(meta *raft.SnapshotMeta) {
	f.turn.take()
	defer f.turn.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.failed {
		f.command.Store(max(f.command.Load(), meta.Index))
	}
	f.index, f.term = meta.Index, meta.Term
	f.config, f.configIndex = meta.Configuration, meta.ConfigurationIndex
	f.members.installed(meta)
	f.applied.Ring()
}

// live returns the present state and where it stands.
func (f *fsm) live() (View, raft.SnapshotMeta, error) {
	f.turn.take()
	defer f.turn.leave()
	if f.gaveUp() {
		return nil, raft.SnapshotMeta{}, errParked
	}
	view, err := f.machine.Snapshot()
	if err != nil {
		return nil, raft.SnapshotMeta{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return view, raft.SnapshotMeta{Index: f.index, Term: f.term,
		Configuration: f.config.Clone(), ConfigurationIndex: f.configIndex}, nil
}

// handedOver returns the index of the last entry that raft gave to the machine.
func (f *fsm) handedOver() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.index
}
