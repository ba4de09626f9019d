package replica

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// enqueueTimeout is how long raft's main loop may take to accept an entry. It
// is far above what it ever takes; when it passes, nothing has happened.
const enqueueTimeout = 2 * time.Second

// keep keeps the log within its budget, until Close.
func (r *Replica) keep() {
	for {
		select {
		case <-r.log.full:
			r.compact()
		case <-r.halted:
			return
		}
	}
}

// compact takes a snapshot, which costs nothing here, and drops the log up to
// it but for the newest half of the budget, from which a follower that is
// behind catches up: further behind it is sent the whole state.
func (r *Replica) compact() {
	defer r.snapshot.Ring()
	trailing := r.log.trailing(r.cfg.LogBudget / 2)
	r.reload(func(c *raft.ReloadableConfig) { c.TrailingLogs = trailing })
	err := r.takeMark()
	if err == nil {
		r.compactions.Add(1)
		return
	}
	if !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
		r.cfg.Logger.Warn("log not compacted", "group", r.cfg.Group, "error", err)
	}
}

// takeMark has raft take a snapshot, which is a mark here.
func (r *Replica) takeMark() error {
	defer r.snaps.marked()
	return r.raft.Snapshot().Error()
}

// setPace sets how often a leader sends heartbeats, and how long a follower
// waits for them: raft derives both from one setting.
func (r *Replica) setPace(leads bool) {
	pace := silence
	if leads {
		pace = leaderPace
	}
	r.reload(func(c *raft.ReloadableConfig) { c.HeartbeatTimeout, c.ElectionTimeout = pace, pace })
}

// reload changes raft's settings.
func (r *Replica) reload(change func(*raft.ReloadableConfig)) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	settings := r.raft.ReloadableConfig()
	change(&settings)
	if err := r.raft.ReloadConfig(settings); err != nil {
		r.cfg.Logger.Error("raft settings not changed", "group", r.cfg.Group, "error", err)
	}
}
