package replica

// Progress is how far a replica has come.
type Progress struct {
	Term    uint64
	Last    uint64 // newest entry in the log
	Commit  uint64 // newest entry known to be committed
	Applied uint64 // all entries up to here have had their effect
}

// Progress returns how far this replica has come. Applied counts entries that
// never reach a machine (no-ops, barriers) as soon as all before them are
// applied, so that in an idle group it comes to equal the leader's Commit.
func (r *Replica) Progress() Progress {
	p := Progress{Term: r.Term(), Last: r.raft.LastIndex(), Applied: r.applied()}
	p.Commit = max(r.raft.CommitIndex(), p.Applied) // an installed snapshot is committed, raft doesn't note it
	return p
}

// CaughtUp reports whether a replica that answered p has all that its leader
// had committed when it answered leader, but for lag entries. Ask the leader
// first. Entries up to lag are few enough when they fit into one round.
func (p Progress) CaughtUp(leader Progress, lag uint64) bool {
	return p.Term == leader.Term && p.Applied+lag >= leader.Commit
}

// applied returns the index up to which the machine has everything. What raft
// calls applied is only queued for it.
func (r *Replica) applied() uint64 {
	queued := r.raft.AppliedIndex()
	done := r.fsm.handedOver()
	if done >= queued {
		return done
	}
	if next := r.log.nextForMachine(done, queued); next > 0 {
		return next - 1
	}
	return queued
}
