package securemem

import (
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// NonceXBytes is the length of an XChaCha20-Poly1305 nonce: long enough to be
// drawn at random for as long as a key lives.
const NonceXBytes = chacha20poly1305.NonceSizeX

// NewXAEAD returns XChaCha20-Poly1305 under key (32 bytes), made and kept like
// what [Memory.NewAEAD] returns, with nonces of [NonceXBytes]. It is for few
// messages under a key that nobody counts the messages of.
func (m *Memory) NewXAEAD(key []byte) (a *AEAD, err error) {
	Do(func() { a, err = m.newXAEAD(key) })
	if err != nil {
		return nil, fmt.Errorf("new xaead: %w", err)
	}
	return a, nil
}

func (m *Memory) newXAEAD(key []byte) (*AEAD, error) {
	if len(key) != KeyBytes {
		return nil, errKeyLength
	}
	original, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	defer wipeState(original)
	return m.moveAEAD(original)
}
