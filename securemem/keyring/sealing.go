package keyring

import (
	"errors"
	"fmt"
	"sync/atomic"

	"cloakroom"
	"cloakroom/securemem"
)

// sealing is the key that messages are sealed under at the moment.
type sealing struct {
	epoch  cloakroom.Epoch
	number cloakroom.SealingNumber
	aead   *securemem.AEAD
	seals  atomic.Uint64 // reserved so far, never lowered
}

var errReusedNumber = errors.New("sealing number was handed out twice")

// Sealing reserves n seals under the current sealing key and returns the key,
// so that the caller seals at most n messages with it. It takes no lock, except
// that the first call and those after each 2^31 seals and each rotation take a
// sealing number from the directory and derive the key.
func (k *Keyring) Sealing(n int) (cloakroom.Epoch, cloakroom.SealingNumber, *securemem.AEAD, error) {
	if n < 1 || uint64(n) > k.cfg.maxSeals {
		return 0, 0, nil, fmt.Errorf("reserve %d seals: want 1 to %d", n, k.cfg.maxSeals)
	}
	if s := k.sealing.Load(); s.reserve(n, k.cfg.maxSeals) {
		return s.epoch, s.number, s.aead, nil
	}
	s, err := k.nextSealing(n)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("take a sealing key: %w", err)
	}
	return s.epoch, s.number, s.aead, nil
}

// reserve reports whether n more seals are within the limit. What it refuses
// stays counted: nobody seals under this key again.
func (s *sealing) reserve(n int, limit uint64) bool {
	return s != nil && s.seals.Add(uint64(n)) <= limit
}

// nextSealing replaces the current sealing key, unless somebody else has.
func (k *Keyring) nextSealing(n int) (*sealing, error) {
	k.taking.Lock()
	defer k.taking.Unlock()
	old := k.sealing.Load()
	if old.reserve(n, k.cfg.maxSeals) {
		return old, nil
	}
	number, err := k.cfg.NextSealingNumber()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	epoch := cloakroom.Epoch(k.ring.Load().newest(dataKey).number)
	if old != nil && old.epoch == epoch && old.number == number {
		return nil, errReusedNumber
	}
	aead, err := k.buildSealingKey(epoch, number)
	if err != nil {
		return nil, err
	}
	s := &sealing{epoch: epoch, number: number, aead: aead}
	s.seals.Store(uint64(n))
	k.sealing.Store(s)
	return s, nil
}
