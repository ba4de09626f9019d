// Package placement decides where replicas should be, who of them may vote and
// who should lead. It is pure functions of the directory's view and of what its
// leader sees of the nodes: no clock, no randomness, no memory. Asking again
// after an answer was carried out gives the next step, and a cluster that is in
// balance gives none.
//
// Its functions are safe for concurrent use.
package placement

import (
	"cloakroom/cluster/directory"
)

// Sight is what the leader of the directory sees of the nodes, by name. A nil
// map says that all are alive, or none dead.
type Sight struct {
	Alive map[string]bool // heard lately
	// Dead holds nodes that were silent for so long that their replicas are
	// made anew elsewhere.
	Dead map[string]bool
}

// alive reports whether a node was heard lately.
func (s *Sight) alive(node string) bool { return s.Alive == nil || s.Alive[node] }

// Kind is what a [Step] asks for.
type Kind uint8

// The kinds.
const (
	Add   Kind = iota // a new replica of Group on Node
	Leave             // Replica is to leave Group
)

// Reason is why a step is taken, for logs.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	Dead       Reason = "its node is dead"
	Missing    Reason = "a replica is missing"
	Draining   Reason = "its node is being drained"
	Surplus    Reason = "there is one more than needed"
	Zones      Reason = "two are in one zone"
	Unbalanced Reason = "nodes hold unequally many"
)

// Step is one small change of one group.
type Step struct {
	Kind  Kind
	Group directory.GroupID
	Why   Reason
	Seen  uint64 // epoch of the view: what changed since refuses the step

	Node, Life string // Add: of a node in the view
	Replica    string // Leave: Raft server ID
}

const (
	// zonesNeeded is how many zones there must be before they count. With two,
	// the one of them that holds two replicas of three takes the quorum with it
	// anyway.
	zonesNeeded = 3
	// maxMoves bounds the groups that have a replica more than they need, on its
	// way to another node for balance.
	maxMoves = 2
)

// Next returns the next step, and false if there is none: every group that can
// change has as many replicas as it should, on living nodes that are not being
// emptied, in zones of their own where there are three, and no node holds two
// more than another. At most installs replicas of shards are being made on one
// node at a time.
//
// The dead are replaced first, then what is missing is made, then nodes are
// emptied, then balanced; the directory comes before the shards, and those in
// their order. Without a majority of living nodes there is no step: whoever
// sees so little may be the one that is cut off. A group without a majority of
// living voters is left alone: nobody could carry a step out.
func Next(v *directory.View, s Sight, installs int) (Step, bool) {
	b := newBoard(v, s, installs)
	if !b.quorate() {
		return Step{}, false
	}
	for _, look := range []func(*group) (Step, bool){b.dead, b.missing, b.emptied, b.surplus} {
		for i := range b.groups {
			if step, found := look(&b.groups[i]); found {
				return step, true
			}
		}
	}
	return b.balance()
}

// board is a view, prepared for looking for a step.
type board struct {
	v        *directory.View
	s        Sight
	installs int
	wanted   int // replicas of each group
	seats    map[string]*seat
	order    []*seat // by name
	groups   []group // those that can change
	zoned    bool
}

// seat is a node that may keep replicas.
type seat struct {
	*directory.NodeInfo
	load       int  // replicas of shards, but for those that are to go
	installing int  // of which have no vote yet
	alive      bool // heard lately
	dead       bool
	open       bool // it may be given replicas
}

// group is one group, and its replicas that do not leave.
type group struct {
	id       directory.GroupID
	places   int // replicas, leaving ones included
	standing []*directory.ReplicaInfo
	leaving  bool // one is leaving
}

