package replica

import (
	"fmt"

	"cloakroom"
)

// park takes the replica out of service for good: its log, its term or its
// state can't be trusted any more, and raft would take the whole process down.
// The process, and the other groups in it, go on. Only the first reason counts.
func (r *Replica) park(reason error) {
	r.parkOnce.Do(func() {
		r.parked.Store(&reason)
		r.cfg.Logger.Error("replica parked", "group", r.cfg.Group, "replica", r.cfg.Identity.ID, "error", reason)
		r.halt()
		r.changed.Ring()
		r.snapshot.Ring()
		r.fsm.applied.Ring()
		// Not here: park is called from raft's own goroutines, which shut
		// waits for. Close waits for this one.
		r.running.Go(r.shutParked)
	})
}

// halt wakes whatever waits, and ends what the replica runs for itself.
func (r *Replica) halt() { r.haltOnce.Do(func() { close(r.halted) }) }

// shutParked waits until start has handed out raft, then shuts it down.
func (r *Replica) shutParked() {
	<-r.started
	if r.raft != nil {
		r.shut()
	}
}

// InService reports whether the replica is neither parked nor closed. It costs
// a few nanoseconds. What was read out of its state counts only if it still is
// afterwards: a parked one may have stopped half way through an entry.
func (r *Replica) InService() bool {
	if r.parked.Load() != nil {
		return false
	}
	select {
	case <-r.halted:
		return false
	default:
		return true
	}
}

// stopped returns why the replica can't serve, nil if it can.
func (r *Replica) stopped() error {
	if reason := r.parked.Load(); reason != nil {
		return fmt.Errorf("replica of %s is parked: %w", r.cfg.Group, cloakroom.ErrUnavailable)
	}
	select {
	case <-r.halted:
		return fmt.Errorf("replica of %s is closed: %w", r.cfg.Group, cloakroom.ErrUnavailable)
	default:
		return nil
	}
}
