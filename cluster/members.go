package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/directory"
)

// DrainStatus is how far a node is on its way to being empty, as this node
// sees it.
type DrainStatus struct {
	Draining    bool // somebody asked for it
	LeadersOnly bool
	Replicas    int // that it still keeps, but for its view of the directory
	Leads       int // groups that it leads
	// Stuck lists the groups whose replica has no other node to go to.
	Stuck []string
	// Done: nothing is left that is to leave and could.
	Done bool
}

// SafetyReason says why a node should not be stopped now, for operators.
type SafetyReason = string

// Drain has replicas and leads leave a node, or only its leads; cancel ends
// that. It returns once the wish is in the directory, whose leader carries it
// out: [Cluster.DrainStatus] tells how far it is.
//
// [cloakroom.ErrNotFound]: no such node. [cloakroom.ErrConflict]: one that is
// pending or removed, which holds nothing.
func (c *Cluster) Drain(ctx context.Context, node string, leadersOnly, cancel bool) error {
	return c.propose(ctx, "drain "+node, &directory.Command{DrainNode: &directory.DrainNode{
		Name: node, LeadersOnly: leadersOnly, Cancel: cancel}})
}

// Remove ends a node's membership. One that is not dead must be empty; one that
// is dead must not answer, since a living node that was removed could do
// nothing about the requests it is in the middle of.
//
// [cloakroom.ErrNotFound]: no such node. [cloakroom.ErrConflict]: it holds
// something, or lives, or is the last; the text says which and what to do.
func (c *Cluster) Remove(ctx context.Context, node string, dead bool) error {
	info, there := c.Directory().Node(node)
	switch {
	case !there:
		return fmt.Errorf("remove %s: no such node: %w", node, cloakroom.ErrNotFound)
	case dead && info.Seated() && (node == c.cfg.Node || c.answers(ctx, &info)):
		return fmt.Errorf("remove %s: %w", node, cloakroom.Because(cloakroom.ErrConflict,
			"it lives at "+info.Address+": stop it first, or drain it and remove it without dead"))
	}
	return c.propose(ctx, "remove "+node, &directory.Command{RemoveNode: &directory.RemoveNode{Name: node, Dead: dead}})
}

// propose carries out a command about a node.
func (c *Cluster) propose(ctx context.Context, what string, cmd *directory.Command) error {
	result, err := c.ProposeDirectory(ctx, cmd)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// DrainStatus returns how far a node is on its way to being empty.
func (c *Cluster) DrainStatus(node string) (DrainStatus, error) {
	view := c.Directory()
	info, there := view.Node(node)
	if !there {
		return DrainStatus{}, fmt.Errorf("status of %s: no such node: %w", node, cloakroom.ErrNotFound)
	}
	s := DrainStatus{Draining: info.State == directory.Draining, LeadersOnly: info.LeadersOnly, Replicas: view.Holds(node)}
	relievable := 0
	for g, leader := range c.leaders(view) {
		if leader == node {
			s.Leads++
			if c.relievable(view, g, node) {
				relievable++
			}
		}
	}
	if info.Emptying() {
		s.Stuck = c.stuck(view, node)
	}
	s.Done = s.Draining && relievable == 0 && (s.LeadersOnly || s.Replicas == len(s.Stuck))
	return s, nil
}

// relievable reports whether another node than that one could lead g.
func (c *Cluster) relievable(view *directory.View, g directory.GroupID, node string) bool {
	group, _ := view.Group(g)
	for i := range group.Replicas {
		r := &group.Replicas[i]
		if n, there := view.Node(r.Node); there && r.Node != node && r.State == directory.Voter && view.Lives(r) &&
			n.State == directory.Member && c.there(&n) {
			return true
		}
	}
	return false
}

// stuck lists the groups of which a node keeps a replica that no other node
// could take: each that is not being emptied has one, or is silent.
func (c *Cluster) stuck(view *directory.View, node string) (groups []string) {
	for g := range view.Groups() {
		group, _ := view.Group(g)
		keeps, elsewhere, room := false, 0, 0
		held := make(map[string]bool)
		for i := range group.Replicas {
			r := &group.Replicas[i]
			n, _ := view.Node(r.Node)
			switch {
			case r.State == directory.Leaving:
			case r.Node == node:
				keeps = g != directory.DirectoryGroup || r.State == directory.Voter
			case !n.Emptying():
				elsewhere++
			}
			held[r.Node] = held[r.Node] || r.State != directory.Leaving
		}
		for i := range view.Nodes {
			if n := &view.Nodes[i]; n.Seated() && !n.Emptying() && !held[n.Name] && c.there(n) {
				room++
			}
		}
		if keeps && elsewhere+room < view.Wanted() {
			groups = append(groups, g.String())
		}
	}
	return groups
}

// Leaders returns the node that leads each group, as far as is known here.
func (c *Cluster) Leaders() map[directory.GroupID]string { return c.leaders(c.Directory()) }

// Alive reports whether the registered life of a node was heard lately by this
// one.
func (c *Cluster) Alive(node string) bool {
	info, there := c.Directory().Node(node)
	return there && info.Seated() && c.there(&info)
}

// Removed reports whether this node was removed from the cluster, as far as it
// knows.
func (c *Cluster) Removed() bool {
	info, there := c.Directory().Node(c.cfg.Node)
	return c.net != nil && (c.expelled.Load() || there && info.State == directory.Removed)
}

// SafeToStop reports whether every group goes on without a node, as this node
// sees it: whether of each that has a vote on it enough others were heard
// lately. If not, the reasons say what to wait for or to do. It is a look at one moment:
// whoever stops two nodes at once stops groups.
func (c *Cluster) SafeToStop(node string) (safe bool, reasons []SafetyReason) {
	view := c.Directory()
	info, there := view.Node(node)
	if !there || !info.Seated() {
		return there, nil // it runs nothing
	}
	if c.net == nil {
		return false, []SafetyReason{"it is the only node: stopping it stops the service"}
	}
	for g := range view.Groups() {
		if reason := c.needs(view, g, node); reason != "" {
			reasons = append(reasons, g.String()+": "+reason)
		}
	}
	return len(reasons) == 0, reasons
}

// needs says why a group could not go on without a node, or "".
func (c *Cluster) needs(view *directory.View, g directory.GroupID, node string) SafetyReason {
	group, _ := view.Group(g)
	voters, others, here, coming := 0, 0, false, 0
	for i := range group.Replicas {
		r := &group.Replicas[i]
		n, _ := view.Node(r.Node)
		switch {
		case r.State == directory.Preparing:
			if g != directory.DirectoryGroup {
				coming++
			}
			continue
		case r.Node == node && view.Lives(r):
			here = true
		case r.State == directory.Voter && view.Lives(r) && c.there(&n):
			others++
		}
		voters++ // one that leaves counts until it is gone
	}
	switch {
	case !here || others > voters/2:
		return ""
	case voters == 1 && coming == 0:
		return "the only replica is there: add nodes, or drain it first"
	case coming > 0:
		return fmt.Sprintf("%d of %d voters would be left, another is catching up: wait", others, voters)
	}
	return fmt.Sprintf("%d of %d voters would be left, and %d are needed: start the others first, or add nodes", others, voters, voters/2+1)
}
