package keyring

import (
	"fmt"

	"filippo.io/age"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
)

// SnapshotRecipient returns the newest epoch and the public half of its
// snapshot identity, which is of age's post-quantum kind: what a snapshot is
// sealed to.
func (k *Keyring) SnapshotRecipient() (cloakroom.Epoch, age.Recipient) {
	e := k.ring.Load().newest(snapshotKey)
	return cloakroom.Epoch(e.number), e.recipient
}

// SnapshotIdentity returns the snapshot identity of an epoch, or
// [ErrUnknownKey]. It holds no key itself; each Unwrap builds one from the
// seed, uses it inside securemem.Do, drops it and collects, which takes
// milliseconds. After Close it returns [ErrClosed].
func (k *Keyring) SnapshotIdentity(epoch cloakroom.Epoch) (age.Identity, error) {
	e := k.ring.Load().find(snapshotKey, uint32(epoch))
	if e == nil {
		return nil, fmt.Errorf("snapshot identity of epoch %d: %w", epoch, ErrUnknownKey)
	}
	return &snapshotIdentity{keyring: k, secret: e.secret}, nil
}

// Epochs returns the lowest and the highest epoch of this keyring: any record
// that it can open is sealed under one of them or one between.
func (k *Keyring) Epochs() (lowest, highest cloakroom.Epoch) {
	r := k.ring.Load()
	for _, e := range r.entries {
		if e.purpose == dataKey {
			return cloakroom.Epoch(e.number), cloakroom.Epoch(r.newest(dataKey).number)
		}
	}
	panic("keyring: a version lacks a key")
}

type snapshotIdentity struct {
	keyring *Keyring
	secret  *securemem.Secret
}

// Unwrap implements age.Identity.
func (i *snapshotIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	i.keyring.mu.Lock() // Close wipes the seed under it
	defer i.keyring.mu.Unlock()
	if i.keyring.closed {
		return nil, ErrClosed
	}
	defer collect()
	if fileKey := hybrid.Unwrap(i.secret, stanzas); fileKey != nil {
		return fileKey, nil
	}
	return nil, age.ErrIncorrectIdentity
}
