package replica

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Hazards leaves out remedies, each against a failure that was seen. It is for
// tests that show what the remedy is for; the zero value leaves out none.
type Hazards struct {
	// ReadBeforeOwnTerm has a replica lead as soon as it is elected. Its commit
	// index may then lie below what an earlier leader acknowledged.
	ReadBeforeOwnTerm bool
	// HeartbeatsBeside handles heartbeats beside the main loop (raft issue 695).
	HeartbeatsBeside bool
	// NoTransferWatchdog leaves a leader alone that refuses everything after a
	// transfer that never ended (raft issue 696).
	NoTransferWatchdog bool
	// NoInstallWatchdog leaves a follower alone that takes one snapshot after
	// the other and gets no further (raft issue 697).
	NoInstallWatchdog bool
	// TakenBack lets a snapshot that is older than the state replace it. Without
	// it the replica is parked.
	TakenBack bool
	// VotersByName asks for votes under the candidate's name: who has not heard
	// of its promotion refuses it, and a group may be left without a leader.
	VotersByName bool
	// VerifyLeader allows Replica.VerifyLeader, which is nil on a deposed
	// leader when an old heartbeat is answered late.
	VerifyLeader bool
	// OldSnapshot starts the replica from a snapshot of an earlier life; raft
	// takes it over, configuration and all.
	OldSnapshot *OldLife
	// RecoverCluster starts the replica from such a snapshot by
	// raft.RecoverCluster: its terms begin again below the snapshot's.
	RecoverCluster *OldLife
	// BeforeStore is called before entries of a group go into its log, in raft's
	// main loop: a disk that takes its time.
	BeforeStore func(group string)
}

// beforeStore returns what comes before each store of a group, nil if nothing
// does.
func (h *Hazards) beforeStore(group string) func() {
	if h.BeforeStore == nil {
		return nil
	}
	return func() { h.BeforeStore(group) }
}

// OldLife is what is left of a replica that lost its log.
type OldLife struct {
	State       []byte // as a View wrote it
	Index, Term uint64
	Members     []Member
}

// VerifyLeader asks raft whether this replica still leads. It is no proof:
// only tests that show so may call it.
func (r *Replica) VerifyLeader() error {
	if !r.cfg.Hazards.VerifyLeader {
		return errors.New("verify leader: not a proof of leadership")
	}
	return r.raft.VerifyLeader().Error()
}

// revive puts an old life into the stores of a new one.
func (r *Replica) revive(conf *raft.Config, logs raft.LogStore, stable raft.StableStore) error {
	old := r.cfg.Hazards.OldSnapshot
	if old == nil {
		old = r.cfg.Hazards.RecoverCluster
	}
	if old == nil {
		return nil
	}
	members := configuration(old.Members)
	s, err := r.snaps.Create(1, old.Index, old.Term, members, 1, r.trans)
	if err != nil {
		return err
	}
	taken := s.(*sink)
	taken.plain = true
	if _, err := taken.Write(old.State); err != nil {
		return err
	}
	if err := taken.Close(); err != nil {
		return err
	}
	if r.cfg.Hazards.RecoverCluster == nil {
		return nil
	}
	defer r.snaps.marked()
	if err := raft.RecoverCluster(conf, r.fsm, logs, stable, r.snaps, r.trans, members); err != nil {
		return fmt.Errorf("recover cluster: %w", err)
	}
	return nil
}
