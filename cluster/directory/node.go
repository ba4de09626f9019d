package directory

import (
	"slices"
	"strconv"
	"strings"
)

// MaxNodes bounds the nodes of a cluster, dead ones included.
const MaxNodes = 64

// NodeInfo is one node as it registered last.
type NodeInfo struct {
	Name string `json:"name"` // as names of principals are formed
	// Life is drawn at random at every start: 32 lower-case hex digits. What
	// a node kept in memory only is gone with its life.
	Life string `json:"life"`
	// Address is host:port of the node's cluster port. Only a node that is
	// alone may have none.
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"` // a name; what fails together
}

// PutNode registers a node or a new life of one. A new life makes the replicas
// of the one before leaving, save the last voter of a group: see DESIGN.md.
type PutNode struct {
	Node NodeInfo `json:"node"`
	// Replaces is the life that is registered now, "" for a new name. Two
	// starts that both mean to replace the same life can't both succeed.
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

// Lives reports whether the life that keeps r is its node's present one. If
// not, r's log is gone.
func (v *View) Lives(r *ReplicaInfo) bool {
	at, there := v.nodeAt(r.Node)
	return there && v.Nodes[at].Life == r.Life
}

func putNode(next *View, cmd *PutNode) Result {
	n := cmd.Node
	if fault := n.fault(); fault != "" {
		return invalid(fault)
	}
	if n.Address == "" {
		return invalid("node: the address is missing")
	}
	at, there := next.nodeAt(n.Name)
	registered := ""
	if there {
		registered = next.Nodes[at].Life
	}
	switch {
	case there && next.Nodes[at] == n:
		return already()
	case cmd.Replaces != registered:
		return conflict("another life of the node is registered than the one to replace")
	case next.knowsLife(n.Life):
		return conflict("that life was registered before")
	case !there && len(next.Nodes) >= MaxNodes:
		return Result{Code: Exhausted, Detail: "more than " + strconv.Itoa(MaxNodes) + " nodes"}
	case !there && next.Nodes[0].Address == "":
		return conflict("the first node has no address, so nobody can join it")
	}
	next.Nodes = slices.Clone(next.Nodes)
	if there {
		next.Nodes[at] = n
	} else {
		next.Nodes = slices.Insert(next.Nodes, at, n)
	}
	next.retireAll()
	return Result{}
}

// knowsLife reports whether a node or a replica has that life.
func (v *View) knowsLife(life string) bool {
	if slices.ContainsFunc(v.Nodes, func(n NodeInfo) bool { return n.Life == life }) {
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
	case !validLife(n.Life):
		return "node: the life must be 32 lower-case hex digits"
	case n.Address != "" && !validAddress(n.Address):
		return "node: the address must be host:port"
	case n.Zone != "" && !validName(n.Zone):
		return "node: malformed zone"
	}
	return ""
}

// nodesFault returns what is wrong with a list of nodes, or "".
func nodesFault(nodes []NodeInfo) string {
	if len(nodes) == 0 || len(nodes) > MaxNodes {
		return "nodes: want 1 to " + strconv.Itoa(MaxNodes)
	}
	lives := make(map[string]bool, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if fault := n.fault(); fault != "" {
			return fault
		}
		switch {
		case i > 0 && nodes[i-1].Name >= n.Name:
			return "nodes: names must ascend"
		case lives[n.Life]:
			return "nodes: two have one life"
		case n.Address == "" && len(nodes) > 1:
			return "nodes: only a node that is alone may have no address"
		}
		lives[n.Life] = true
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
