package directory

import (
	"slices"
	"strconv"
	"strings"
)

// MaxNodes bounds the nodes of a cluster, dead ones included, removed ones not.
const MaxNodes = 64

// NodeInfo is one node: what it said of itself when it registered, and what
// became of it.
type NodeInfo struct {
	Name string `json:"name"` // as names of principals are formed
	// Life is drawn at random at every start: 32 lower-case hex digits. What
	// a node kept in memory only is gone with its life. A node that came by a
	// join token has none before it has the keys, and one that was removed has
	// none any more.
	Life string `json:"life,omitempty"`
	// Address is host:port of the node's cluster port. Only a node that is
	// alone may have none.
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"` // a name; what fails together
	API     string `json:"api,omitempty"`  // host:port of its front door, for lists
	// Key is SHA-256 over the SPKI of the node's TLS key. The zero one is that
	// of a node whose certificate alone admits it, as in a cluster of one process.
	Key Digest `json:"key,omitzero"`
	// Boot counts the starts of the node's folder: the highest registered. 0:
	// it has no folder.
	Boot uint64 `json:"boot,omitempty"`

	State       NodeState `json:"state,omitempty"`
	LeadersOnly bool      `json:"leaders_only,omitempty"` // draining: leads leave it, replicas stay
	// Admitted is when a person last let it have the keys, unix milliseconds; 0
	// again once a life is registered. See [AdmitNode].
	Admitted int64  `json:"admitted_ms,omitempty"`
	Last     string `json:"last,omitempty"`    // the life it had when it was removed
	Removed  uint64 `json:"removed,omitempty"` // epoch of its removal
}

// PutNode registers a node or a new life of one. A new life makes the replicas
// of the one before leaving, save the last voter of a group: see DESIGN.md.
// What others decide of a node (state, admission) must not be set.
type PutNode struct {
	Node NodeInfo `json:"node"`
	// Replaces is the life that is registered now, "" for a node without, the
	// last one for a node that was removed and joined anew. Two starts that
	// both mean to replace the same life can't both succeed.
	Replaces string `json:"replaces,omitempty"`
}

// Node returns the node of that name. It does not allocate.
func (v *View) Node(name string) (NodeInfo, bool) {
	if at, there := v.nodeAt(name); there {
		return v.Nodes[at], true
	}
	return NodeInfo{}, false
}

// nodeAt returns where name stands, or would stand, in Nodes.
func (v *View) nodeAt(name string) (int, bool) {
	return slices.BinarySearchFunc(v.Nodes, name, func(n NodeInfo, name string) int {
		return strings.Compare(n.Name, name)
	})
}

// Lives reports whether the log of r can still be there: it is that of its
// node's present life, or on the disk of a node that takes part.
func (v *View) Lives(r *ReplicaInfo) bool {
	at, there := v.nodeAt(r.Node)
	return there && (r.Durable || v.Nodes[at].Life == r.Life) && v.Nodes[at].Joined()
}

func putNode(next *View, cmd *PutNode) Result {
	n := cmd.Node
	if fault := n.claimFault(); fault != "" {
		return invalid(fault)
	}
	at, there := next.nodeAt(n.Name)
	var old NodeInfo
	if there {
		old = next.Nodes[at]
		n = old.reborn(n)
	}
	switch {
	case there && old == n:
		return already()
	case old.State == Removed:
		return conflict("the node was removed from the cluster: it needs a new join token")
	case old.State == Pending:
		return conflict("the node is pending: it must be admitted first")
	case n.Key != old.Key && old.Key != Digest{}:
		return conflict("another key is registered for the node")
	case cmd.Replaces != old.LastLife():
		return conflict("another life of the node is registered than the one to replace")
	case next.knowsLife(n.Life):
		return conflict("that life was registered before")
	case n.Boot <= old.Boot && old.Boot > 0:
		return conflict("the boot number is not above the registered one: the folder was copied or rolled back")
	case !there && next.joined() >= MaxNodes:
		return Result{Code: Exhausted, Detail: "more than " + strconv.Itoa(MaxNodes) + " nodes"}
	case !there && next.Nodes[0].Address == "":
		return conflict("the first node has no address, so nobody can join it")
	}
	next.setNode(n)
	next.retireAll()
	return Result{}
}

