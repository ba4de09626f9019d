package node

import (
	"context"
	"errors"
	"fmt"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/wal"
	"cloakroom/securemem/keyring"
	"cloakroom/securemem/recovery"
)

// foundKeys makes the keys of the cluster that this node founds, and writes its
// keyring file: from then on custodians can bring them back.
//
// founding.json is removed when all is founded, and nothing is acknowledged to
// anybody before that. So a start that finds one begins anew, with other keys.
// What a start before it began is set aside and not removed: should somebody
// have put an old founding.json back, it is all there is of a cluster.
func (n *Node) foundKeys(context.Context) error {
	data, err := n.folder.Founding()
	if err != nil {
		return err
	}
	if n.founds, err = decodeFoundation(data); err != nil {
		return err
	}
	if n.founds.Cluster != n.id {
		return errors.New("founding.json is of another cluster than node.json: remove the folder and run 'cloakroom node init' again")
	}
	if err := n.checkFoundation(); err != nil {
		return err
	}
	for _, path := range []string{n.folder.DirectoryDir(), n.folder.KeyringFile()} {
		if err := wal.SetAside(n.folder.FS(), path, n.folder.Node().Boot); err != nil {
			return fmt.Errorf("begin anew: %w", err)
		}
	}
	keys, err := keyring.New(n.keyringConfig())
	if err != nil {
		return err
	}
	if err := n.saveKeyring(keys, n.founds.Recovery); err != nil {
		keys.Close()
		return err
	}
	n.cfg.Logger.Info("keys of a new cluster made", "version", keys.Version(), "recovery", n.founds.Recovery.Fingerprint())
	return n.useKeys(keys, false)
}

// checkFoundation holds the node's file to what init decided.
func (n *Node) checkFoundation() error {
	return n.compareSettings(n.founds.Shards, &n.founds.Settings)
}

// found writes what node init decided into the directory of the new cluster,
// and forgets it.
func (n *Node) found(ctx context.Context) error {
	for _, cmd := range n.founds.commands(n.keys.Hash(), n.credentialOf) {
		if err := n.proposeDirectory(ctx, &cmd); err != nil {
			return fmt.Errorf("found directory: %w", err)
		}
	}
	if err := n.warm(); err != nil {
		return err
	}
	return n.folder.DropFounding()
}

func (n *Node) proposeDirectory(ctx context.Context, cmd *directory.Command) error {
	result, err := n.cluster.ProposeDirectory(ctx, cmd)
	if err != nil {
		return err
	}
	return result.Err()
}

// keyringConfig is what every keyring of this node is made with.
func (n *Node) keyringConfig() keyring.Config {
	return keyring.Config{Memory: n.memory, Cluster: n.id, Rand: n.random, Now: n.now, NextSealingNumber: n.nextSealing}
}

// saveKeyring writes the keyring file of keys, sealed to the cluster's recovery
// recipient. It is on disk when saveKeyring returns.
func (n *Node) saveKeyring(keys *keyring.Keyring, public recovery.Public) error {
	file, err := keys.SealFile(public)
	if err != nil {
		return err
	}
	return n.folder.SaveKeyring(file)
}

// keepKeyring writes the keyring file anew unless there is one of the version
// and the recipient that the directory names. Keys that were handed over reach
// the disk in this way.
func (n *Node) keepKeyring(view *directory.View) error {
	public := publicRecovery(view.Recovery)
	if n.folder == nil || public == nil {
		return nil
	}
	if file, err := n.folder.Keyring(); err == nil {
		h, err := keyring.ReadFileHeader(file)
		if err == nil && directory.Digest(h.Hash) == view.KeyringHash && h.Recovery.Recipient == public.Recipient {
			return nil
		}
	}
	return n.saveKeyring(n.keys, *public)
}
