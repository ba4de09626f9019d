//go:build dumptest

package keyring

import (
	"bytes"
	"testing"
)

// The list must hold every key that the dump test in this room looks for: seven
// of the ring, two of Ed25519 for each of two, three of X-Wing, and what was
// derived.
func TestRawKeysForTest(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	if _, err := k.TokenCipher(2); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := k.Sealing(1); err != nil {
		t.Fatal(err)
	}
	keys := k.RawKeysForTest()
	if len(keys) != 7+2*2+3+2+1+1 {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	want := countedKey(0x00) // the index key
	for i := range want {
		want[i] = ^want[i]
	}
	if !bytes.Equal(keys[0].Inverted, want) {
		t.Errorf("first key: got %x, want %x", keys[0].Inverted, want)
	}
	seen := make(map[string]bool)
	for _, key := range keys {
		if len(key.Inverted) != 32 || seen[string(key.Inverted)] {
			t.Errorf("%s: %d bytes, or the same as another", key.Name, len(key.Inverted))
		}
		seen[string(key.Inverted)] = true
	}
}
