package record

import (
	"bytes"
	"errors"
	"testing"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
)

var testCluster = [16]byte{0xc1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// countingReader stands in for crypto/rand where golden files need the same
// bytes each time.
type countingReader struct{ n byte }

func (r *countingReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.n
		r.n++
	}
	return len(b), nil
}

// newTestRoom returns a room and its keyring; with golden, both make the same
// keys and nonces each time.
func newTestRoom(t testing.TB, golden bool) (*Room, *keyring.Keyring) {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	number := cloakroom.SealingNumber(6)
	kcfg := keyring.Config{Memory: mem, Cluster: testCluster, NextSealingNumber: func() (cloakroom.SealingNumber, error) {
		number++
		return number, nil
	}}
	cfg := Config{Memory: mem, Cluster: testCluster}
	if golden {
		kcfg.Rand = &countingReader{}
		cfg.Rand = &countingReader{n: 0xa0}
	}
	keys, err := keyring.New(kcfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	cfg.Keyring = keys
	room, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(room.Close)
	return room, keys
}

func TestSealThenOpen(t *testing.T) {
	room, _ := newTestRoom(t, false)
	tok := cloakroom.Token{1, 2, 3}
	for _, n := range []int{0, 1, 13, 14, 15, 29, 30, 31, 62, 63, 1021, 1022, 1023, MaxValueBytes} {
		value := bytes.Repeat([]byte{'x'}, n)
		rec, err := room.Seal([]byte("before"), tok, 2, 7, 0, false, value)
		if err != nil {
			t.Fatal(err)
		}
		rec = rec[len("before"):]
		if len(rec) != SealedSize(n, 0, false) {
			t.Errorf("%d bytes: record has %d bytes, SealedSize says %d", n, len(rec), SealedSize(n, 0, false))
		}
		got, h, err := room.Open(make([]byte, 0, len(rec)), tok, 2, rec)
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%d bytes: Open = %d bytes, %v", n, len(got), err)
		}
		if h.Domain != 7 || h.Expiry != 0 || h.Epoch != 1 {
			t.Errorf("%d bytes: header = %+v", n, h)
		}
	}
	if _, err := room.Seal(nil, tok, 2, 0, 0, false, make([]byte, MaxValueBytes+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("a longer value: %v, want ErrTooLarge", err)
	}
}

func TestOneNameTakes69Bytes(t *testing.T) {
	if got, want := SealedSize(25, 0, false), 69; got != want {
		t.Errorf("record of a 25-byte name has %d bytes, want %d", got, want)
	}
}
