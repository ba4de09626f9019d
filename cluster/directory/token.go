package directory

import (
	"slices"
	"strconv"
)

const (
	// MaxJoinTokens bounds the join tokens that are remembered.
	MaxJoinTokens = 256
	// tokenMemory is how long after its end a join token is remembered, used or
	// not, so that whoever shows it is told what became of it; milliseconds.
	tokenMemory = 7 * 24 * 3600 * 1000
)

// JoinToken is a secret that registers one node, once.
type JoinToken struct {
	Hash    Digest `json:"hash"`              // HMAC of the secret, never the secret
	Expires int64  `json:"expires_ms"`        // unix milliseconds
	By      string `json:"by"`                // the principal that made it
	UsedBy  string `json:"used_by,omitempty"` // the node that it registered
}

// PutJoinToken makes a join token valid. Those that ended long ago are
// forgotten.
type PutJoinToken struct {
	Token JoinToken `json:"token"`
	At    int64     `json:"at_ms"` // the proposer's clock, unix milliseconds
}

// UseJoinToken registers a node by a join token and uses the token up, in one
// step. The node is pending; a cluster of one person takes it as a member. A
// name is free if no node has it or had it, or one that is pending or removed.
type UseJoinToken struct {
	Hash Digest   `json:"hash"`
	At   int64    `json:"at_ms"` // the proposer's clock, unix milliseconds
	Node NodeInfo `json:"node"`  // name, address, zone, API and key; no life yet
}

// JoinToken returns the join token with that hash.
func (v *View) JoinToken(hash Digest) (JoinToken, bool) {
	if at := v.tokenAt(hash); at >= 0 {
		return v.JoinTokens[at], true
	}
	return JoinToken{}, false
}

func (v *View) tokenAt(hash Digest) int {
	return slices.IndexFunc(v.JoinTokens, func(t JoinToken) bool { return t.Hash == hash })
}

func putJoinToken(next *View, cmd *PutJoinToken) Result {
	token := cmd.Token
	if fault := token.fault(); fault != "" {
		return invalid(fault)
	}
	if token.UsedBy != "" || cmd.At <= 0 || token.Expires <= cmd.At {
		return invalid("join token: a new one is unused and ends in the future")
	}
	if known, there := next.JoinToken(token.Hash); there {
		if token.UsedBy = known.UsedBy; token == known {
			return already()
		}
		return conflict("the join token is there already")
	}
	tokens := slices.DeleteFunc(slices.Clone(next.JoinTokens), func(t JoinToken) bool { return t.Expires < cmd.At-tokenMemory })
	if len(tokens) >= MaxJoinTokens {
		return Result{Code: Exhausted, Detail: "more than " + strconv.Itoa(MaxJoinTokens) + " join tokens that are valid or ended lately"}
	}
	next.JoinTokens = append(tokens, token)
	return Result{}
}

func useJoinToken(next *View, cmd *UseJoinToken) Result {
	n := cmd.Node
	if fault := n.applicantFault(); fault != "" {
		return invalid(fault)
	}
	at := next.tokenAt(cmd.Hash)
	if at < 0 || cmd.At <= 0 {
		return notFound("no such join token: it is of another cluster, or ended long ago")
	}
	token, old := next.JoinTokens[at], NodeInfo{}
	if known, there := next.Node(n.Name); there {
		old = known
	}
	switch holder, taken := next.NodeWithKey(n.Key); {
	case token.UsedBy == n.Name && old.Key == n.Key && old.State != Removed:
		return already() // the answer was lost on the way
	case token.UsedBy != "":
		return Result{Code: Used, Detail: "the join token was used for " + token.UsedBy + " before"}
	case token.Expires <= cmd.At:
		return Result{Code: Expired, Detail: "the join token has expired"}
	case old.Name != "" && old.Joined():
		return conflict("the name is taken: choose another, or remove the node that has it")
	case taken && holder.Name != n.Name && holder.State != Removed:
		return conflict("the key is registered for " + holder.Name)
	case (old.Name == "" || old.State == Removed) && next.joined() >= MaxNodes:
		return Result{Code: Exhausted, Detail: "more than " + strconv.Itoa(MaxNodes) + " nodes"}
	case next.Nodes[0].Address == "":
		return conflict("the first node has no address, so nobody can join it")
	}
	n.State, n.Last = Pending, old.LastLife()
	if next.Settings.SinglePerson {
		n.State, n.Admitted = Member, cmd.At
	}
	next.setNode(n)
	next.JoinTokens = slices.Clone(next.JoinTokens)
	next.JoinTokens[at].UsedBy = n.Name
	return Result{}
}

// applicantFault returns what is wrong with n as what a node says that has
// only a join token, or "".
func (n *NodeInfo) applicantFault() string {
	if n.State != Member || n.LeadersOnly || n.Admitted != 0 || n.Last != "" || n.Removed != 0 || n.Life != "" || n.Boot != 0 {
		return "node: its state is not for it to say"
	}
	if n.Address == "" || n.Key == (Digest{}) {
		return "node: address or key is missing"
	}
	return n.fault()
}

// fault returns what is wrong with t by itself, or "".
func (t *JoinToken) fault() string {
	if t.Hash == (Digest{}) || t.Expires <= 0 || !validName(t.By) || t.UsedBy != "" && !validName(t.UsedBy) {
		return "malformed join token"
	}
	return ""
}

// tokensFault returns what is wrong with a list of join tokens, or "".
func tokensFault(tokens []JoinToken) string {
	if len(tokens) > MaxJoinTokens {
		return "too many join tokens"
	}
	seen := make(map[Digest]bool, len(tokens))
	for i := range tokens {
		if fault := tokens[i].fault(); fault != "" || seen[tokens[i].Hash] {
			return "malformed join token"
		}
		seen[tokens[i].Hash] = true
	}
	return ""
}
