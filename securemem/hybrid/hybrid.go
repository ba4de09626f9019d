// Package hybrid makes age identities of the post-quantum kind
// (age-encryption.org/v1, recipient type mlkem768x25519: HPKE, RFC 9180, with
// X-Wing) from 32 bytes in guarded memory. The age module makes its own from
// text only, so that each use would write the seed out and parse it; here the
// standard library's HPKE makes the key from the bytes. Tests hold both kinds
// to each other.
//
// It never keeps a seed, and what it makes of one it makes inside
// securemem.Do. Everything here is safe for concurrent use.
package hybrid

import (
	"crypto/hpke"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"

	"filippo.io/age"

	"cloakroom/securemem"
)

const (
	stanzaType   = "mlkem768x25519"
	stanzaInfo   = "age-encryption.org/mlkem768x25519"
	stanzaLabel  = "postquantum" // age mixes this kind with no other
	wrappedBytes = 16 + 16       // a file key and its tag

	// SeedBytes is the length of a seed.
	SeedBytes = 32
)

// Unwrap returns the file key that one of stanzas holds for the identity of
// seed, or nil if none does. A stanza that is not ours in every way is one that
// does not fit. The caller collects (runtime.GC, twice) when it is done: what
// the seed was expanded to is wiped then.
func Unwrap(seed *securemem.Secret, stanzas []*age.Stanza) (fileKey []byte) {
	for _, s := range stanzas {
		if s.Type != stanzaType || len(s.Args) != 1 || len(s.Body) != wrappedBytes {
			continue
		}
		enc, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[0])
		if err != nil {
			continue
		}
		seed.Use(func(seed []byte) { fileKey = unwrap(seed, enc, s.Body) })
		if fileKey != nil {
			return fileKey
		}
	}
	return nil
}

// unwrap returns the file key, or nil when it was wrapped for somebody else.
func unwrap(seed, enc, wrapped []byte) []byte {
	to, err := hpke.NewRecipient(enc, privateKey(seed), hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(stanzaInfo))
	if err != nil {
		return nil
	}
	fileKey, err := to.Open(nil, wrapped)
	if err != nil {
		return nil
	}
	return fileKey
}

func privateKey(seed []byte) hpke.PrivateKey {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		panic("hybrid: a seed has another length than 32 bytes")
	}
	return key
}

// Identity opens what was sealed to the recipient of a seed. It holds no key:
// each Unwrap expands the seed, which takes 0.3 ms, and collects, which takes
// milliseconds. It is good as long as the seed is.
type Identity struct{ seed *securemem.Secret }

// NewIdentity returns the identity of seed, which stays the caller's.
func NewIdentity(seed *securemem.Secret) *Identity { return &Identity{seed} }

// Unwrap implements age.Identity.
func (i *Identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	defer collect()
	if key := Unwrap(i.seed, stanzas); key != nil {
		return key, nil
	}
	return nil, age.ErrIncorrectIdentity
}

// collect wipes what was allocated inside securemem.Do; it takes two rounds
// until objects that hung on others are gone as well.
func collect() {
	runtime.GC()
	runtime.GC()
}

// Recipient is the public half of an identity.
type Recipient struct {
	key  hpke.PublicKey
	text string
}

// NewRecipient computes the recipient of seed. The caller collects when it is
// done.
func NewRecipient(seed *securemem.Secret) *Recipient {
	var public []byte
	seed.Use(func(seed []byte) { public = privateKey(seed).PublicKey().Bytes() })
	// Built anew, out of what securemem.Do wipes.
	public = slices.Clone(public)
	key, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		panic("hybrid: a public key of our own is none")
	}
	return &Recipient{key, encodeText(public)}
}

// String returns the recipient as age writes it: "age1pq1…".
func (r *Recipient) String() string { return r.text }

// Wrap implements age.Recipient.
func (r *Recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := r.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels implements age.RecipientWithLabels. What it makes on the way
// is as secret as the file key: call it inside securemem.Do.
func (r *Recipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
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
