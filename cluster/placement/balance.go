package placement

import (
	"cloakroom/cluster/directory"
)

// balance adds a replica on a node that holds too few, in a group that one can
// then leave. It moves nothing while anything else is under way or any node is
// silent: that node's replicas may yet have to be made anew.
func (b *board) balance() (Step, bool) {
	if !b.calm() {
		return Step{}, false
	}
	for i := range b.groups {
		if step, found := b.spread(&b.groups[i]); found {
			return step, true
		}
	}
	var best struct {
		g    *group
		n    *seat
		gain int
	}
	for i := range b.groups {
		g := &b.groups[i]
		if !b.movable(g) {
			continue
		}
		for _, n := range b.order {
			if !b.takes(g, n) {
				continue
			}
			from := b.on(b.spare(with(g, n)))
			if gain := from.load - n.load; from != n && gain >= 2 && gain > best.gain {
				best.g, best.n, best.gain = g, n, gain
			}
		}
	}
	if best.g == nil {
		return Step{}, false
	}
	return b.add(best.g, best.n, Unbalanced)
}

// calm reports whether nothing but a few moves is under way, and counts what
// these moves will take away as gone.
func (b *board) calm() bool {
	for _, n := range b.order {
		if !n.alive {
			return false
		}
	}
	if len(b.groups) <= len(b.v.Shards) {
		return false // a group is lost
	}
	moves := 0
	for i := range b.groups {
		g := &b.groups[i]
		preparing := false
		for _, r := range g.standing {
			preparing = preparing || r.State == directory.Preparing && g.id != directory.DirectoryGroup
		}
		surplus := g.id != directory.DirectoryGroup && len(g.standing) > b.wanted
		if surplus {
			moves++
			b.on(b.spare(g.standing)).load--
		} else if g.leaving || preparing {
			return false
		}
	}
	return moves < maxMoves
}

// movable reports whether a replica of g may move for balance.
func (b *board) movable(g *group) bool {
	return g.id != directory.DirectoryGroup && len(g.standing) == b.wanted && g.places < directory.MaxReplicas
}

// takes reports whether n may be given a replica of g.
func (b *board) takes(g *group, n *seat) bool {
	if !n.open || b.full(g, n) {
		return false
	}
	for _, r := range g.standing {
		if r.Node == n.Name {
			return false
		}
	}
	return true
}

// with returns the replicas of g and one on n.
func with(g *group, n *seat) []*directory.ReplicaInfo {
	return append(append([]*directory.ReplicaInfo{}, g.standing...), &directory.ReplicaInfo{Node: n.Name, Life: n.Life})
}

// spread adds a replica in a zone that g is not in, where g has two in one.
func (b *board) spread(g *group) (Step, bool) {
	if !b.zoned || !b.movable(g) {
		return Step{}, false
	}
	var best *seat
	for _, n := range b.order {
		if !b.takes(g, n) {
			continue
		}
		more := with(g, n)
		if b.zonesOf(more, b.spare(more)) > b.zonesOf(g.standing, nil) && (best == nil || n.load < best.load) {
			best = n
		}
	}
	if best == nil {
		return Step{}, false
	}
	return b.add(g, best, Zones)
}
