package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node/folder"
	"cloakroom/node/operator"
	"cloakroom/securemem/hybrid"
	"cloakroom/securemem/keyring"
	"cloakroom/securemem/recovery"
)

// unsealing is how custodians bring a sealed node its keys.
type unsealing struct {
	mu        sync.Mutex
	gathering *recovery.Gathering // nil before the first share
	file      []byte              // the keyring file it is for
	closed    bool
}

// Unseal takes one share, in guarded memory. With the last one needed it opens
// the keyring file of this node and gives it the keys. A share that does not
// help is [cloakroom.ErrShare], with the reason, and changes nothing. A node
// that has its keys says so and looks at no share.
func (n *Node) Unseal(_ context.Context, share []byte) (operator.UnsealStatus, error) {
	switch n.Stage() {
	case Sealed, Pending:
	case Starting, Ready:
		return operator.UnsealStatus{}, nil
	default:
		return operator.UnsealStatus{Sealed: true}, cloakroom.Because(cloakroom.ErrState, "this node is "+n.Stage().String()+" and has no keys to unseal")
	}
	u := &n.unsealing
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := n.beginUnseal(); err != nil {
		return operator.UnsealStatus{Sealed: true}, err
	}
	have, seed, err := u.gathering.Offer(share)
	status := n.unsealStatus(have)
	if err != nil || seed == nil {
		return status, err
	}
	defer seed.Destroy()
	keys, header, err := keyring.OpenFile(n.keyringConfig(), u.file, hybrid.NewIdentity(seed))
	if errors.Is(err, keyring.ErrFile) {
		return status, n.damagedKeyring(err)
	}
	if err != nil {
		return status, fmt.Errorf("unseal: %w", err)
	}
	if !n.bring(keys) {
		keys.Close()
	}
	n.cfg.Logger.Info("unsealed by its custodians", "version", header.Version)
	status.Sealed, status.LapsesSec = false, 0
	return status, nil
}

// beginUnseal reads the keyring file, whose header says whose shares open it.
// The mutex of unsealing is held.
func (n *Node) beginUnseal() error {
	u := &n.unsealing
	if u.closed {
		return cloakroom.ErrUnavailable
	}
	if u.gathering != nil {
		return nil
	}
	if n.folder == nil {
		return cloakroom.Because(cloakroom.ErrState, "this node keeps nothing on disk")
	}
	file, err := n.folder.Keyring()
	if errors.Is(err, folder.ErrMissing) {
		return cloakroom.Because(cloakroom.ErrState, "this node has no keyring file yet: unseal another node, it hands the keys over")
	}
	if err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	header, err := keyring.ReadFileHeader(file)
	if err != nil {
		return n.damagedKeyring(err)
	}
	if directory.ID(header.Cluster) != n.id {
		return n.damagedKeyring(errors.New("it is of another cluster than node.json"))
	}
	u.gathering, err = recovery.NewGathering(recovery.Config{Memory: n.memory, Cluster: n.id, Public: header.Recovery, Now: n.now})
	u.file = file
	return err
}

// damagedKeyring is what a custodian is told who can do nothing about it.
func (n *Node) damagedKeyring(err error) error {
	n.cfg.Logger.Error("keyring file cannot be used", "error", err)
	return cloakroom.Because(cloakroom.ErrState, "the keyring file of this node is damaged: unseal another node, it hands the keys over")
}

// UnsealProgress tells how far an unseal is.
func (n *Node) UnsealProgress() operator.UnsealStatus {
	u := &n.unsealing
	u.mu.Lock()
	defer u.mu.Unlock()
	if stage := n.Stage(); stage != Sealed && stage != Pending {
		return operator.UnsealStatus{}
	}
	if n.beginUnseal() != nil {
		return operator.UnsealStatus{Sealed: true}
	}
	return n.unsealStatus(u.gathering.Progress())
}

func (n *Node) unsealStatus(p recovery.Progress) operator.UnsealStatus {
	s := operator.UnsealStatus{Sealed: true, Given: p.Have, Needed: p.Threshold}
	if !p.Until.IsZero() {
		s.LapsesSec = max(int(p.Until.Sub(n.now()).Round(time.Second)/time.Second), 1)
	}
	return s
}

// close wipes the shares gathered so far; no further one is taken.
func (u *unsealing) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.gathering != nil {
		u.gathering.Close()
	}
}
