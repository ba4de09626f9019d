package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
	"cloakroom/node/entry"
	"cloakroom/securemem/keyring"
)

// takeKeys makes the keys of a new cluster, or takes those of the cluster that
// this node joins over from a node beside it.
func (n *Node) takeKeys(ctx context.Context, id directory.ID) (*keyring.Keyring, error) {
	cfg := n.keyringConfig()
	if len(n.cfg.Beside) == 0 {
		return keyring.New(cfg)
	}
	var faults []error
	for _, giver := range n.cfg.Beside {
		keys, err := giver.handOver(ctx, cfg)
		if err == nil {
			return keys, nil
		}
		faults = append(faults, err)
	}
	return nil, fmt.Errorf("take over the keys: %w", errors.Join(faults...))
}

// handOver builds a second keyring of n's keys, for a node of the same process.
// The blob passes from the key region of n to a guarded buffer of the taker, who
// decodes and wipes it: the keys are never on the heap and never leave the
// process. While they are handed over n can't be closed.
func (n *Node) handOver(ctx context.Context, taker keyring.Config) (*keyring.Keyring, error) {
	n.giving.RLock()
	defer n.giving.RUnlock()
	if !n.ready.Load() {
		return nil, fmt.Errorf("node %s has none to give: %w", n.cfg.Name, cloakroom.ErrUnavailable)
	}
	blob, err := n.keys.Encode()
	if err != nil {
		return nil, err
	}
	defer blob.Destroy()
	buf, err := taker.Memory.Pool().Get(ctx, blob.Len())
	if err != nil {
		return nil, err
	}
	defer buf.Release()
	blob.Use(func(b []byte) { copy(buf.Bytes(), b) })
	return keyring.Decode(taker, buf.Bytes())
}

// checkKeys holds the keys that were taken over to what the directory has
// committed: keys of another version would seal what nobody else can open.
func (n *Node) checkKeys(view *directory.View) error {
	if view.KeyringVersion != n.keys.Version() || view.KeyringHash != directory.Digest(n.keys.Hash()) {
		return fmt.Errorf("the keys taken over are version %d, and not what the directory has committed as version %d",
			n.keys.Version(), view.KeyringVersion)
	}
	return nil
}

// giveTime bounds what a giver finds out about a taker.
const giveTime = 8 * time.Second

// giveKeys hands the keys over to a node that starts, if it may have them.
// Decided, written down, then done.
func (n *Node) giveKeys(ctx context.Context, from cluster.Peer, body []byte) ([]byte, error) {
	var req wire.KeysRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, giveTime)
	defer cancel()
	reply := wire.KeysReply{}
	reply.Verdict, reply.Text = n.mayHaveKeys(ctx, from, &req)
	n.gate.handovers.count(reply.Verdict)
	if err := n.recordHandover(ctx, from, &reply); err != nil {
		reply.Verdict, reply.Text = wire.NotNow, "the audit log cannot be written"
	}
	if reply.Verdict == wire.Granted {
		if err := n.sealKeys(from, req.Key, &reply); err != nil {
			n.cfg.Logger.Error("cannot hand the keys over", "node", from.Node, "error", err)
			reply = wire.KeysReply{Verdict: wire.NotNow, Text: "the keys could not be sealed"}
		}
	}
	return reply.Append(nil), nil
}

// recordHandover writes a hand-over, or its refusal, into audit log and log. A
// node that has to wait asks again and again, and is not written down each time.
func (n *Node) recordHandover(ctx context.Context, from cluster.Peer, reply *wire.KeysReply) error {
	switch reply.Verdict {
	case wire.NotNow:
		return nil
	case wire.Granted:
		n.cfg.Logger.Warn("the keys are handed over to a node that starts", "node", from.Node, "life", from.Life, "fingerprint", cert.Fingerprint(from.Key))
	default:
		if !n.gate.turned.news(from.Node, from.Life, reply.Verdict) {
			return nil
		}
		n.cfg.Logger.Warn("the keys were not handed over", "node", from.Node, "verdict", reply.Verdict.String(), "reason", reply.Text)
	}
	return n.recordEntry(ctx, from.Node, "keys-give", reply.Verdict)
}

