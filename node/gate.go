package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
	"cloakroom/node/audit"
)

// gate is what a node remembers of those that come in by it.
type gate struct {
	// keyed is set while the node has keys, and from since when.
	keyed atomic.Pointer[keyed]
	// confirmed says that the directory has shown that they are the right ones,
	// or that this node made them.
	confirmed atomic.Bool
	// remembered is who the others are, as the folder has it.
	remembered atomic.Pointer[roster]

	entries, handovers verdicts
	turned             turned
	rejoined           bool // by its token, after a removal; of Run alone
}

// keyed says how the node came by its keys, and when.
type keyed struct {
	at       time.Duration // of Config.Uptime
	byPeople bool          // custodians unsealed it
}

// verdicts counts what was answered.
type verdicts [wire.Unreadable + 1]atomic.Uint64

func (v *verdicts) count(verdict wire.Verdict) { v[verdict].Add(1) }

// mayGive reports whether this node's keys can be handed on. What another node
// gave it could be anything until the directory has confirmed it.
func (n *Node) mayGive() bool {
	had := n.gate.keyed.Load()
	return had != nil && (had.byPeople || n.gate.confirmed.Load())
}

// hasKeys says that n.keys may be used from now on.
func (n *Node) hasKeys(byPeople bool) {
	n.gate.keyed.Store(&keyed{at: n.cfg.Uptime(), byPeople: byPeople})
}

// proveKeys returns what only a node with the keys can make for a life: HMAC
// under the source key. Without keys it returns what proves nothing.
func (n *Node) proveKeys(node, life string) (proof [32]byte) {
	n.giving.RLock()
	defer n.giving.RUnlock()
	if n.gate.keyed.Load() == nil {
		_, _ = rand.Read(proof[:]) // never fails
		return proof
	}
	n.keys.SourceMAC(&proof, "life", []byte(node), []byte(life))
	return proof
}

// Refusal is why others do not let this node in, or not yet.
type Refusal struct {
	Verdict wire.Verdict
	By      string // the node that refused, or its address
	Text    string // what to do about it
}

// Error says who refused and why.
func (r *Refusal) Error() string { return fmt.Sprintf("%s says: %s", r.By, r.Text) }

// Unwrap is [cloakroom.ErrUnavailable] where the same may be asked again, and
// [cloakroom.ErrDenied] where it can't help.
func (r *Refusal) Unwrap() error {
	if r.Verdict.Final() {
		return cloakroom.ErrDenied
	}
	return cloakroom.ErrUnavailable
}

// registered returns what is known of a node: in the directory, or, while that
// is older than what the folder remembers, there.
func (n *Node) registered(name string) (directory.NodeInfo, bool) {
	view := n.cluster.Directory()
	if m := n.gate.remembered.Load(); m != nil && m.proven && m.Epoch > view.Epoch {
		return m.node(name)
	}
	return view.Node(name)
}

// recordEntry counts and writes down that a node was answered, before the
// answer leaves. Only a name that is well-formed is written.
func (n *Node) recordEntry(ctx context.Context, node, action string, verdict wire.Verdict) error {
	var id [16]byte
	if _, err := io.ReadFull(n.random, id[:]); err != nil {
		return fmt.Errorf("draw request id: %w", err)
	}
	if !directory.ValidName(node) {
		node = ""
	}
	outcome := verdict.String()
	if verdict == wire.Granted {
		outcome = "ok"
	}
	return n.audit.Write(ctx, &audit.Entry{Request: hex.AppendEncode(nil, id[:]), Principal: node, Action: action, Outcome: outcome})
}
