//go:build dumptest

package keyring

import (
	"crypto/sha3"
	"fmt"
)

// RawKey is one key as the dump test is told it: with every bit inverted, so
// that the list, which is on the heap, is not what the test then finds.
type RawKey struct {
	Name     string
	Inverted []byte
}

// RawKeysForTest lists every raw key: those of the ring, what Ed25519 makes of
// its seeds and X-Wing of its own, the slot key, the source key, the token keys built and the sealing keys
// ready. It exists in builds with the tag dumptest only.
func (k *Keyring) RawKeysForTest() []RawKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	var keys []RawKey
	add := func(name string, key []byte) {
		inverted := make([]byte, len(key))
		for i, b := range key {
			inverted[i] = ^b
		}
		keys = append(keys, RawKey{name, inverted})
	}
	r := k.ring.Load()
	for _, e := range r.entries {
		e.secret.Use(func(b []byte) {
			add(fmt.Sprintf("key of purpose %d, number %d", e.purpose, e.number), b)
			switch e.purpose {
			case signingKey, caKey:
				s, prefix := expandSeed(b)
				add(fmt.Sprintf("scalar of Ed25519 key %d of purpose %d", e.number, e.purpose), s.Bytes())
				add(fmt.Sprintf("prefix of Ed25519 key %d of purpose %d", e.number, e.purpose), prefix[:])
			case snapshotKey:
				// What X-Wing expands its seed to: ML-KEM's two, X25519's one.
				parts := sha3.SumSHAKE256(b, 3*keyBytes)
				for i, part := range []string{"d", "z", "x"} {
					add(fmt.Sprintf("%s of snapshot identity %d", part, e.number), parts[i*keyBytes:(i+1)*keyBytes])
				}
			}
		})
	}
	derived := func(name string, e *entry, purpose string, context ...byte) {
		_ = k.derive(e.secret, purpose, context, func(key []byte) error {
			add(name, key)
			return nil
		})
	}
	derived("slot key", r.newest(indexKey), "slot")
	derived("source key", r.newest(indexKey), "source")
	for f := range *k.tokens.Load() {
		derived(fmt.Sprintf("token key of field %d", f), r.newest(indexKey), "token", byte(f>>8), byte(f))
	}
	for e := range *k.entries.Load() {
		derived(fmt.Sprintf("key of the directory's log in epoch %d", e), r.find(dataKey, uint32(e)), entryPurpose)
	}
	for id := range *k.openings.Load() {
		epoch, n := uint32(id>>32), uint32(id)
		derived(fmt.Sprintf("sealing key %d of epoch %d", n, epoch), r.find(dataKey, epoch), "sealing",
			byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	collect()
	return keys
}
