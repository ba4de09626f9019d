package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// takeTurn waits until raft owes nobody an answer, and keeps others from
// asking until endTurn. It fails when the replica is stopped, or with ctx.
func (r *Replica) takeTurn(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
	default:
		select {
		case r.turn <- struct{}{}:
		case <-r.halted:
			return r.stopped()
		case <-ctx.Done():
			return fmt.Errorf("busy: %w: %w", cloakroom.ErrUnavailable, ctx.Err())
		}
	}
	if err := r.stopped(); err != nil {
		r.endTurn()
		return err
	}
	return nil
}

func (r *Replica) endTurn() { <-r.turn }

// await waits for the answer to what propose asks raft, and ends the turn that
// the caller has taken, also when ctx ends first and the caller is told that
// the outcome is unknown.
func (r *Replica) await(ctx context.Context, propose func() raft.IndexFuture) error {
	answer := make(chan error, 1)
	// Ends with raft's answer, which Close forces. Close can't have begun to
	// wait for it: it needs the turn first.
	r.running.Go(func() {
		defer r.endTurn()
		err := propose().Error()
		r.refusing(err)
		answer <- err
	})
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("%w: %w", outcome(err), err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, ctx.Err())
	}
}

// closeGrace is how long Close lets an entry in flight be finished.
const closeGrace = time.Second

// lastTurn takes the turn for good. When raft's answer does not come, because
// its followers do not take the entry, the replica is cut off from them: a
// leader without a quorum steps down after its lease and then answers.
func (r *Replica) lastTurn() {
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case r.turn <- struct{}{}:
		return
	case <-timer.C:
	}
	r.streams.cut()
	r.turn <- struct{}{}
}
