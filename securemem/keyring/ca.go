package keyring

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
)

// CAPublicKey returns the public half of the newest cluster CA key.
func (k *Keyring) CAPublicKey() ed25519.PublicKey {
	return slices.Clone(k.ring.Load().newest(caKey).public.Key)
}

// CA returns the newest cluster CA key as a signer for crypto/x509. It signs
// node certificates and nothing else: plain Ed25519 over the message, without
// the context that [Keyring.Sign] adds, so nothing else may have this key.
func (k *Keyring) CA() crypto.Signer {
	return &caSigner{keyring: k, entry: k.ring.Load().newest(caKey)}
}

var errCAOptions = errors.New("want plain Ed25519, no hash and no context")

type caSigner struct {
	keyring *Keyring
	entry   *entry
}

// Public implements crypto.Signer: an ed25519.PublicKey.
func (s *caSigner) Public() crypto.PublicKey {
	return ed25519.PublicKey(slices.Clone(s.entry.public.Key))
}

// Sign implements crypto.Signer. It takes no randomness (RFC 8032) and about
// 60 µs. After Close it returns [ErrClosed].
func (s *caSigner) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if o, is := opts.(*ed25519.Options); opts == nil || opts.HashFunc() != 0 || is && o.Context != "" {
		return nil, fmt.Errorf("sign with the cluster CA: %w", errCAOptions)
	}
	s.keyring.mu.Lock() // Close wipes the key under it
	defer s.keyring.mu.Unlock()
	if s.keyring.closed {
		return nil, fmt.Errorf("sign with the cluster CA: %w", ErrClosed)
	}
	sig := make([]byte, SignatureBytes)
	s.entry.secret.Use(func(seed []byte) { signEd25519(sig, seed, s.entry.public.Key, message) })
	return sig, nil
}
