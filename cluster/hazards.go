package cluster

import (
	"slices"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/replica"
)

// hazards leaves out remedies, each against a failure that was seen. It is for
// simulations that show what the remedy is for; the zero value leaves out none.
type hazards struct {
	replica replica.Hazards // of every replica
	// noConfirm answers reads without a round: whoever believes that it leads
	// answers.
	noConfirm bool
	// verifyLeader asks raft instead of the voters.
	verifyLeader bool
	// anybody has a stream for one replica end at whichever replica of the
	// group lives on the node now: as if a new life kept its old address and
	// nobody said whom he wants.
	anybody bool

	// oneMoreWaits keeps a replica without a vote that is one more than wanted,
	// so that there is a learner for as long as a scene needs one.
	oneMoreWaits bool

	// leadsStay moves no lead for balance: for tests that put leads somewhere.
	leadsStay bool

	// Of read leases. A lease before an entry of the leader's own term is
	// replica.Hazards.ReadBeforeOwnTerm.

	leaseUnentered  bool // a lease is granted without an entry in the table
	leaseIndexFirst bool // the index is taken before the entry, not with it
	leaseNoRound    bool // a lease is granted without a round after the entry
	leaseByAddress  bool // leases are asked for by node, for whichever replica lives there
	leaseFullTerm   bool // a holder uses 1.25 of the term
	leaseFromAnswer bool // a holder counts from the answer, not from the question
	leaseUnapplied  bool // a holder does not wait for the index
	leaseNoRecheck  bool // the clock is looked at before the copy only
	leaseAnyLag     bool // a replica that is far behind is granted one too
	leaseWallClock  bool // leases are measured by the wall clock

	// Of leases of views, and their barrier.

	viewNoRound     bool // one is granted without a round after the entry
	viewYoungLeader bool // a new leader does not wait for its predecessor's grants
	viewByNode      bool // leases are entered by node, whichever life of it asks
	viewUnsettled   bool // there is no barrier

	// Of the barrier of an erasure.

	settleNone        bool // none
	settleOnlyMembers bool // entries of replicas that are members no more are not waited for
	settleVotersOnly  bool // entries of replicas without a vote are not waited for
	settleYoungLeader bool // a new leader does not wait for its predecessor's grants
	settleOnce        bool // for the simulation's clients: an erasure repeated is answered without a barrier
}

// unconfirmed decides for the parts in set, without a round, who may answer.
func (h *hazards) unconfirmed(r *reading, set partSet) partSet {
	for i := range set.each {
		if h.verifyLeader && r.members[i].replica.VerifyLeader() != nil {
			set &^= 1 << i
		}
	}
	return set
}

// waitedFor returns which of those who may hold a lease a barrier waits for:
// all of them.
func (h *hazards) waitedFor(m *member, all []lease.Standing) []lease.Standing {
	if !h.settleOnlyMembers && !h.settleVotersOnly {
		return all
	}
	_, members, _ := m.replica.Members()
	return slices.DeleteFunc(all, func(who lease.Standing) bool {
		return !slices.ContainsFunc(members, func(other replica.Member) bool {
			return other.ID == who.Replica && (other.Voter || !h.settleVotersOnly)
		})
	})
}

// instead returns who lives where a replica lived.
func instead(view *directory.View, g directory.GroupID, gone *directory.ReplicaInfo) (id string, ok bool) {
	info, _ := view.Group(g)
	for i := range info.Replicas {
		if r := &info.Replicas[i]; r.Node == gone.Node && view.Lives(r) {
			return r.ID, true
		}
	}
	return "", false
}