// mayHaveKeys decides about a request for the keys. memory-and-keys: it is the
// registered node, in its registered place, and either a person has admitted
// it or its life before ended a short while ago.
func (n *Node) mayHaveKeys(ctx context.Context, from cluster.Peer, req *wire.KeysRequest) (wire.Verdict, string) {
	if !n.mayGive() {
		return wire.NotNow, "this node is sealed or starting"
	}
	info, there := n.registered(from.Node)
	switch {
	case !there && n.cluster.Directory().Epoch == 0 && n.gate.remembered.Load() == nil:
		return wire.NotNow, "this node does not see the directory yet"
	case !there:
		return wire.Stranger, "no node of that name is registered"
	case info.State == directory.Removed:
		return wire.Stranger, removedText
	case info.Key != directory.Digest(from.Key) || from.Key == [32]byte{}:
		return wire.Differs, "another TLS key is registered for the node"
	case info.Life == from.Life:
		return wire.Alive, "this life of the node is registered, so it has the keys"
	case req.Boot <= info.Boot && info.Boot > 0:
		return wire.Copied, fmt.Sprintf("the node's folder says that this is start %d, and start %d was registered: it is a copy, or was put back from a backup", req.Boot, info.Boot)
	case req.SealEpoch != n.sealEpoch():
		return wire.NotNow, "the cluster was sealed since: unseal one of its nodes with shares"
	case info.State == directory.Pending:
		return wire.Unadmitted, admitText(&info)
	case req.Address != info.Address:
		return wire.Differs, fmt.Sprintf("the node is registered at %s and says it is at %s: put cluster.advertise back, or remove the node and join it anew", info.Address, req.Address)
	}
	if verdict, text := n.isThere(ctx, from, &info); verdict != wire.Granted {
		return verdict, text
	}
	if n.lately(&info) {
		return wire.Granted, ""
	}
	return wire.Unadmitted, admitText(&info)
}

// admitText tells what a person has to do for a node to get the keys.
func admitText(info *directory.NodeInfo) string {
	return fmt.Sprintf("a custodian has to admit it: cloakroom nodes admit %s %s (compare the fingerprint with the one that the node itself logs)",
		info.Name, cert.Fingerprint(info.Key))
}

// isThere dials back: who asks must be the one who listens at the registered
// address. A former life that still listened there would be found as well.
func (n *Node) isThere(ctx context.Context, from cluster.Peer, info *directory.NodeInfo) (wire.Verdict, string) {
	who, err := n.cluster.Reach(ctx, info.Address)
	switch {
	case err != nil:
		return wire.NotNow, fmt.Sprintf("it was not reached at its registered address %s", info.Address)
	case who.Node == from.Node && who.Life == info.Life:
		return wire.Alive, fmt.Sprintf("a node called %s runs at %s", info.Name, info.Address)
	case who.Node != from.Node || who.Life != from.Life || who.Key != from.Key:
		return wire.NotNow, fmt.Sprintf("another one answers at its registered address %s", info.Address)
	}
	return wire.Granted, ""
}

// lately reports whether no person is needed: one has admitted the node for
// this life, or the life before ended within the window, by the clock of this
// node. After a stop of the whole cluster nobody heard anybody: there the
// custodians who unsealed this node have spoken, for as long as the window.
func (n *Node) lately(info *directory.NodeInfo) bool {
	if info.Admitted != 0 {
		return true
	}
	if info.Life == "" {
		return true // it was admitted and never had a life: pending ones do not get here
	}
	window := n.handoverWindow()
	if silent, heard := n.cluster.SilentFor(info.Name, info.Life); heard {
		return silent < window
	}
	had := n.gate.keyed.Load()
	return had != nil && had.byPeople && n.cfg.Uptime()-had.at < window
}

