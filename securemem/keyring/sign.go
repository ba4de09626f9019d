package keyring

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"slices"
	"time"

	"filippo.io/edwards25519"
)

// Signatures are Ed25519 (RFC 8032) over
//
//	"cloakroom/v1/" ‖ context ‖ 0x00 ‖ message
//
// so that a receipt can never pass for a checkpoint; context holds no zero.
// It is plain Ed25519 and not Ed25519ctx, because browsers verify only that.
//
// The standard library verifies, but does not sign: its Sign keeps the
// expanded private key on the heap, in a cache that lives as long as the key's
// first byte, and throws when that byte is not on the heap. With the curve
// arithmetic of the same authors all of the private key stays in guarded
// memory and on the stack, which securemem.Do wipes. Tests hold both to the
// same bytes.

// PublicKey is the public half of a signing key, as /v1/keys serves it.
type PublicKey struct {
	ID        string // 16 hex digits of SHA-256 of Key
	Algorithm string // "Ed25519"
	Key       []byte // 32 bytes
	NotBefore time.Time
}

// SignatureBytes is the length of a signature.
const SignatureBytes = ed25519.SignatureSize

// Sign signs message under the newest signing key. context names the kind of
// message and is a constant of the calling room. It takes about 60 µs.
func (k *Keyring) Sign(context string, message []byte) []byte {
	return k.ring.Load().newest(signingKey).sign(context, message)
}

func (e *entry) sign(context string, message []byte) []byte {
	signed := signedBytes(context, message)
	sig := make([]byte, SignatureBytes)
	e.secret.Use(func(seed []byte) { signEd25519(sig, seed, e.public.Key, signed) })
	return sig
}

// SignNamed is [Keyring.Sign] for formats that name the key: id is that of
// [KeyID].
func (k *Keyring) SignNamed(context string, message []byte) (id [8]byte, sig []byte) {
	e := k.ring.Load().newest(signingKey)
	return KeyID(e.public.Key), e.sign(context, message)
}

// VerifyNamed reports whether sig is a signature of message in context under
// the signing key of that id, which must be one of this keyring's.
func (k *Keyring) VerifyNamed(id [8]byte, context string, message, sig []byte) bool {
	for _, e := range k.ring.Load().entries {
		if e.purpose == signingKey && KeyID(e.public.Key) == id {
			return Verify(e.public.Key, context, message, sig)
		}
	}
	return false
}

// KeyID is the id of a public key, the first bytes of its SHA-256;
// [PublicKey.ID] is the same in hex.
func KeyID(public []byte) [8]byte {
	sum := sha256.Sum256(public)
	return [8]byte(sum[:])
}

// PublicKeys returns the public signing keys, oldest first.
func (k *Keyring) PublicKeys() []PublicKey {
	var keys []PublicKey
	for _, e := range k.ring.Load().entries {
		if e.purpose == signingKey {
			p := e.public
			p.Key = slices.Clone(p.Key)
			keys = append(keys, p)
		}
	}
	return keys
}

// Verify reports whether sig is a signature of message in context under key
// (32 bytes).
func Verify(key []byte, context string, message, sig []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signedBytes(context, message), sig)
}

func signedBytes(context string, message []byte) []byte {
	b := make([]byte, 0, len(infoPrefix)+len(context)+1+len(message))
	b = append(append(b, infoPrefix...), context...)
	return append(append(b, 0), message...)
}

// publicKey computes the public half of a signing key.
func publicKey(e *entry) PublicKey {
	p := PublicKey{Algorithm: "Ed25519", NotBefore: time.Unix(e.created, 0).UTC()}
	e.secret.Use(func(seed []byte) {
		s, _ := expandSeed(seed)
		p.Key = new(edwards25519.Point).ScalarBaseMult(&s).Bytes()
	})
	p.Key = slices.Clone(p.Key) // out of what securemem.Do wipes
	id := KeyID(p.Key)
	p.ID = hex.EncodeToString(id[:])
	return p
}

// expandSeed returns the scalar and the prefix of RFC 8032, section 5.1.5.
func expandSeed(seed []byte) (s edwards25519.Scalar, prefix [32]byte) {
	h := sha512.Sum512(seed)
	if _, err := s.SetBytesWithClamping(h[:32]); err != nil {
		panic("keyring: a scalar has another length than 32 bytes")
	}
	copy(prefix[:], h[32:])
	return s, prefix
}

// signEd25519 writes the signature of message to sig: RFC 8032, section 5.1.6.
func signEd25519(sig, seed, public, message []byte) {
	s, prefix := expandSeed(seed)

	nonce := sha512.New()
	nonce.Write(prefix[:])
	nonce.Write(message)
	r := hashScalar(nonce.Sum(make([]byte, 0, sha512.Size)))
	commitment := new(edwards25519.Point).ScalarBaseMult(&r).Bytes()

	challenge := sha512.New()
	challenge.Write(commitment)
	challenge.Write(public)
	challenge.Write(message)
	c := hashScalar(challenge.Sum(make([]byte, 0, sha512.Size)))

	var response edwards25519.Scalar
	response.MultiplyAdd(&c, &s, &r)
	copy(sig[:32], commitment)
	copy(sig[32:], response.Bytes())
}

// hashScalar reduces a SHA-512 sum modulo the group order.
func hashScalar(sum []byte) (s edwards25519.Scalar) {
	if _, err := s.SetUniformBytes(sum); err != nil {
		panic("keyring: a hash has another length than 64 bytes")
	}
	return s
}
