package placement

import (
	"cloakroom/cluster/directory"
)

// Votes says who may vote in a group: how many replicas at most, and how well
// one that has no vote yet fits, the lower the better; one that does not fit
// gets none.
//
// Every replica of a shard is made in order to vote, also the one more that is
// there while a replica moves. Of the directory every node has a replica, for
// its view; the voters are chosen among them, not on nodes that are being
// emptied, unless there are too few others, and in zones of their own where
// there are three.
func Votes(v *directory.View, g directory.GroupID) (limit int, fits func(*directory.ReplicaInfo) (rank int, ok bool)) {
	group, _ := v.Group(g)
	limit = v.Wanted()
	if g != directory.DirectoryGroup {
		standing := 0
		for i := range group.Replicas {
			if group.Replicas[i].State != directory.Leaving {
				standing++
			}
		}
		return max(limit, standing), func(*directory.ReplicaInfo) (int, bool) { return 0, true }
	}
	room, emptying := 0, 0
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Seated() && !n.Emptying() {
			room++
		}
	}
	zones := make(map[string]bool)
	for i := range group.Replicas {
		r := &group.Replicas[i]
		if n, _ := v.Node(r.Node); r.State == directory.Voter {
			if n.Emptying() {
				emptying++
			} else {
				zones[n.Zone] = true
			}
		}
	}
	if room < limit {
		return limit, func(*directory.ReplicaInfo) (int, bool) { return 0, true }
	}
	zoned := countZones(v) >= zonesNeeded
	return limit + emptying, func(r *directory.ReplicaInfo) (int, bool) {
		n, _ := v.Node(r.Node)
		if zoned && zones[n.Zone] {
			return 1, !n.Emptying()
		}
		return 0, !n.Emptying()
	}
}