// handoverWindow is how long after the end of its life a node gets the keys
// without a person.
func (n *Node) handoverWindow() time.Duration {
	view := n.cluster.Directory()
	seconds := view.Settings.HandoverSec
	if m := n.gate.remembered.Load(); m != nil && m.proven && m.Epoch > view.Epoch {
		seconds = m.Window
	}
	if seconds == 0 {
		seconds = directory.DefaultHandover
	}
	return time.Duration(seconds) * time.Second
}

// sealEpoch is the highest seal of the cluster that this node heard of.
func (n *Node) sealEpoch() uint64 {
	if n.folder == nil {
		return 0
	}
	return n.folder.Node().SealEpoch
}

// sealKeys seals the keys for one taker, on one connection. While that lasts
// they can't be wiped.
func (n *Node) sealKeys(to cluster.Peer, public []byte, reply *wire.KeysReply) error {
	n.giving.RLock()
	defer n.giving.RUnlock()
	if !n.mayGive() {
		return errNoKeys
	}
	blob, err := n.keys.Encode()
	if err != nil {
		return err
	}
	defer blob.Destroy()
	reply.Version, reply.Hash, reply.SealEpoch = n.keys.Version(), n.keys.Hash(), n.sealEpoch()
	reply.Encapsulated, reply.Sealed, err = entry.Seal(n.memory, public, n.parties(n.cfg.Name, to.Node, to.Life, to), blob)
	return err
}

func (n *Node) parties(giver, taker, life string, over cluster.Peer) entry.Parties {
	return entry.Parties{Cluster: n.id, Giver: giver, Taker: taker, Life: life, Bound: over.Bound}
}

// askKeysAt asks one node for the keys. What it gives is of use only once the
// directory has confirmed version and hash ([Node.checkKeys]); its word that
// they are right counts nothing.
func (n *Node) askKeysAt(ctx context.Context, addr string) (*keyring.Keyring, error) {
	ctx, cancel := context.WithTimeout(ctx, giveTime+2*time.Second)
	defer cancel()
	mine, err := entry.NewRequest()
	if err != nil {
		return nil, err
	}
	req := wire.KeysRequest{SealEpoch: n.sealEpoch(), Key: mine.Public(), Address: n.cluster.Addr()}
	if n.folder != nil {
		req.Boot = n.folder.Node().Boot
	}
	body, who, err := n.cluster.AskAt(ctx, addr, wire.Keys, req.Append(nil))
	if err != nil {
		return nil, fmt.Errorf("ask for the keys: %w", err)
	}
	var reply wire.KeysReply
	if err := reply.Decode(body); err != nil {
		return nil, fmt.Errorf("ask %s for the keys: %w", who.Node, err)
	}
	if reply.Verdict != wire.Granted {
		return nil, &Refusal{Verdict: reply.Verdict, By: who.Node, Text: reply.Text}
	}
	var keys *keyring.Keyring
	err = mine.Open(ctx, n.memory, n.parties(who.Node, n.cfg.Name, n.cluster.Life(), who), reply.Encapsulated, reply.Sealed, func(blob []byte) (err error) {
		keys, err = keyring.Decode(n.keyringConfig(), blob)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("keys from %s: %w", who.Node, err)
	}
	if keys.Version() != reply.Version || keys.Hash() != reply.Hash || !n.outlives(keys) {
		keys.Close()
		return nil, fmt.Errorf("keys from %s: not the version that it says, or of another cluster's CA", who.Node)
	}
	n.cfg.Logger.Info("took the keys over", "from", who.Node, "version", reply.Version)
	return keys, nil
}

// outlives reports whether keys have the CA key that this node trusts already:
// then at least they are of its cluster.
func (n *Node) outlives(keys *keyring.Keyring) bool {
	n.papers.mu.Lock()
	defer n.papers.mu.Unlock()
	return n.papers.root == nil || keys.CAPublicKey().Equal(n.papers.root.PublicKey)
}
