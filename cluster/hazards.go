package cluster

import (
	"cloakroom/cluster/directory"
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
