package keyring

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
)

// purpose says what a key of the ring is for. The numbers stand in the blob
// and never change; 6, 8 and 9 are reserved for former signing keys (public
// halves), audit keys and slow peppers.
type purpose uint8

const (
	indexKey      purpose = 1 // parent of the token keys, the slot key and the source key
	dataKey       purpose = 2 // parent of the sealing keys of an epoch
	credentialKey purpose = 3
	requestKey    purpose = 4
	signingKey    purpose = 5  // an Ed25519 seed
	caKey         purpose = 7  // an Ed25519 seed
	snapshotKey   purpose = 10 // of an epoch: the seed of an age identity
)

// purposes are all there are, ascending; a keyring has keys of each.
func purposes() []purpose {
	return []purpose{indexKey, dataKey, credentialKey, requestKey, signingKey, caKey, snapshotKey}
}

// keyBytes is the length of every key of the ring.
const keyBytes = 32

// entry is one key of the ring. Entries are not changed once made, so that
// versions of a ring share them.
type entry struct {
	purpose purpose
	number  uint32 // of a data key and a snapshot identity: its epoch
	created int64  // Unix seconds
	secret  *securemem.Secret

	public    PublicKey         // of a signing key and a CA key
	recipient *hybrid.Recipient // of a snapshot identity
}

// ring is one version of the keyring: immutable once it is in use.
type ring struct {
	version uint64
	before  [32]byte // hash of the version before; zeros in version 1
	hash    [32]byte // of this version
	entries []*entry // ascending by purpose, then number
}

// addNew makes a random key.
func (r *ring) addNew(cfg Config, p purpose, number uint32) error {
	s, err := cfg.Memory.NewSecret(keyBytes)
	if err != nil {
		return err
	}
	s.Use(func(b []byte) { _, err = io.ReadFull(cfg.Rand, b) })
	if err != nil {
		s.Destroy()
		return fmt.Errorf("make key: %w", err)
	}
	r.add(&entry{purpose: p, number: number, created: cfg.Now().Unix(), secret: s})
	return nil
}

// addEpoch makes the keys of an epoch and ends the making of the version. On
// an error no key is left.
func (r *ring) addEpoch(cfg Config, epoch uint32) error {
	err := r.addNew(cfg, dataKey, epoch)
	if err == nil {
		err = r.addNew(cfg, snapshotKey, epoch)
	}
	if err == nil {
		err = r.seal(cfg)
	}
	if err != nil {
		for _, p := range []purpose{dataKey, snapshotKey} {
			if e := r.find(p, epoch); e != nil {
				e.secret.Destroy()
			}
		}
	}
	return err
}

func (r *ring) add(e *entry) {
	at, _ := slices.BinarySearchFunc(r.entries, e, compareEntries)
	r.entries = slices.Insert(r.entries, at, e)
}

func compareEntries(a, b *entry) int {
	if a.purpose != b.purpose {
		return int(a.purpose) - int(b.purpose)
	}
	return int(int64(a.number) - int64(b.number))
}

// find returns one key, or nil.
func (r *ring) find(p purpose, number uint32) *entry {
	at, ok := slices.BinarySearchFunc(r.entries, &entry{purpose: p, number: number}, compareEntries)
	if !ok {
		return nil
	}
	return r.entries[at]
}

// newest returns the key of a purpose with the highest number. Every ring has
// one of each.
func (r *ring) newest(p purpose) *entry {
	for _, e := range slices.Backward(r.entries) {
		if e.purpose == p {
			return e
		}
	}
	panic("keyring: a version lacks a key")
}

// next returns the beginnings of the version after r.
func (r *ring) next() *ring {
	return &ring{version: r.version + 1, before: r.hash, entries: slices.Clone(r.entries)}
}

// seal sets the hash, which ends the making of a version.
func (r *ring) seal(cfg Config) error {
	blob, err := r.encode(cfg)
	if err != nil {
		return err
	}
	defer blob.Destroy()
	blob.Use(func(b []byte) { r.hash = sha256.Sum256(b) })
	return nil
}

// publish computes the public halves that are missing. The caller ends with
// collect.
func (r *ring) publish() {
	for _, e := range r.entries {
		switch {
		case (e.purpose == signingKey || e.purpose == caKey) && e.public.Key == nil:
			e.public = publicKey(e)
		case e.purpose == snapshotKey && e.recipient == nil:
			e.recipient = hybrid.NewRecipient(e.secret)
		}
	}
}

func (r *ring) destroy() {
	for _, e := range r.entries {
		e.secret.Destroy()
	}
}
