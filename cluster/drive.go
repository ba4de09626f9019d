package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/placement"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// move is one step that brings the members of a group closer to what the
// directory says. Who is a member is raft's to say; the directory knows the
// identities and the intention.
type move struct {
	kind moveKind
	id   replica.Identity
	node string
}

type moveKind uint8

const (
	remove  moveKind = iota // it is leaving, and a member: out of the group
	drop                    // it is leaving, and no member any more: forget it
	settle                  // it votes: tell the directory
	promote                 // it has caught up: let it vote
	add                     // it waits to be contacted: make it a member without a vote
)

// moves returns what is left to do in a group, in the order to try it. What is
// gone is removed before anybody is promoted, so that a dead voter never
// counts beside its successor. At most voters replicas get a vote, and of those
// that fit the ones of the lowest rank first. While the
// members are not committed the directory hears nothing of them: another
// leader may yet undo the change, and who was forgotten too early would keep
// its vote for good.
func moves(info *directory.GroupInfo, members []replica.Member, committed bool, voters int,
	fits func(*directory.ReplicaInfo) (rank int, ok bool)) []move {
	var byKind [add + 1][]move
	at := make(map[string]*replica.Member, len(members))
	voting, ranks := 0, make(map[string]int)
	for i := range members {
		at[members[i].ID] = &members[i]
		if members[i].Voter {
			voting++
		}
	}
	note := func(k moveKind, r *directory.ReplicaInfo) {
		byKind[k] = append(byKind[k], move{k, replica.Identity{ID: r.ID, Addr: r.Address}, r.Node})
	}
	for i := range info.Replicas {
		r := &info.Replicas[i]
		m := at[r.ID]
		switch {
		case r.State == directory.Leaving && m == nil:
			note(drop, r)
		case r.State == directory.Leaving:
			note(remove, r)
		case m == nil && r.State == directory.Preparing:
			note(add, r)
		case m == nil: // a voter that raft does not know: nothing helps here
		case m.Voter && r.State == directory.Preparing:
			note(settle, r)
		case !m.Voter && voting < voters:
			if rank, ok := fits(r); ok {
				note(promote, r)
				ranks[r.ID] = rank
			}
		}
	}
	slices.SortStableFunc(byKind[promote], func(x, y move) int { return ranks[x.id.ID] - ranks[y.id.ID] })
	if len(byKind[remove]) > 0 {
		byKind[promote] = nil
	}
	if !committed {
		byKind[drop], byKind[settle] = nil, nil
	}
	var all []move
	for _, some := range byKind {
		all = append(all, some...)
	}
	return all
}

// drive takes the next step in the membership of a group, if this node leads
// it, and returns when to look again.
func (c *Cluster) drive(ctx context.Context, g *group) time.Duration {
	m, _ := g.lead()
	if m == nil || c.net == nil {
		return whenever
	}
	view := c.Directory()
	info, there := view.Group(g.id)
	prev, members, err := m.replica.Members()
	if !there || err != nil {
		return whenever
	}
	committed := m.replica.Progress().Commit >= prev
	again := whenever
	limit, fits := placement.Votes(view, g.id)
	if c.cfg.hazards.oneMoreWaits {
		limit = view.Wanted()
	}
	for _, next := range moves(&info, members, committed, limit, fits) {
		done, err := c.take(ctx, g, m, next, prev)
		switch {
		case errors.Is(err, errNotThere):
			// It may come up yet, or its node registers a new life.
		case err != nil:
			c.trouble(g, next.kind.String()+" of a replica failed", err)
			return whenever
		case done:
			return atOnce
		default:
			again = catchUp
		}
	}
	return again
}

// take takes one step. It returns false if it is too early for it.
func (c *Cluster) take(ctx context.Context, g *group, m *member, next move, prev uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	switch next.kind {
	case remove:
		if to, ok := c.successor(m); ok && next.id.ID == m.self.ID {
			return true, m.replica.TransferLead(ctx, to) // whoever leads then removes it, and nobody waits for an election
		}
		return true, m.replica.Remove(ctx, next.id.ID, prev)
	case drop:
		return true, c.step(ctx, &directory.Command{DropReplica: &directory.DropReplica{Group: g.id, ID: next.id.ID}})
	case settle:
		return true, c.step(ctx, &directory.Command{SetReplica: &directory.SetReplica{
			Group: g.id, ID: next.id.ID, State: directory.Voter}})
	}
	own := m.replica.Progress() // before the other is asked: it may only get further
	theirs, err := c.progress(ctx, g, next)
	if err != nil {
		return false, err
	}
	if next.kind == add {
		return true, m.replica.AddNonvoter(ctx, next.id, prev)
	}
	if !theirs.CaughtUp(own, maxLag) {
		return false, nil
	}
	return true, m.replica.Promote(ctx, next.id, prev)
}

// maxLag is how many entries a replica may be behind when it gets its vote.
const maxLag = 64

// askTime bounds a question to one node about one replica.
const askTime = time.Second

// errNotThere says that a replica does not answer.
var errNotThere = errors.New("the replica does not answer")

// progress asks how far a replica is. The only error is errNotThere.
func (c *Cluster) progress(ctx context.Context, g *group, of move) (replica.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var reply wire.ProgressReply
	req := wire.ProgressRequest{Group: uint32(g.id), Replica: of.id.ID}
	if err := c.net.ask(ctx, of.node, wire.Progress, req.Append(nil), &reply); err != nil || reply.Code != wire.OK {
		return replica.Progress{}, errNotThere
	}
	return replica.Progress{Term: reply.Term, Last: reply.Last, Commit: reply.Commit, Applied: reply.Applied}, nil
}

var moveNames = [...]string{remove: "removal", drop: "dropping", settle: "registration", promote: "promotion", add: "addition"}

// String returns the step's name, for logs.
func (k moveKind) String() string { return moveNames[k] }
