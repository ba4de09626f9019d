package replica

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// AwaitRoom waits until the log is within its budget. Ask before taking work
// out of a queue: here, nothing has been done yet. If the snapshot it starts
// makes no room it returns [cloakroom.ErrUnavailable].
func (r *Replica) AwaitRoom(ctx context.Context) error {
	for tries := 0; ; tries++ {
		ring := r.snapshot.Wait()
		if err := r.stopped(); err != nil {
			return err
		}
		if used, _ := r.log.size(); used < r.cfg.LogBudget {
			return nil
		}
		// The first ring can be that of a snapshot that began too early.
		if tries == 2 {
			return fmt.Errorf("log of %s is full: %w", r.cfg.Group, cloakroom.ErrUnavailable)
		}
		select {
		case r.log.full <- struct{}{}:
		default:
		}
		select {
		case <-ring:
		case <-ctx.Done():
			return fmt.Errorf("wait for room in the log of %s: %w", r.cfg.Group, cloakroom.ErrUnavailable)
		}
	}
}

// Apply proposes one entry and waits until it is applied here. It returns the
// entry's index and the machine's result. Entries go one after the other; a
// second caller waits for the first.
//
// data must not be changed until Apply returns, and after an error never: the
// entry may still be on its way. [cloakroom.ErrUnavailable] means that nothing
// happened, [cloakroom.ErrOutcomeUnknown] that it may have or may yet.
func (r *Replica) Apply(data []byte) (uint64, any, error) {
	if err := r.takeTurn(context.Background()); err != nil {
		return 0, nil, err
	}
	defer r.endTurn()
	if !r.Leads() {
		return 0, nil, fmt.Errorf("propose to %s: %w", r.cfg.Group, errNotLeader)
	}
	future := r.raft.Apply(data, enqueueTimeout)
	err := future.Error()
	r.refusing(err)
	if err != nil {
		return 0, nil, fmt.Errorf("propose to %s: %w: %w", r.cfg.Group, outcome(err), err)
	}
	switch result := future.Response().(type) {
	case nil:
		return 0, nil, fmt.Errorf("propose to %s: no answer: %w", r.cfg.Group, cloakroom.ErrOutcomeUnknown)
	case error:
		return 0, nil, fmt.Errorf("propose to %s: %w: %w", r.cfg.Group, cloakroom.ErrOutcomeUnknown, result)
	default:
		return future.Index(), result, nil
	}
}

// errNotLeader refuses what only a leader does.
var errNotLeader = fmt.Errorf("not the leader: %w", cloakroom.ErrUnavailable)

// ErrTransferring says that nothing was done since the lead is being handed
// over: it is for a moment, whether the transfer comes off or not.
var ErrTransferring = fmt.Errorf("the lead is being handed over: %w", cloakroom.ErrUnavailable)

// outcome says what an error of raft's Apply means. Of all of them only three
// promise that nothing happened.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrTransferring
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
		return cloakroom.ErrUnavailable
	}
	return cloakroom.ErrOutcomeUnknown
}

// AppliedIndex returns the index of the last command that is applied here. It
// waits for nothing, and never goes back.
func (r *Replica) AppliedIndex() uint64 { return r.fsm.command.Load() }

// AwaitApplied waits until the command with that index is applied here. Only
// indexes that Apply returned are sure to come: entries that are no commands
// never reach a machine.
func (r *Replica) AwaitApplied(ctx context.Context, index uint64) error {
	for {
		ring := r.fsm.applied.Wait()
		if r.AppliedIndex() >= index {
			return nil
		}
		if err := r.stopped(); err != nil {
			return err
		}
		select {
		case <-ring:
		case <-ctx.Done():
			return fmt.Errorf("wait for an index of %s: %w", r.cfg.Group, cloakroom.ErrUnavailable)
		case <-r.halted:
		}
	}
}

// Restore replaces the state of the group by size bytes that a [View] wrote,
// not sealed, at index of an earlier generation. The group goes on above that
// index. It is for new groups of one voter (Raft.Restore, never
// RecoverCluster: that one loses acknowledged writes on an empty log).
func (r *Replica) Restore(state io.Reader, index uint64, size int64) error {
	if err := r.takeTurn(context.Background()); err != nil { // raft panics when it is shut down meanwhile
		return err
	}
	defer r.endTurn()
	meta := &raft.SnapshotMeta{Version: 1, Index: index, Term: 1, Size: size}
	if err := r.raft.Restore(meta, plainState{state}, enqueueTimeout); err != nil {
		return fmt.Errorf("restore %s: %w", r.cfg.Group, err)
	}
	return r.stopped() // a machine that can't read it parks
}

// plainState tells the sink that its bytes were not sealed.
type plainState struct{ io.Reader }

// WriteTo implements io.WriterTo: raft copies into the sink with io.Copy.
func (p plainState) WriteTo(w io.Writer) (int64, error) {
	w.(*sink).plain = true
	return io.Copy(w, p.Reader)
}