// reborn returns n, a life of old's, with what is known of old only.
func (old *NodeInfo) reborn(n NodeInfo) NodeInfo {
	n.State, n.LeadersOnly = old.State, old.LeadersOnly
	if n.Key == (Digest{}) {
		n.Key = old.Key
	}
	if n.Life == old.Life {
		n.Admitted = old.Admitted // of the life to come
	}
	return n
}

// setNode puts n where its name belongs.
func (v *View) setNode(n NodeInfo) {
	at, there := v.nodeAt(n.Name)
	v.Nodes = slices.Clone(v.Nodes)
	if there {
		v.Nodes[at] = n
	} else {
		v.Nodes = slices.Insert(v.Nodes, at, n)
	}
}

// knowsLife reports whether a node or a replica has that life.
func (v *View) knowsLife(life string) bool {
	if slices.ContainsFunc(v.Nodes, func(n NodeInfo) bool { return n.Life == life || n.Last == life }) {
		return true
	}
	for g := range v.Groups() {
		group, _ := v.Group(g)
		if slices.ContainsFunc(group.Replicas, func(r ReplicaInfo) bool { return r.Life == life }) {
			return true
		}
	}
	return false
}

// fault returns what is wrong with n by itself, or "".
func (n *NodeInfo) fault() string {
	switch {
	case !validName(n.Name):
		return "node: the name must be lower-case letters, digits, '_', '-' and '.', a letter first"
	case n.Life != "" && !validLife(n.Life), n.Last != "" && !validLife(n.Last):
		return "node: the life must be 32 lower-case hex digits"
	case n.Address != "" && !validAddress(n.Address):
		return "node: the address must be host:port"
	case n.Zone != "" && !validName(n.Zone):
		return "node: malformed zone"
	case n.API != "" && !validAddress(n.API):
		return "node: the API's address must be host:port"
	}
	return n.stateFault()
}

// claimFault returns what is wrong with n as what a node says of itself, or "".
func (n *NodeInfo) claimFault() string {
	fault := n.fault()
	switch {
	case fault != "":
		return fault
	case n.Life == "":
		return "node: the life must be 32 lower-case hex digits"
	case n.Address == "":
		return "node: the address is missing"
	case n.State != Member || n.LeadersOnly || n.Admitted != 0 || n.Last != "" || n.Removed != 0:
		return "node: its state is not for it to say"
	}
	return ""
}

// nodesFault returns what is wrong with a list of nodes, or "".
func nodesFault(nodes []NodeInfo) string {
	if len(nodes) == 0 || len(nodes) > MaxNodes+MaxRemoved {
		return "nodes: want 1 to " + strconv.Itoa(MaxNodes)
	}
	lives, joined := make(map[string]bool, len(nodes)), 0
	for i := range nodes {
		n := &nodes[i]
		if fault := n.fault(); fault != "" {
			return fault
		}
		switch {
		case i > 0 && nodes[i-1].Name >= n.Name:
			return "nodes: names must ascend"
		case n.Life != "" && lives[n.Life], n.Last != "" && lives[n.Last]:
			return "nodes: two have one life"
		case n.Address == "" && len(nodes) > 1:
			return "nodes: only a node that is alone may have no address"
		}
		lives[n.Life], lives[n.Last] = true, true
		if n.State != Removed {
			joined++
		}
	}
	if joined == 0 || joined > MaxNodes {
		return "nodes: want 1 to " + strconv.Itoa(MaxNodes)
	}
	return ""
}

func validLife(life string) bool {
	return len(life) == 32 && strings.Trim(life, "0123456789abcdef") == ""
}

const maxAddressBytes = 261 // a host name of 255, ":65535"

// validAddress reports whether a is host:port: a name, an IPv4 address or an
// IPv6 address in brackets, and a port that can be dialled. Spelt out, so that
// every release judges alike.
func validAddress(a string) bool {
	at := strings.LastIndexByte(a, ':')
	if at <= 0 || len(a) > maxAddressBytes {
		return false
	}
	host, port := a[:at], a[at+1:]
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		if !closed || !strings.Contains(inner, ":") {
			return false
		}
		host = strings.NewReplacer(":", "", "%", "").Replace(inner)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0 && strconv.FormatUint(number, 10) == port && validHost(host)
}

// validHost reports whether host is made of letters, digits, '.', '-' and '_'.
func validHost(host string) bool {
	for _, c := range []byte(host) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
