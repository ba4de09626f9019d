//go:build dumptest

package keyring

import (
	"encoding/hex"
	"fmt"
)

// RawKeysForTest returns every raw key in hex, by name: those of the ring and
// the derived ones, the token keys of the fields below and the sealing keys in
// use. It exists in builds with the tag dumptest only, so that the dump test
// knows what to look for. Hex because raw copies on the heap would be found.
func (k *Keyring) RawKeysForTest() map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := make(map[string]string)
	r := k.ring.Load()
	for _, e := range r.entries {
		e.secret.Use(func(b []byte) {
			keys[fmt.Sprintf("key of purpose %d, number %d", e.purpose, e.number)] = hex.EncodeToString(b)
		})
		if e.purpose == signingKey {
			e.secret.Use(func(b []byte) {
				s, prefix := expandSeed(b)
				keys[fmt.Sprintf("scalar of signing key %d", e.number)] = hex.EncodeToString(s.Bytes())
				keys[fmt.Sprintf("prefix of signing key %d", e.number)] = hex.EncodeToString(prefix[:])
			})
		}
	}
	derived := func(name string, e *entry, purpose string, context []byte) {
		_ = k.derive(e.secret, purpose, context, func(key []byte) error {
			keys[name] = hex.EncodeToString(key)
			return nil
		})
	}
	derived("slot key", r.newest(indexKey), "slot", nil)
	for f := range *k.tokens.Load() {
		derived(fmt.Sprintf("token key of field %d", f), r.newest(indexKey), "token", []byte{byte(f >> 8), byte(f)})
	}
	for id := range *k.openings.Load() {
		n := uint32(id)
		derived(fmt.Sprintf("sealing key %d of epoch %d", n, id>>32), r.find(dataKey, uint32(id>>32)), "sealing",
			[]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	collect()
	return keys
}