func newBoard(v *directory.View, s Sight, installs int) *board {
	b := &board{v: v, s: s, installs: installs, wanted: v.Wanted(), seats: make(map[string]*seat), zoned: countZones(v) >= zonesNeeded}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if !n.Seated() {
			continue
		}
		alive := s.alive(n.Name)
		dead := !alive && s.Dead[n.Name]
		b.order = append(b.order, &seat{NodeInfo: n, alive: alive, dead: dead, open: alive && !n.Emptying()})
		b.seats[n.Name] = b.order[len(b.order)-1]
	}
	for g := range v.Groups() {
		info, _ := v.Group(g)
		group := group{id: g, places: len(info.Replicas)}
		for i := range info.Replicas {
			r := &info.Replicas[i]
			if r.State == directory.Leaving {
				group.leaving = true
				continue
			}
			group.standing = append(group.standing, r)
			if at := b.seats[r.Node]; at != nil && g != directory.DirectoryGroup {
				at.load++
			}
		}
		if b.led(&group) {
			b.groups = append(b.groups, group)
			b.install(&group)
		}
	}
	return b
}

// install counts the replicas of g that are being made.
func (b *board) install(g *group) {
	for _, r := range g.standing {
		if at := b.seats[r.Node]; at != nil && g.id != directory.DirectoryGroup && r.State == directory.Preparing {
			at.installing++
		}
	}
}

// quorate reports whether more than half of the nodes were heard lately.
func (b *board) quorate() bool {
	alive := 0
	for _, n := range b.order {
		if n.alive {
			alive++
		}
	}
	return 2*alive > len(b.order)
}

// led reports whether enough voters of g live for it to have a leader.
func (b *board) led(g *group) bool {
	voters, alive := 0, 0
	for _, r := range g.standing {
		if r.State != directory.Voter {
			continue
		}
		voters++
		if b.v.Lives(r) && b.s.alive(r.Node) {
			alive++
		}
	}
	return alive > voters/2
}

// on returns the seat of a replica. One that stands on a node without a seat is
// the last voter of a life that is over, whose group is not looked at.
func (b *board) on(r *directory.ReplicaInfo) *seat { return b.seats[r.Node] }

func (b *board) add(g *group, on *seat, why Reason) (Step, bool) {
	return Step{Kind: Add, Group: g.id, Why: why, Seen: b.v.Epoch, Node: on.Name, Life: on.Life}, true
}

func (b *board) leave(g *group, r *directory.ReplicaInfo, why Reason) (Step, bool) {
	return Step{Kind: Leave, Group: g.id, Why: why, Seen: b.v.Epoch, Replica: r.ID}, true
}

// dead has a replica on a dead node leave, if another node can take its place:
// without one the group gains nothing by forgetting a voter that may come back.
func (b *board) dead(g *group) (Step, bool) {
	for _, r := range g.standing {
		if !b.on(r).dead || g.id == directory.DirectoryGroup && r.State != directory.Voter {
			continue
		}
		if b.successor(g) {
			return b.leave(g, r, Dead)
		}
	}
	return Step{}, false
}

// successor reports whether an open node can take the place of a replica of g.
func (b *board) successor(g *group) bool {
	if g.id != directory.DirectoryGroup {
		return b.pick(g, func(n *seat) bool { return n.open }) != nil
	}
	for _, r := range g.standing { // every node has one: those without a vote
		if r.State == directory.Preparing && b.on(r).open {
			return true
		}
	}
	return false
}

// missing adds a replica to a group that has too few. A node that is being
// emptied takes one only if no other can.
func (b *board) missing(g *group) (Step, bool) {
	if len(g.standing) >= b.wanted || g.places >= directory.MaxReplicas {
		return Step{}, false
	}
	if n := b.pick(g, func(n *seat) bool { return n.open }); n != nil {
		if b.full(g, n) {
			if n = b.pick(g, func(n *seat) bool { return n.open && !b.full(g, n) }); n == nil {
				return Step{}, false // a place is soon free
			}
		}
		return b.add(g, n, Missing)
	}
	if n := b.pick(g, func(n *seat) bool { return n.alive && !b.full(g, n) }); n != nil {
		return b.add(g, n, Missing)
	}
	return Step{}, false
}

