package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Lead reports whether this replica leads its group, and in which term. It
// says so only once an entry of that term is applied here: before, the commit
// index may lie below what an earlier leader acknowledged. It is what this
// replica believes; whether a newer leader exists, only the voters can say.
func (r *Replica) Lead() (term uint64, ok bool) {
	term = r.leadTerm.Load()
	if term == 0 || r.parked.Load() != nil || r.raft.State() != raft.Leader || r.raft.CurrentTerm() != term {
		return 0, false
	}
	return term, true
}

// Leads is [Replica.Lead] without the term.
func (r *Replica) Leads() bool {
	_, ok := r.Lead()
	return ok
}

// Leader returns who leads as far as this replica knows. It may be this one
// before Lead says so.
func (r *Replica) Leader() (Identity, bool) {
	addr, id := r.raft.LeaderWithID()
	return Identity{ID: string(id), Addr: string(addr)}, id != ""
}

// Changed returns a channel that is closed at the next change of the leader,
// of the members, or of whether this replica leads, is parked or closed. Take
// it first, then look.
func (r *Replica) Changed() <-chan struct{} { return r.changed.Wait() }

// Term returns the current term. raft has persisted it before it grants a vote
// in it, so a replica that says t has voted in no later term.
func (r *Replica) Term() uint64 { return r.raft.CurrentTerm() }

// AwaitLead waits until this replica leads its group and has applied
// everything committed before.
func (r *Replica) AwaitLead(ctx context.Context) error {
	for {
		ring := r.changed.Wait()
		if err := r.stopped(); err != nil {
			return err
		}
		if r.Leads() {
			return nil
		}
		select {
		case <-ring:
		case <-ctx.Done():
			return fmt.Errorf("wait for the lead of %s: %w", r.cfg.Group, ctx.Err())
		}
	}
}

// follow goes after the lead, until Close. LeaderCh keeps only the newest
// change: a loss between two gains may not show, hence the term in Lead.
func (r *Replica) follow() {
	for {
		select {
		case elected := <-r.raft.LeaderCh():
			r.setPace(elected)
			if elected {
				r.takeLead()
			}
			r.changed.Ring()
		case <-r.halted:
			return
		}
	}
}

// leadRetry is how long to wait after a barrier that was refused.
const leadRetry = 100 * time.Millisecond

// takeLead notes the term in which this replica leads once an entry of it is
// applied. It gives up when the lead is lost again.
func (r *Replica) takeLead() {
	for r.raft.State() == raft.Leader && r.stopped() == nil {
		term := r.raft.CurrentTerm()
		if r.cfg.Hazards.ReadBeforeOwnTerm || r.barrier() == nil {
			r.leadTerm.Store(term)
			return
		}
		timer := time.NewTimer(leadRetry)
		select {
		case <-timer.C:
		case <-r.halted:
			timer.Stop()
			return
		}
	}
}

// barrier waits until everything committed so far is applied.
func (r *Replica) barrier() error {
	if err := r.takeTurn(context.Background()); err != nil {
		return err
	}
	defer r.endTurn()
	err := r.raft.Barrier(enqueueTimeout).Error()
	r.refusing(err)
	return err
}

// Nudge has followers learn of the last commit now instead of after a commit
// timeout: it proposes an empty entry and does not wait for it. For a leader
// that has nothing else to propose.
func (r *Replica) Nudge() {
	if _, members := r.members.latest(); len(members) > 1 && r.Leads() {
		r.raft.Barrier(enqueueTimeout) // waits until the main loop takes it, no longer
	}
}

// TransferLead hands the lead over to another voter and returns once this
// replica leads no more, which takes a round trip. If it still leads the error
// is [cloakroom.ErrUnavailable], and it takes entries again.
func (r *Replica) TransferLead(ctx context.Context, to Identity) error {
	failed := func(err error) error { return fmt.Errorf("transfer lead of %s: %w", r.cfg.Group, err) }
	if err := r.takeTurn(ctx); err != nil {
		return failed(err)
	}
	if !r.Leads() {
		r.endTurn()
		return failed(errNotLeader)
	}
	at := raft.ServerAddress(to.Addr)
	err := r.await(ctx, func() raft.IndexFuture {
		future := r.raft.LeadershipTransferToServer(raft.ServerID(to.ID), at)
		return transferFuture{future, func(err error) {
			if err != nil && !r.cfg.Hazards.NoTransferWatchdog {
				// A transfer that never ends waits for a replication that hangs
				// in a connection (raft issue 696). It takes a few failures: the
				// replication may try something else first.
				r.streams.shun(at)
			}
		}}
	})
	if err != nil {
		return failed(err)
	}
	return r.stopped()
}

// transferFuture is the answer to a transfer, and what to do with it.
type transferFuture struct {
	raft.Future
	then func(error)
}

// Index implements raft.IndexFuture; a transfer has none.
func (f transferFuture) Index() uint64 { return 0 }

// Error waits for the answer, but not for ever: a main loop that ends while the
// question lies in its channel answers never.
func (f transferFuture) Error() error {
	answer := make(chan error, 1)
	go func() { answer <- f.Future.Error() }() // ended by raft's answer
	timer := time.NewTimer(transferTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-answer:
	case <-timer.C:
		err = errors.New("no answer")
	}
	f.then(err)
	return err
}

// transferTimeout is far above what raft takes to answer: two election
// timeouts of a leader.
const transferTimeout = 4 * time.Second

// refusing notes whether raft refuses work because of a transfer under way.
func (r *Replica) refusing(err error) {
	r.refused.Store(errors.Is(err, raft.ErrLeadershipTransferInProgress))
}
