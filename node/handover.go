package node

import (
	"context"
	"errors"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/directory"
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