// full reports whether n makes as many replicas as it may at a time.
func (b *board) full(g *group, n *seat) bool {
	return g.id != directory.DirectoryGroup && n.installing >= b.installs
}

// emptied has a replica leave a node that is being emptied, once there are
// enough voters elsewhere, and adds one elsewhere until there are. The one of
// the directory without a vote stays: it is the node's view.
func (b *board) emptied(g *group) (Step, bool) {
	var here *directory.ReplicaInfo
	elsewhere, votes := 0, 0
	for _, r := range g.standing {
		switch n := b.on(r); {
		case n.Emptying():
			if g.id != directory.DirectoryGroup || r.State == directory.Voter {
				here = r
			}
		case n.alive:
			elsewhere++
			if r.State == directory.Voter {
				votes++
			}
		default:
			elsewhere++ // it comes back, or is found dead
		}
	}
	switch {
	case here == nil:
		return Step{}, false
	case votes >= b.wanted, here.State == directory.Preparing && elsewhere >= b.wanted:
		return b.leave(g, here, Draining)
	case g.id == directory.DirectoryGroup || elsewhere >= b.wanted || g.places >= directory.MaxReplicas:
		return Step{}, false
	}
	if n := b.pick(g, func(n *seat) bool { return n.open && !b.full(g, n) }); n != nil {
		return b.add(g, n, Draining)
	}
	return Step{}, false
}

// surplus has one leave of a group that has more voters than it should, all of
// them alive: what a move leaves behind.
func (b *board) surplus(g *group) (Step, bool) {
	var voters []*directory.ReplicaInfo
	for _, r := range g.standing {
		n := b.on(r)
		if g.id == directory.DirectoryGroup && r.State != directory.Voter {
			continue
		}
		if r.State != directory.Voter || !n.alive {
			return Step{}, false
		}
		voters = append(voters, r)
	}
	if len(voters) <= b.wanted {
		return Step{}, false
	}
	return b.leave(g, b.spare(voters), Surplus)
}

// spare returns the one of replicas that can best be done without: the others
// are in as many zones as possible, then its node holds the most, then it came
// last.
func (b *board) spare(replicas []*directory.ReplicaInfo) *directory.ReplicaInfo {
	var best *directory.ReplicaInfo
	zones := 0
	for _, r := range replicas {
		left := b.zonesOf(replicas, r)
		if best == nil || left > zones || left == zones && b.on(r).load >= b.on(best).load {
			best, zones = r, left
		}
	}
	return best
}

// zonesOf counts the zones that replicas are in, but for one of them; 0 if
// zones don't count.
func (b *board) zonesOf(replicas []*directory.ReplicaInfo, but *directory.ReplicaInfo) int {
	if !b.zoned {
		return 0
	}
	zones := make(map[string]bool)
	for _, r := range replicas {
		if r != but {
			zones[b.on(r).Zone] = true
		}
	}
	return len(zones)
}

// pick returns the node that should take a replica of g, of those that fit, nil
// if there is none: one in a zone that has none before others, then the one
// with the fewest replicas, then the first by name.
func (b *board) pick(g *group, fits func(*seat) bool) *seat {
	holds, zones := make(map[string]bool), make(map[string]bool)
	for _, r := range g.standing {
		holds[r.Node] = true
		zones[b.on(r).Zone] = true
	}
	var best *seat
	better := func(n *seat) bool {
		if best == nil {
			return true
		}
		if b.zoned && zones[n.Zone] != zones[best.Zone] {
			return !zones[n.Zone]
		}
		return n.load < best.load // nodes come by name
	}
	for _, n := range b.order {
		if !holds[n.Name] && fits(n) && better(n) {
			best = n
		}
	}
	return best
}

// countZones counts the zones that seated nodes name.
func countZones(v *directory.View) int {
	zones := make(map[string]bool)
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Seated() && n.Zone != "" {
			zones[n.Zone] = true
		}
	}
	return len(zones)
}
