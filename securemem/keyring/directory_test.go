package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"cloakroom"
	"cloakroom/securemem"
)

const entryGolden = "testdata/entry-1.hex"

// goldenEntry is an entry of group 0, generation 3.
var goldenEntry = []byte("an entry of the directory's log")

// sealGolden seals it under the keys 00…, with the nonce e0….
func sealGolden(t testing.TB) (*Keyring, []byte) {
	k := newTestKeyring(t, testConfig(t))
	sealed, err := k.SealDirectory([]byte("dst"), 0, 3, goldenEntry)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sealed, []byte("dst")) {
		t.Fatalf("%q does not begin with what was there", sealed[:3])
	}
	return k, sealed[3:]
}

func TestDirectoryEntryFormat1(t *testing.T) {
	k, sealed := sealGolden(t)
	if *update {
		if err := os.WriteFile(entryGolden, []byte(hexLines(sealed)), 0o644); err != nil {
			t.Fatal(err)
		}
		writeSeed(t, "FuzzOpenDirectory", "golden", sealed)
		writeSeed(t, "FuzzOpenDirectory", "cut", sealed[:100])
		writeSeed(t, "FuzzOpenDirectory", "other-epoch", append([]byte{1, 0, 9}, sealed[3:]...))
	}
	if want := readHex(t, entryGolden); !bytes.Equal(sealed, want) {
		t.Errorf("the format changed:\n got %x\nwant %x", sealed, want)
	}
	opened, err := k.OpenDirectory([]byte("dst"), 0, 3, sealed)
	if err != nil || string(opened) != "dst"+string(goldenEntry) {
		t.Errorf("OpenDirectory = %q, %v", opened, err)
	}
}

// The same by hand, with the libraries alone.
func TestDirectoryEntryIsXChaCha20Poly1305(t *testing.T) {
	_, sealed := sealGolden(t)
	data := make([]byte, 32)
	for i := range data {
		data[i] = byte(32 + i)
	}
	key, err := hkdf.Key(sha256.New, data, testCluster[:], "cloakroom/v1/directory-log\x00", 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	ad := append([]byte("cloakroom/v1/directory-log\x00"), sealed[:3]...)
	ad = append(ad, testCluster[:]...)
	ad = append(ad, 0, 0, 0, 0, 0, 0, 0, 3)
	plain, err := aead.Open(nil, sealed[3:27], sealed[27:], ad)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint32(plain); len(plain) != 256 || !bytes.Equal(plain[4:4+n], goldenEntry) || !allZero(plain[4+n:]) {
		t.Errorf("plaintext is %q", plain)
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func TestDirectoryEntryRefuses(t *testing.T) {
	k, sealed := sealGolden(t)
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if _, err := k.OpenDirectory(nil, 0, 3, bad); !errors.Is(err, ErrDirectoryEntry) && !errors.Is(err, ErrUnknownKey) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range len(sealed) {
		if _, err := k.OpenDirectory(nil, 0, 3, sealed[:n]); !errors.Is(err, ErrDirectoryEntry) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for name, at := range map[string][2]uint32{"group": {1, 3}, "generation": {0, 4}} {
		if dst, err := k.OpenDirectory([]byte("x"), at[0], at[1], sealed); !errors.Is(err, ErrDirectoryEntry) || string(dst) != "x" {
			t.Errorf("other %s: %q, %v", name, dst, err)
		}
	}
	cfg := testConfig(t)
	cfg.Cluster[0] ^= 1
	if _, err := newTestKeyring(t, cfg).OpenDirectory(nil, 0, 3, sealed); !errors.Is(err, ErrDirectoryEntry) {
		t.Errorf("other cluster: %v", err)
	}
	if _, err := k.SealDirectory(nil, 0, 3, make([]byte, cloakroom.MaxEntryBytes+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	k.Close()
	if _, err := k.SealDirectory(nil, 0, 3, goldenEntry); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Entries of all lengths about the padding come back; those of one class are of
// one length.
func TestDirectoryEntryPadding(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	for n, want := range map[int]int{0: 256, 1: 256, 252: 256, 253: 512, 508: 512, 509: 768, cloakroom.MaxEntryBytes: cloakroom.MaxEntryBytes + 256} {
		entry := bytes.Repeat([]byte{7}, n)
		sealed, err := k.SealDirectory(nil, 1, 1, entry)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(sealed) - 27 - 16; got != want {
			t.Errorf("%d bytes are %d sealed, want %d", n, got, want)
		}
		if back, err := k.OpenDirectory(nil, 1, 1, sealed); err != nil || !bytes.Equal(back, entry) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// The directory's log outlives epochs: what was sealed before a rotation opens
// after it, also in the keyring that another node decodes.
func TestDirectoryEntriesOfOldEpochsOpen(t *testing.T) {
	cfg := testConfig(t)
	k := newTestKeyring(t, cfg)
	old, err := k.SealDirectory(nil, 0, 1, []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	recent, err := k.SealDirectory(nil, 0, 1, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if old[2] != 1 || recent[2] != 2 {
		t.Errorf("epochs are %d and %d, want 1 and 2", old[2], recent[2])
	}
	other, err := Decode(cfg, encoded(t, k))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, holder := range []*Keyring{k, other} {
		for want, sealed := range map[string][]byte{"old": old, "new": recent} {
			if got, err := holder.OpenDirectory(nil, 0, 1, sealed); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %s", got, err, want)
			}
		}
	}
	first := newTestKeyring(t, testConfig(t)) // never rotated
	if _, err := first.OpenDirectory(nil, 0, 1, recent); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("epoch of the future: %v", err)
	}
}

// What XChaCha20 derives for each message stays on the stack, which is wiped.
func TestDirectoryCipherAllocatesNothing(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	sealed, err := k.SealDirectory(nil, 0, 1, goldenEntry)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := k.directoryCipher(1)
	if err != nil {
		t.Fatal(err)
	}
	nonce, room := make([]byte, securemem.NonceXBytes), make([]byte, 0, 1<<10)
	if n := testing.AllocsPerRun(100, func() { aead.Seal(room, nonce, sealed, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzOpenDirectory(f *testing.F) {
	k, _ := sealGolden(f)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		opened, err := k.OpenDirectory(nil, 0, 3, sealed)
		if err == nil && len(opened) > cloakroom.MaxEntryBytes {
			t.Errorf("opened %d bytes", len(opened))
		}
	})
}

func writeSeed(t testing.TB, target, name string, data []byte) {
	t.Helper()
	path := filepath.Join("testdata", "fuzz", target, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, seedText(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func seedText(data []byte) []byte { return fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data) }
