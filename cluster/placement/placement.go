// Package placement decides where replicas should be. It is one pure function
// of the directory's view: no clock, no liveness, no randomness, so every node
// that asks it about one view gets the same answer, and asking again after the
// answer was carried out gives the next step.
//
// It only ever adds; what must go is marked leaving by others. Its functions
// are safe for concurrent use.
package placement

import (
	"cloakroom/cluster/directory"
)

// Step asks for a replica of Group on Node.
type Step struct {
	Group directory.GroupID
	Node  string
	Life  string // of the node in the view
	Seen  uint64 // epoch of the view, for [directory.AddReplica]
}

// zonesNeeded is how many zones there must be before they count. With two, the
// one of them that holds two replicas of three takes the quorum with it anyway.
const zonesNeeded = 3

// Next returns the next replica to add, and false if every group that can grow
// has as many as it should: as many as the settings say, one per node at most.
// The directory comes first, then the shards in their order. What is leaving
// does not count. A group whose voters are all of lives that are over is left
// alone: nobody could bring a new replica up to date.
func Next(v *directory.View) (Step, bool) {
	var load map[string]int // of each node; made when something is missing
	for g := range v.Groups() {
		group, there := v.Group(g)
		if !there || standing(&group) >= v.Settings.Replication || len(group.Replicas) >= directory.MaxReplicas || !leadable(v, &group) {
			continue
		}
		if load == nil {
			load = loads(v)
		}
		if n := pick(v, &group, load); n != nil {
			return Step{Group: g, Node: n.Name, Life: n.Life, Seen: v.Epoch}, true
		}
	}
	return Step{}, false
}

// standing counts the replicas of g that are not leaving.
func standing(g *directory.GroupInfo) int {
	n := 0
	for i := range g.Replicas {
		if g.Replicas[i].State != directory.Leaving {
			n++
		}
	}
	return n
}

// leadable reports whether a voter of g lives, so that it may have a leader.
func leadable(v *directory.View, g *directory.GroupInfo) bool {
	for i := range g.Replicas {
		if r := &g.Replicas[i]; r.State == directory.Voter && v.Lives(r) {
			return true
		}
	}
	return false
}

// loads counts the replicas on each node, over all groups.
func loads(v *directory.View) map[string]int {
	load := make(map[string]int, len(v.Nodes))
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for i := range group.Replicas {
			if r := &group.Replicas[i]; r.State != directory.Leaving {
				load[r.Node]++
			}
		}
	}
	return load
}

// pick returns the node that should take a replica of g, nil if each has one:
// a node in a zone that has none before others, then the one with the fewest
// replicas, then the first by name.
func pick(v *directory.View, g *directory.GroupInfo, load map[string]int) *directory.NodeInfo {
	holds, zones := make(map[string]bool), make(map[string]bool)
	for i := range g.Replicas {
		if r := &g.Replicas[i]; r.State != directory.Leaving {
			holds[r.Node] = true
			n, _ := v.Node(r.Node)
			zones[n.Zone] = true
		}
	}
	zoned := countZones(v.Nodes) >= zonesNeeded
	var best *directory.NodeInfo
	better := func(n *directory.NodeInfo) bool {
		if best == nil {
			return true
		}
		if zoned && zones[n.Zone] != zones[best.Zone] {
			return !zones[n.Zone]
		}
		return load[n.Name] < load[best.Name] // nodes come by name
	}
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Seated() && !holds[n.Name] && better(n) {
			best = n
		}
	}
	return best
}

// countZones counts the zones that nodes name.
func countZones(nodes []directory.NodeInfo) int {
	zones := make(map[string]bool)
	for i := range nodes {
		if nodes[i].Zone != "" {
			zones[nodes[i].Zone] = true
		}
	}
	return len(zones)
}
