package dumptest

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"
)

// TestExpandKey holds the schedule to the examples of FIPS 197, appendix A.
func TestExpandKey(t *testing.T) {
	for _, tc := range []struct{ key, last string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "fe4890d1e6188d0b046df344706c631e"},
	} {
		key, err := hex.DecodeString(tc.key)
		if err != nil {
			t.Fatal(err)
		}
		enc, dec := expandKey(key)
		rounds := bigEndian(enc)
		if got := hex.EncodeToString(rounds[len(rounds)-16:]); got != tc.last {
			t.Errorf("last round key of %s: got %s, want %s", tc.key, got, tc.last)
		}
		if got := bigEndian(dec); !bytes.Equal(got[:16], rounds[len(rounds)-16:]) || !bytes.Equal(got[len(got)-16:], rounds[:16]) {
			t.Errorf("decryption schedule of %s has other ends", tc.key)
		}
	}
}

// TestKeysAreFoundInEveryForm checks the classes that AddKeys declares.
func TestKeysAreFoundInEveryForm(t *testing.T) {
	key := noise(t, 32)
	var p Patterns
	AddKeys(&p, []Key{{Name: "data key", Bytes: key}})
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	h := make([]byte, 16)
	block.Encrypt(h, h)
	enc, dec := expandKey(key)
	for class, memory := range map[string][]byte{
		"raw key":       key[11:27],
		"key in hex":    []byte(hex.EncodeToString(key)),
		"AES round key": bigEndian(enc)[32:48],
		"GHASH key":     h,
	} {
		if got := scanBytes(t, &p, memory)[class]; got.Runs != 1 {
			t.Errorf("%s: got %+v", class, got)
		}
	}
	if got := scanBytes(t, &p, bigEndian(dec)[32:48])["AES round key"]; got.Runs != 1 {
		t.Errorf("round key for decryption: got %+v", got)
	}
	if got := scanBytes(t, &p, noise(t, 4<<20)); len(got) != 0 {
		t.Errorf("found keys in noise: %v", got)
	}
}
