package replica

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// enqueueTimeout is how long raft's main loop may take to accept an entry. It
// is far above what it ever takes; when it passes, nothing has happened.
const enqueueTimeout = 2 * time.Second

// keep follows the lead and keeps the log within its budget, until Close.
func (r *Replica) keep() {
	for {
		select {
		case lead := <-r.raft.LeaderCh():
			r.lead(lead)
		case <-r.log.full:
			r.compact()
		case <-r.closed:
			return
		}
	}
}

// lead notes a change of leadership. A leader answers only once an entry of
// its own term is applied: before that its commit index may lie below what an
// earlier leader acknowledged.
func (r *Replica) lead(elected bool) {
	if elected {
		elected = r.barrier() == nil
	}
	if r.parked.Load() != nil {
		elected = false
	}
	r.leading.Store(elected)
	r.changed.ring()
}

// barrier waits until everything committed so far is applied.
func (r *Replica) barrier() error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.stopped(); err != nil {
		return err
	}
	return r.raft.Barrier(enqueueTimeout).Error()
}

// compact takes a snapshot, which costs nothing here, and drops the log up to
// it but for the newest quarter of the budget, from which a follower that is a
// little behind catches up.
func (r *Replica) compact() {
	defer r.snapshot.ring()
	reload := r.raft.ReloadableConfig()
	reload.TrailingLogs = r.log.trailing(r.cfg.LogBudget / 4)
	if err := r.raft.ReloadConfig(reload); err != nil {
		r.cfg.Logger.Error("trailing logs not set", "group", r.cfg.Group, "error", err)
		return
	}
	err := r.raft.Snapshot().Error()
	if err == nil {
		r.compactions.Add(1)
		return
	}
	if !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
		r.cfg.Logger.Warn("log not compacted", "group", r.cfg.Group, "error", err)
	}
}
