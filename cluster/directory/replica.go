package directory

import (
	"fmt"
	"slices"
)

// AddReplica registers the identity of a replica that is to be made. One of the
// directory is durable if its node has a folder, whatever the command says.
type AddReplica struct {
	Group GroupID `json:"group"`
	// Seen is the epoch of the view in which the replica was found missing. If
	// the group changed since, the command is refused, so an identity that came
	// and went can't come again by a command that was long on its way.
	Seen    uint64      `json:"seen"`
	Replica ReplicaInfo `json:"replica"` // preparing
}

// SetReplica moves a replica forward: preparing → voter → leaving, or
// preparing → leaving. The last voter of a group stays.
type SetReplica struct {
	Group GroupID      `json:"group"`
	ID    string       `json:"id"`
	State ReplicaState `json:"state"`
	// Seen is the epoch of the view in which it was found that the replica
	// should leave: if the group changed since, the command is refused, so that
	// two who each find one too many do not take two away. 0: whatever changed.
	Seen uint64 `json:"seen,omitempty"`
}

// DropReplica forgets a leaving replica. It comes after the group's leader saw
// the removal committed in the group.
type DropReplica struct {
	Group GroupID `json:"group"`
	ID    string  `json:"id"`
}

func addReplica(next *View, cmd *AddReplica) Result {
	r := cmd.Replica
	n, there := next.Node(r.Node)
	r.Durable = cmd.Group == DirectoryGroup && n.Boot > 0
	if fault := r.fault(cmd.Group); fault != "" {
		return invalid(fault)
	}
	if r.State != Preparing {
		return invalid("a replica is added as preparing")
	}
	group, grouped := next.Group(cmd.Group)
	if !grouped {
		return notFound("no such group")
	}
	g, known, taken := next.Replica(r.ID)
	known.State = r.State
	if taken && g == cmd.Group && known == r {
		return already()
	}
	if _, _, at := next.ReplicaAt(r.Address); taken || at {
		return conflict("the identity is taken")
	}
	if !there {
		return notFound("no such node")
	}
	switch {
	case n.Life != r.Life || !next.Lives(&r):
		return conflict("another life of the node is registered")
	case cmd.Seen < group.Changed:
		return conflict(fmt.Sprintf("%s changed at epoch %d", cmd.Group, group.Changed))
	case len(group.Replicas) >= MaxReplicas:
		return Result{Code: Exhausted, Detail: fmt.Sprintf("%s has %d replicas, leaving ones included", cmd.Group, MaxReplicas)}
	case slices.ContainsFunc(group.Replicas, func(o ReplicaInfo) bool { return o.Node == r.Node && o.State != Leaving }):
		return conflict("the node has a replica of " + cmd.Group.String())
	}
	next.setReplicas(cmd.Group, append(slices.Clone(group.Replicas), r))
	return Result{}
}

// RefoundGroup begins a shard anew, empty, in its next generation, after the
// lives of all its voters are over: their logs were in memory, so what it held
// is gone for certain. The first voter is named with it.
type RefoundGroup struct {
	Group   GroupID     `json:"group"`
	Seen    uint64      `json:"seen"`    // as in AddReplica
	Replica ReplicaInfo `json:"replica"` // a voter, of its node's present life
}

func refoundGroup(next *View, cmd *RefoundGroup) Result {
	r := cmd.Replica
	if fault := r.fault(cmd.Group); fault != "" {
		return invalid(fault)
	}
	if _, shard := cmd.Group.Shard(); !shard || r.State != Voter {
		return invalid("a shard is founded anew with a voter")
	}
	group, there := next.Group(cmd.Group)
	if !there {
		return notFound("no such group")
	}
	g, known, taken := next.Replica(r.ID)
	if taken && g == cmd.Group && known == r {
		return already()
	}
	if _, _, at := next.ReplicaAt(r.Address); taken || at {
		return conflict("the identity is taken")
	}
	n, _ := next.Node(r.Node)
	switch {
	case n.Life != r.Life || !n.Seated():
		return conflict("another life of the node is registered")
	case cmd.Seen < group.Changed:
		return conflict(fmt.Sprintf("%s changed at epoch %d", cmd.Group, group.Changed))
	case !next.Lost(cmd.Group):
		return conflict("a voter of " + cmd.Group.String() + " lives")
	}
	next.setReplicas(cmd.Group, []ReplicaInfo{r})
	next.Shards[cmd.Group-1].Generation++
	return Result{}
}

// Lost reports whether the lives of all who vote in a group, or may still do,
// are over.
func (v *View) Lost(g GroupID) bool {
	group, there := v.Group(g)
	return there && !slices.ContainsFunc(group.Replicas, func(r ReplicaInfo) bool {
		return r.State != Preparing && v.Lives(&r)
	})
}

func setReplica(next *View, cmd *SetReplica) Result {
	if cmd.State != Voter && cmd.State != Leaving {
		return invalid("a replica becomes voter or leaving")
	}
	group, at, there := next.member(cmd.Group, cmd.ID)
	if !there {
		return notFound("no such replica of " + cmd.Group.String())
	}
	switch now := group.Replicas[at].State; {
	case now == cmd.State:
		return already()
	case now == Leaving:
		return conflict("the replica is leaving")
	case cmd.Seen > 0 && cmd.Seen < group.Changed:
		return conflict(fmt.Sprintf("%s changed at epoch %d", cmd.Group, group.Changed))
	case now == Voter && voters(group.Replicas) == 1:
		return conflict("it is the last voter of " + cmd.Group.String())
	}
	replicas := slices.Clone(group.Replicas)
	replicas[at].State = cmd.State
	next.retire(replicas)
	next.setReplicas(cmd.Group, replicas)
	return Result{}
}

func dropReplica(next *View, cmd *DropReplica) Result {
	if _, there := next.Group(cmd.Group); !there {
		return notFound("no such group")
	}
	g, r, there := next.Replica(cmd.ID)
	switch {
	case !there:
		return already()
	case g != cmd.Group:
		return notFound("no such replica of " + cmd.Group.String())
	case r.State != Leaving:
		return conflict("the replica is not leaving")
	}
	group, at, _ := next.member(cmd.Group, cmd.ID)
	next.setReplicas(cmd.Group, slices.Delete(slices.Clone(group.Replicas), at, at+1))
	return Result{}
}

// member returns group g and where the replica called id stands in it.
func (v *View) member(g GroupID, id string) (group GroupInfo, at int, there bool) {
	p, there := v.byReplica[id]
	if !there || p.group != g {
		return GroupInfo{}, 0, false
	}
	group, _ = v.Group(g)
	return group, p.at, true
}

// retireAll makes the replicas of lives that are over leaving, in every group.
func (v *View) retireAll() {
	for g := range v.Groups() {
		group, _ := v.Group(g)
		replicas := slices.Clone(group.Replicas)
		if v.retire(replicas) {
			v.setReplicas(g, replicas)
		}
	}
}

// retire makes those of replicas leaving whose life is over, except the last
// voter, and reports whether there was one. It writes into replicas.
func (v *View) retire(replicas []ReplicaInfo) bool {
	changed, left := false, voters(replicas)
	for i := range replicas {
		r := &replicas[i]
		if r.State == Leaving || v.Lives(r) {
			continue
		}
		if r.State == Voter {
			if left == 1 {
				continue
			}
			left--
		}
		r.State, changed = Leaving, true
	}
	return changed
}
