package keyring

import (
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"sync/atomic"

	"cloakroom"
	"cloakroom/securemem"
)

// ciphers and openers are immutable maps behind atomic pointers: a reader
// never waits, a writer (rare: a new field, a new sealing key) copies the map.
type (
	ciphers map[cloakroom.FieldNumber]*securemem.Block
	openers map[uint64]*opener
)

// opener is a sealing key ready to open with.
type opener struct {
	aead *securemem.AEAD
	used atomic.Bool // since the last round of evict; see there
}

// SlotCipher is AES-256 under the slot key.
func (k *Keyring) SlotCipher() *securemem.Block { return k.slot }

// TokenCipher is AES-256 under the token key of a field. The first call for a
// field derives the key and takes milliseconds; later ones take no lock.
func (k *Keyring) TokenCipher(f cloakroom.FieldNumber) (*securemem.Block, error) {
	if b := (*k.tokens.Load())[f]; b != nil {
		return b, nil
	}
	b, err := k.buildTokenCipher(f)
	if err != nil {
		return nil, fmt.Errorf("token cipher of field %d: %w", f, err)
	}
	return b, nil
}

func (k *Keyring) buildTokenCipher(f cloakroom.FieldNumber) (block *securemem.Block, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrClosed
	}
	old := *k.tokens.Load()
	if b := old[f]; b != nil {
		return b, nil
	}
	if len(old) >= maxTokenCiphers {
		return nil, cloakroom.ErrMemoryFull
	}
	defer collect()
	index := k.ring.Load().newest(indexKey).secret
	err = k.derive(index, "token", binary.BigEndian.AppendUint16(nil, uint16(f)), func(key []byte) (err error) {
		block, err = k.cfg.Memory.NewBlock(key)
		return err
	})
	if err != nil {
		return nil, err
	}
	next := maps.Clone(old)
	next[f] = block
	k.tokens.Store(&next)
	return block, nil
}

// Opening returns the cipher that opens messages sealed under an epoch and a
// sealing number, or [ErrUnknownKey]. It takes no lock when the cipher was
// used lately; otherwise it derives it, which takes milliseconds.
//
// The cipher stays usable as long as the caller refers to it
// (runtime.KeepAlive after the last use), even if the keyring drops it.
func (k *Keyring) Opening(e cloakroom.Epoch, n cloakroom.SealingNumber) (*securemem.AEAD, error) {
	if o := (*k.openings.Load())[sealingID(e, n)]; o != nil {
		if !o.used.Load() { // a shared line is written to once a round only
			o.used.Store(true)
		}
		return o.aead, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a, err := k.buildSealingKey(e, n)
	if err != nil {
		return nil, fmt.Errorf("open under epoch %d, number %d: %w", e, n, err)
	}
	return a, nil
}

func sealingID(e cloakroom.Epoch, n cloakroom.SealingNumber) uint64 {
	return uint64(e)<<32 | uint64(n)
}

// buildSealingKey derives a sealing key and adds it to the openers, unless it
// is among them. k.mu is held.
func (k *Keyring) buildSealingKey(e cloakroom.Epoch, n cloakroom.SealingNumber) (aead *securemem.AEAD, err error) {
	if k.closed {
		return nil, ErrClosed
	}
	old := *k.openings.Load()
	if o := old[sealingID(e, n)]; o != nil {
		return o.aead, nil
	}
	parent := k.ring.Load().find(dataKey, uint32(e))
	if parent == nil {
		return nil, ErrUnknownKey
	}
	next := maps.Clone(old)
	if len(next) >= k.cfg.maxOpenings {
		k.evict(next)
	}
	defer collect()
	err = k.derive(parent.secret, "sealing", binary.BigEndian.AppendUint32(nil, uint32(n)), func(key []byte) (err error) {
		aead, err = k.cfg.Memory.NewAEAD(key)
		return err
	})
	if err != nil {
		return nil, err
	}
	next[sealingID(e, n)] = &opener{aead: aead}
	k.openings.Store(&next)
	return aead, nil
}

// evict drops one opener that was not used since the last round, or any if all
// were. A reader may hold its cipher this moment, and readers count nothing;
// so the collector, who knows when the last of them let go, destroys it.
func (k *Keyring) evict(from openers) {
	current := k.sealing.Load()
	var victim uint64
	for id, o := range from {
		if current != nil && o.aead == current.aead {
			continue
		}
		victim = id
		if !o.used.Load() {
			break
		}
		o.used.Store(false)
	}
	runtime.SetFinalizer(from[victim].aead, k.reap)
	delete(from, victim)
}

// reap destroys a dropped cipher, unless the keyring was closed: then its
// memory may be gone, and was wiped before.
func (k *Keyring) reap(a *securemem.AEAD) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		a.Destroy()
	}
}
