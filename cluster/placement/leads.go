package placement

import (
	"slices"
	"strings"

	"cloakroom/cluster/directory"
)

// Transfer is a lead that should move.
type Transfer struct {
	Group    directory.GroupID
	From, To string // nodes
	Replica  string // Raft server ID of the replica on To
}

// NextLead returns the next lead that should move, and false if there is none:
// no draining node leads a group that another living voter could lead, and no
// living node leads two groups more than another that could lead one of them.
// leads names the node that leads each group, as far as is known; groups in
// shun are left alone.
//
// Leads are balanced only while no replica comes or goes: an erasure waits for
// a lease's length after each change of a leader.
func NextLead(v *directory.View, s Sight, leads map[directory.GroupID]string, shun map[directory.GroupID]bool) (Transfer, bool) {
	b := leadBoard{v: v, s: s, leads: leads, count: make(map[string]int), voters: make(map[directory.GroupID][]*directory.ReplicaInfo)}
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Seated() && n.State == directory.Member && s.alive(n.Name) {
			b.count[n.Name] = 0
			b.nodes = append(b.nodes, n.Name)
		}
	}
	for g := range v.Groups() {
		leader, known := leads[g]
		if _, counts := b.count[leader]; counts {
			b.count[leader]++
		}
		if known && !shun[g] {
			b.groups = append(b.groups, g)
			b.voters[g] = b.eligible(g, leader)
		}
	}
	if t, found := b.drained(); found {
		return t, true
	}
	if restless(v) {
		return Transfer{}, false
	}
	return b.balanced()
}

// restless reports whether a replica comes or goes.
func restless(v *directory.View) bool {
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for i := range group.Replicas {
			if state := group.Replicas[i].State; state == directory.Leaving || state == directory.Preparing && g != directory.DirectoryGroup {
				return true
			}
		}
	}
	return false
}

// leadBoard is who leads what, and who could.
type leadBoard struct {
	v      *directory.View
	s      Sight
	leads  map[directory.GroupID]string
	nodes  []string       // that may lead, by name
	count  map[string]int // of groups, by node that may lead
	groups []directory.GroupID
	voters map[directory.GroupID][]*directory.ReplicaInfo // that could lead, but for the one that does
}

// eligible returns the voters of g that could lead it besides leader.
func (b *leadBoard) eligible(g directory.GroupID, leader string) (found []*directory.ReplicaInfo) {
	group, _ := b.v.Group(g)
	for i := range group.Replicas {
		r := &group.Replicas[i]
		if _, counts := b.count[r.Node]; counts && r.Node != leader && r.State == directory.Voter && b.v.Lives(r) {
			found = append(found, r)
		}
	}
	return found
}

// drained moves a lead away from a node that is draining, to the one that has
// the fewest.
func (b *leadBoard) drained() (Transfer, bool) {
	for _, g := range b.groups {
		if n, _ := b.v.Node(b.leads[g]); n.State != directory.Draining || len(b.voters[g]) == 0 {
			continue
		}
		to := slices.MinFunc(b.voters[g], func(x, y *directory.ReplicaInfo) int {
			if b.count[x.Node] != b.count[y.Node] {
				return b.count[x.Node] - b.count[y.Node]
			}
			return strings.Compare(x.Node, y.Node)
		})
		return b.transfer(g, to)
	}
	return Transfer{}, false
}

func (b *leadBoard) transfer(g directory.GroupID, to *directory.ReplicaInfo) (Transfer, bool) {
	return Transfer{Group: g, From: b.leads[g], To: to.Node, Replica: to.ID}, true
}

// hop is one edge of a path along which leads can move.
type hop struct {
	g  directory.GroupID
	to *directory.ReplicaInfo
}

// balanced finds a path from a node to one that leads two groups fewer, each
// hop a group that one node leads and the next could, and returns its last hop:
// carried out from its end, every step leaves nobody worse off than before.
func (b *leadBoard) balanced() (Transfer, bool) {
	from := slices.Clone(b.nodes)
	slices.SortStableFunc(from, func(x, y string) int { return b.count[y] - b.count[x] })
	for _, node := range from {
		reached := map[string]bool{node: true}
		queue := []string{node}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for _, h := range b.hops(at) {
				if reached[h.to.Node] {
					continue
				}
				if b.count[h.to.Node] <= b.count[node]-2 {
					return b.transfer(h.g, h.to)
				}
				reached[h.to.Node] = true
				queue = append(queue, h.to.Node)
			}
		}
	}
	return Transfer{}, false
}

// hops lists the groups that a node leads, with who could instead.
func (b *leadBoard) hops(node string) (all []hop) {
	for _, g := range b.groups {
		if b.leads[g] == node {
			for _, to := range b.voters[g] {
				all = append(all, hop{g, to})
			}
		}
	}
	return all
}
