package replica

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// watchEvery is how often a replica looks after itself.
const watchEvery = time.Second

// stuckLooks is how many looks in a row must find that raft refuses everything
// for the sake of a transfer. Two looks lie between the first and the third:
// more than three election timeouts.
const stuckLooks = 3

var (
	errTransferStuck = errors.New("transfer stuck: the leader refuses all entries for the sake of a transfer that never ends")
	errInstallLoop   = errors.New("install loop: snapshots come in, and no entry after them")
)

// watch cuts stalled connections and finds what raft never gets out of by
// itself, until Close.
func (r *Replica) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	stuck := 0
	for {
		select {
		case <-ticker.C:
		case <-r.halted:
			return
		}
		r.streams.sweep()
		r.loud.tick()
		stuck = r.watchTransfer(stuck)
	}
}

// watchTransfer counts the looks that find raft refusing everything, and parks
// the replica in the end (raft issue 696): its next life is another replica.
func (r *Replica) watchTransfer(stuck int) int {
	if !r.refused.Load() || r.raft.State() != raft.Leader {
		return 0
	}
	if stuck++; stuck >= stuckLooks && !r.cfg.Hazards.NoTransferWatchdog {
		r.park(errTransferStuck)
		return 0
	}
	// Nobody else may be asking. Ends with raft's answer, which Close forces.
	r.running.Go(func() {
		if r.barrier() == nil {
			r.changed.ring()
		}
	})
	return stuck
}
