package directory

import (
	"fmt"
	"strconv"
)

// MaxRemoved bounds the removed nodes that are remembered; beyond that the
// first removed is forgotten.
const MaxRemoved = 64

// NodeState is what a node is to the cluster.
type NodeState string

// The states of a node.
const (
	Member   NodeState = ""         // it takes part
	Pending  NodeState = "pending"  // a join token registered it; it gets no keys yet
	Draining NodeState = "draining" // it takes part, and is to be emptied
	Removed  NodeState = "removed"  // it is told so if it comes back
)

// String returns the state's name, for people.
func (s NodeState) String() string {
	if s == Member {
		return "member"
	}
	return string(s)
}

// AdmitNode lets a node have the keys, by word of a person who compared the
// fingerprint of its key: one that is pending becomes a member; any other may
// be given the keys once more, as after an outage too long for doing so
// without a person.
type AdmitNode struct {
	Name string `json:"name"`
	Key  Digest `json:"key"`   // as registered; SHA-256 of the SPKI
	At   int64  `json:"at_ms"` // the proposer's clock, unix milliseconds; not 0
}

// DrainNode has replicas and leads leave a node, or only leads. Cancel ends
// that: the node is a member like others again.
type DrainNode struct {
	Name        string `json:"name"`
	LeadersOnly bool   `json:"leaders_only,omitempty"`
	Cancel      bool   `json:"cancel,omitempty"`
}

// RemoveNode ends a node's membership. Its name comes back by a new join
// token only. One that is not dead must hold nothing any more ([View.Holds]);
// the replicas of one that is dead leave, save the last voter of a group.
// Whether it is dead is the proposer's to find out.
type RemoveNode struct {
	Name string `json:"name"`
	Dead bool   `json:"dead,omitempty"`
}

// Joined reports whether the node takes part: it is a member or draining.
func (n *NodeInfo) Joined() bool { return n.State == Member || n.State == Draining }

// Seated reports whether the node may keep replicas: it takes part and has
// registered a life.
func (n *NodeInfo) Seated() bool { return n.Joined() && n.Life != "" }

// Emptying reports whether replicas are to leave the node.
func (n *NodeInfo) Emptying() bool { return n.State == Draining && !n.LeadersOnly }

// LastLife is the life that the next one of the node replaces.
func (n *NodeInfo) LastLife() string {
	if n.Life == "" {
		return n.Last
	}
	return n.Life
}

// Wanted returns how many replicas each group should have: as many as the
// settings say, one per seated node at most.
func (v *View) Wanted() int {
	seated := 0
	for i := range v.Nodes {
		if v.Nodes[i].Seated() {
			seated++
		}
	}
	return min(v.Settings.Replication, seated)
}

// joined counts the nodes that were not removed.
func (v *View) joined() int {
	count := 0
	for i := range v.Nodes {
		if v.Nodes[i].State != Removed {
			count++
		}
	}
	return count
}

// NodeWithKey returns the node that registered that key, one that was removed
// only if there is no other. It does not allocate.
func (v *View) NodeWithKey(key Digest) (found NodeInfo, there bool) {
	if key == (Digest{}) {
		return NodeInfo{}, false
	}
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Key == key && (!there || found.State == Removed) {
			found, there = *n, true
		}
	}
	return found, there
}

// Holds counts the replicas that keep a node from being removed: those of its
// present life, leaving ones included, but for one of the directory that has
// no vote. That one is the node's view, and stays as long as the node.
func (v *View) Holds(node string) int {
	count := 0
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for i := range group.Replicas {
			r := &group.Replicas[i]
			if r.Node == node && (r.Durable || v.Lives(r)) && (g != DirectoryGroup || r.State != Preparing) {
				count++
			}
		}
	}
	return count
}

func admitNode(next *View, cmd *AdmitNode) Result {
	n, there := next.Node(cmd.Name)
	switch {
	case cmd.Key == Digest{} || cmd.At <= 0:
		return invalid("admission: key or time is missing")
	case !there:
		return notFound("no such node")
	case n.State == Removed:
		return conflict("the node was removed from the cluster: it needs a new join token")
	case n.Key != cmd.Key:
		return conflict("the node registered another key than the one to admit: compare the fingerprint on the node itself")
	case n.Admitted == cmd.At:
		return already()
	}
	n.Admitted = cmd.At
	if n.State == Pending {
		n.State = Member
	}
	next.setNode(n)
	return Result{}
}

func drainNode(next *View, cmd *DrainNode) Result {
	n, there := next.Node(cmd.Name)
	was := n
	switch {
	case cmd.Cancel && cmd.LeadersOnly:
		return invalid("drain: cancel has no other choice beside it")
	case !there:
		return notFound("no such node")
	case n.State == Removed:
		return conflict("the node was removed from the cluster")
	case n.State == Pending:
		return conflict("the node is pending and holds nothing: admit or remove it")
	case cmd.Cancel:
		n.State, n.LeadersOnly = Member, false
	default:
		n.State, n.LeadersOnly = Draining, cmd.LeadersOnly
	}
	if n == was {
		return already()
	}
	next.setNode(n)
	return Result{}
}

func removeNode(next *View, cmd *RemoveNode) Result {
	n, there := next.Node(cmd.Name)
	switch {
	case !there:
		return notFound("no such node")
	case n.State == Removed:
		return already()
	case n.Joined() && !next.othersThan(n.Name):
		return conflict("it is the last node of the cluster")
	case !cmd.Dead && next.Holds(n.Name) > 0:
		return conflict(fmt.Sprintf("the node holds %d replicas: drain it first; if it is gone for good, remove it as dead", next.Holds(n.Name)))
	}
	n = NodeInfo{Name: n.Name, Address: n.Address, Zone: n.Zone, API: n.API, Key: n.Key,
		State: Removed, Last: n.LastLife(), Removed: next.Epoch}
	next.setNode(n)
	next.retireAll()
	next.forgetRemoved()
	return Result{}
}

// othersThan reports whether another node than that one has joined.
func (v *View) othersThan(name string) bool {
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Joined() && n.Name != name {
			return true
		}
	}
	return false
}

// forgetRemoved forgets the first removed of too many, unless replicas name it
// still.
func (v *View) forgetRemoved() {
	count, first := 0, -1
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if n.State != Removed {
			continue
		}
		count++
		if !v.named(n.Name) && (first < 0 || n.Removed < v.Nodes[first].Removed) {
			first = i
		}
	}
	if count > MaxRemoved && first >= 0 {
		v.Nodes = append(v.Nodes[:first:first], v.Nodes[first+1:]...)
	}
}

// named reports whether a replica is said to be on that node.
func (v *View) named(node string) bool {
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for i := range group.Replicas {
			if group.Replicas[i].Node == node {
				return true
			}
		}
	}
	return false
}

// stateFault returns what is wrong with the state of n, or "".
func (n *NodeInfo) stateFault() string {
	switch {
	case n.State != Member && n.State != Pending && n.State != Draining && n.State != Removed:
		return "node: unknown state " + strconv.Quote(string(n.State))
	case n.LeadersOnly && n.State != Draining:
		return "node: only a draining one can be so for its leads only"
	case n.Life != "" && !n.Joined():
		return "node: one that takes no part has no life"
	case n.Life == "" && n.Joined() && n.Key == Digest{}:
		return "node: the life must be 32 lower-case hex digits"
	case n.Admitted < 0 || n.Admitted > 0 && n.Key == Digest{}:
		return "node: malformed admission"
	case (n.State == Removed) != (n.Removed > 0):
		return "node: removed, or not"
	}
	return ""
}
