package keyring

import (
	"crypto/hpke"
	"encoding/base64"
	"fmt"

	"filippo.io/age"

	"cloakroom"
	"cloakroom/securemem"
)

// Snapshots are age files to one recipient per epoch, of age's post-quantum
// kind (age-encryption.org/v1, recipient type mlkem768x25519: HPKE, RFC 9180,
// with X-Wing). The age module makes its identities from text only; here they
// are made from the 32 bytes of the seed by the standard library's HPKE, so
// that the seed is never written out. Tests hold both kinds to each other.
const (
	stanzaType   = "mlkem768x25519"
	stanzaInfo   = "age-encryption.org/mlkem768x25519"
	stanzaLabel  = "postquantum" // age mixes this kind with no other
	wrappedBytes = 16 + 16       // a file key and its tag
)

// SnapshotRecipient returns the newest epoch and the public half of its
// snapshot identity: what a snapshot is sealed to.
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

// Unwrap implements age.Identity. A stanza that is not ours in every way is
// one that does not fit.
func (i *snapshotIdentity) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	i.keyring.mu.Lock() // Close wipes the seed under it
	defer i.keyring.mu.Unlock()
	if i.keyring.closed {
		return nil, ErrClosed
	}
	defer collect()
	for _, s := range stanzas {
		if s.Type != stanzaType || len(s.Args) != 1 || len(s.Body) != wrappedBytes {
			continue
		}
		enc, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[0])
		if err != nil {
			continue
		}
		i.secret.Use(func(seed []byte) { fileKey = unwrap(seed, enc, s.Body) })
		if fileKey != nil {
			return fileKey, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// unwrap returns the file key, or nil when it was wrapped for somebody else.
func unwrap(seed, enc, wrapped []byte) []byte {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		panic("keyring: a seed has another length than 32 bytes")
	}
	to, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(stanzaInfo))
	if err != nil {
		return nil
	}
	fileKey, err := to.Open(nil, wrapped)
	if err != nil {
		return nil
	}
	return fileKey
}

// snapshotRecipient is public.
type snapshotRecipient struct{ key hpke.PublicKey }

// newRecipient computes the public half of a snapshot identity. The caller
// ends with collect.
func newRecipient(e *entry) *snapshotRecipient {
	var public []byte
	e.secret.Use(func(seed []byte) {
		key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
		if err != nil {
			panic("keyring: a seed has another length than 32 bytes")
		}
		public = key.PublicKey().Bytes()
	})
	// Built anew, out of what securemem.Do wipes.
	key, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		panic("keyring: a public key of our own is none")
	}
	return &snapshotRecipient{key}
}

// Wrap implements age.Recipient.
func (r *snapshotRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := r.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels implements age.RecipientWithLabels. What it makes on the way
// is as secret as the file key; snapshot calls it inside securemem.Do.
func (r *snapshotRecipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	enc, to, err := hpke.NewSender(r.key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(stanzaInfo))
	if err != nil {
		return nil, nil, fmt.Errorf("wrap file key: %w", err)
	}
	wrapped, err := to.Seal(nil, fileKey)
	if err != nil {
		return nil, nil, fmt.Errorf("wrap file key: %w", err)
	}
	stanza := &age.Stanza{Type: stanzaType, Args: []string{base64.RawStdEncoding.EncodeToString(enc)}, Body: wrapped}
	return []*age.Stanza{stanza}, []string{stanzaLabel}, nil
}
