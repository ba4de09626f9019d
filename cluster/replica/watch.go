package replica

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// watchEvery is how often a replica looks after itself.
const watchEvery = time.Second

// tornLooks is how many looks must find a follower searching for entries it
// should have, with none stored in between.
const tornLooks = 3

// stuckProbes is how many probes in a row raft must refuse for the sake of a
// transfer: more than three election timeouts lie between the first and the
// third.
const stuckProbes = 3

var (
	errTransferStuck = errors.New("transfer stuck: the leader refuses all entries for the sake of a transfer that never ends")
	errLogTorn       = errors.New("log torn: raft takes entries for stored that are not in the log, and gets no further")
)

// watch cuts stalled connections and finds what raft never gets out of by
// itself, until Close.
func (r *Replica) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.halted:
			return
		}
		r.streams.sweep()
		r.loud.tick()
		r.watchDisk()
		r.watchTransfer()
		if r.torn.look() && !r.cfg.Hazards.NoInstallWatchdog {
			r.park(errLogTorn)
		}
	}
}

// watchTransfer asks again what raft has refused for the sake of a transfer,
// and parks the replica when it refuses for too long (raft issue 696): its next
// life is another replica.
func (r *Replica) watchTransfer() {
	if !r.refused.Load() || r.raft.State() != raft.Leader {
		r.stuck.Store(0)
		return
	}
	if r.probing.Swap(true) {
		return
	}
	// Ends with raft's answer, which Close forces.
	r.running.Go(func() {
		defer r.probing.Store(false)
		if err := r.barrier(); !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			r.stuck.Store(0)
		} else if r.stuck.Add(1) >= stuckProbes && !r.cfg.Hazards.NoTransferWatchdog {
			r.park(errTransferStuck)
		}
	})
}

// torn finds a follower whose log lacks entries that raft believes are in it.
// After a snapshot was installed, or an append failed half way, raft goes on
// with the last index of a tail that is gone: it rejects every append that
// follows, is sent a snapshot again, and so on without end (raft issue 697).
type torn struct {
	raft   atomic.Pointer[raft.Raft] // nil while it starts
	misses atomic.Uint64             // entries that should have been there
	stored atomic.Uint64             // batches of entries that went in

	// The watch's alone: what it saw last.
	seenMisses, seenStored uint64
	looks                  int
}

// missing is asked about an entry that is not in the log. Usually that is an
// answer like others. But where raft is about to apply the entry it would
// panic, and the process with it: an error ends its goroutine instead.
func (t *torn) missing(index uint64) error {
	r := t.raft.Load()
	if r == nil {
		return raft.ErrLogNotFound
	}
	if index > r.AppliedIndex() && index <= r.CommitIndex() {
		return fmt.Errorf("entry %d is committed and not in the log", index)
	}
	if index <= r.LastIndex() && r.State() != raft.Leader { // a leader looks for what it has compacted
		t.misses.Add(1)
	}
	return raft.ErrLogNotFound
}

// look is called once a second and reports whether the log is torn for good.
func (t *torn) look() bool {
	misses, stored := t.misses.Load(), t.stored.Load()
	switch {
	case stored != t.seenStored:
		t.looks = 0
	case misses != t.seenMisses:
		t.looks++
	}
	t.seenMisses, t.seenStored = misses, stored
	return t.looks >= tornLooks
}
