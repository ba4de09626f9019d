package keyring

import (
	"bytes"
	"errors"
	"testing"
)

// What the decoder accepts encodes to the same bytes, and nothing makes it
// panic.
func FuzzDecode(f *testing.F) {
	f.Add(readHex(f, "testdata/keyring-1.version-1.hex"))
	f.Add(readHex(f, "testdata/keyring-1.version-2.hex"))
	f.Add([]byte("ckrg\x01"))
	cfg, err := testConfig(f).normal()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		r, err := decodeRing(cfg, blob)
		if err != nil {
			if !errors.Is(err, ErrBlob) {
				t.Fatalf("decode: %v, want ErrBlob", err)
			}
			return
		}
		defer r.destroy()
		again, err := r.encode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Destroy()
		again.Use(func(b []byte) {
			if !bytes.Equal(b, blob) {
				t.Errorf("%x encodes to %x", blob, b)
			}
		})
	})
}
