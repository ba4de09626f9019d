package keyring

import (
	"bufio"
	"crypto"
	"crypto/mlkem"
	"crypto/sha3"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"cloakroom/internal/dumptest"
	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
	"cloakroom/securemem/recovery"
)

// The promise: whoever dumps the process, as root, finds no key in its memory.
// A child makes a keyring, uses every call of it and waits; the parent dumps it
// and looks for every key raw, in hex, as AES and HMAC and SHA-256 make of it.

// childMode tells the test binary, run again, to be the child.
const childMode = "CLOAKROOM_KEYRING_CHILD"

func TestNoKeyInADump(t *testing.T) {
	if mode := os.Getenv(childMode); mode != "" {
		beDumped(t, mode == "leak")
		return
	}
	if testing.Short() {
		t.Skip("dumps a process twice")
	}
	if !securemem.ErasureOn() {
		t.Skip("keys are wiped from the heap only in builds with GOEXPERIMENT=runtimesecret")
	}
	if backend := newTestMemory(t).Status().Backend; backend != securemem.BackendSecretmem {
		t.Skipf("backend %s does not withstand root; secretmem does", backend)
	}
	for _, c := range []struct {
		mode string
		leak bool
	}{{"clean", false}, {"leak", true}} {
		t.Run(c.mode, func(t *testing.T) {
			found := dumptest.DumpChild(t, "keyring", "TestNoKeyInADump", childMode+"="+c.mode, func(from io.Reader) *dumptest.Patterns {
				return readKeys(t, from)
			})
			t.Logf("searched %d MiB in %d segments: %v; registers: %v", found.MemoryBytes>>20, found.Segments, found.Memory, found.Registers)
			if got := len(found.Memory) > 0; got != c.leak {
				t.Errorf("keys found: %v, want %v", got, c.leak)
			}
		})
	}
}

// readKeys reads what the child tells of its keys, up to "ready".
func readKeys(t *testing.T, from io.Reader) *dumptest.Patterns {
	t.Helper()
	patterns := new(dumptest.Patterns)
	other := patterns.Class("another form of a key", 16)
	var keys []dumptest.Key
	for lines := bufio.NewScanner(from); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		if kind == "ready" {
			if len(keys) < 20 {
				t.Fatalf("child told %d keys", len(keys))
			}
			dumptest.AddKeys(patterns, keys)
			return patterns
		}
		text, name, _ := strings.Cut(rest, " ")
		b, err := hex.DecodeString(text)
		if err != nil {
			continue // a line of the testing package
		}
		for i := range b {
			b[i] = ^b[i]
		}
		switch kind {
		case "key":
			keys = append(keys, dumptest.Key{Name: name, Bytes: b})
			patterns.Add(other, padded(b, 0x36))
			patterns.Add(other, padded(b, 0x5c))
		case "state":
			patterns.Add(other, b)
		}
	}
	t.Fatal("child ended before it was ready")
	return nil
}

func padded(key []byte, with byte) []byte {
	b := make([]byte, len(key))
	for i, c := range key {
		b[i] = c ^ with
	}
	return b
}

// leaked is where the child of the counter-test leaves a key.
var leaked []byte

// beDumped is the child: it writes its keys with all bits inverted.
func beDumped(t *testing.T, leak bool) {
	cfg := testConfig(t)
	cfg.Rand, cfg.Now = nil, nil
	k := newTestKeyring(t, cfg)
	useEverything(t, k)
	blob, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var other *Keyring
	blob.Use(func(b []byte) { other, err = Decode(cfg, b) })
	if err != nil {
		t.Fatal(err)
	}
	blob.Destroy()
	useEverything(t, other)
	other.Close()

	useFile(t, cfg, k)

	tellKeys(k)
	if leak {
		k.ring.Load().newest(dataKey).secret.Use(func(b []byte) {
			leaked = make([]byte, len(b))
			copy(leaked, b)
		})
	}
	collect()
	fmt.Println("\nready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	t.Log(len(leaked))
}

func useEverything(t *testing.T, k *Keyring) {
	var sum [32]byte
	for round := range 3 {
		if _, err := k.TokenCipher(2 + 0); err != nil {
			t.Fatal(err)
		}
		_, _, aead, err := k.Sealing(1)
		if err != nil {
			t.Fatal(err)
		}
		aead.Seal(nil, make([]byte, 12), []byte("text"), nil)
		if _, err := k.Opening(1, 77); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			k.RequestMAC(&sum, "context", []byte("part"))
			k.CredentialMAC(&sum, &[32]byte{1})
			k.SourceMAC(&sum, "context", []byte("issuer"), []byte("subject"))
		}
		for range 10 {
			k.Sign("receipt", []byte("message"))
			if _, err := k.CA().Sign(nil, []byte("certificate"), crypto.Hash(0)); err != nil {
				t.Fatal(err)
			}
		}
		useSnapshots(t, k)
		useDirectory(t, k)
		if round == 0 {
			if err := k.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// useFile has a recovery secret made, the keyring sealed to it, and opened again
// with enough shares. It tells shares, values and seed.
func useFile(t *testing.T, cfg Config, k *Keyring) {
	public, shares, err := recovery.Make(cfg.Memory, cfg.Cluster, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	file, err := k.SealFile(*public)
	if err != nil {
		t.Fatal(err)
	}
	g, err := recovery.NewGathering(recovery.Config{Memory: cfg.Memory, Cluster: cfg.Cluster, Public: *public})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, s := range shares[:2] {
		var seed *securemem.Secret
		s.Use(func(text []byte) {
			_, seed, err = g.Offer(text)
			tell("state", "share", text[len("cloakroom-share-1."):])
			var raw [46]byte
			if _, err := base64.RawURLEncoding.Decode(raw[:], text[len("cloakroom-share-1."):]); err == nil {
				tell("key", "value of a share", raw[10:42])
			}
			clear(raw[:])
		})
		if err != nil {
			t.Fatal(err)
		}
		if seed == nil {
			continue
		}
		opened, _, err := OpenFile(cfg, file, hybrid.NewIdentity(seed))
		if err != nil {
			t.Fatal(err)
		}
		useEverything(t, opened)
		opened.Close()
		seed.Use(func(b []byte) {
			tell("key", "recovery seed", b)
			tellIdentity(tell, b)
		})
		seed.Destroy()
	}
	for _, s := range shares {
		s.Destroy()
	}
}

// useDirectory seals and opens entries of the directory's log.
func useDirectory(t *testing.T, k *Keyring) {
	for range 100 {
		sealed, err := k.SealDirectory(nil, 0, 1, []byte("entry"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.OpenDirectory(nil, 0, 1, sealed); err != nil {
			t.Fatal(err)
		}
	}
}

// useSnapshots wraps and unwraps a file key, as snapshot does through age.
func useSnapshots(t *testing.T, k *Keyring) {
	epoch, recipient := k.SnapshotRecipient()
	identity, err := k.SnapshotIdentity(epoch)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		stanzas, err := recipient.Wrap(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Unwrap(stanzas); err != nil {
			t.Fatal(err)
		}
	}
}

// tell writes something secret, inverted, to stdout.
func tell(kind, name string, b []byte) {
	inverted := make([]byte, len(b))
	for i, c := range b {
		inverted[i] = ^c
	}
	fmt.Printf("\n%s %x %s\n", kind, inverted, name)
}

// tellKeys writes every key, inverted, to stdout.
func tellKeys(k *Keyring) {
	r := k.ring.Load()
	for i, e := range r.entries {
		e.secret.Use(func(b []byte) {
			tell("key", fmt.Sprintf("key %d of purpose %d", i, e.purpose), b)
			switch e.purpose {
			case signingKey, caKey:
				s, prefix := expandSeed(b)
				tell("state", "scalar", s.Bytes())
				tell("state", "prefix", prefix[:])
			case snapshotKey:
				tellIdentity(tell, b)
			}
		})
	}
	derived := func(e *entry, purpose string, context ...byte) {
		_ = k.derive(e.secret, purpose, context, func(key []byte) error {
			tell("key", purpose, key)
			return nil
		})
	}
	derived(r.newest(indexKey), "slot")
	derived(r.newest(indexKey), "source")
	derived(r.newest(indexKey), "token", 0, 2)
	for e := range *k.entries.Load() {
		derived(r.find(dataKey, uint32(e)), entryPurpose)
	}
	for id := range *k.openings.Load() {
		derived(r.find(dataKey, uint32(id>>32)), "sealing", 0, 0, 0, byte(id))
	}
	for _, m := range []*mac{k.request, k.creds, k.source} {
		m.lanes[0].state.Use(func(b []byte) {
			// The struct (96 bytes), two hashes (120 each) and two saved states
			// (112 each) lie behind the scratch; a hash begins with its eight
			// words, a saved state with four bytes and the same, big-endian.
			for _, at := range []int{96, 216, 336 + 4, 448 + 4} {
				tell("state", "hash state", b[macScratch+at:macScratch+at+32])
			}
		})
	}
}

// tellIdentity tells what a seed of X-Wing (draft-connolly-cfrg-xwing-kem) is
// expanded to: the two seeds of ML-KEM-768 (FIPS 203), the secret vector they
// make, whose numbers the library keeps in two bytes each, and the scalar of
// X25519.
func tellIdentity(tell func(kind, name string, b []byte), seed []byte) {
	parts := sha3.SumSHAKE256(seed, 96)
	tell("key", "ML-KEM d", parts[:32])
	tell("key", "ML-KEM z", parts[32:64])
	tell("key", "X25519", parts[64:])
	key, err := mlkem.NewDecapsulationKey768(parts[:64])
	if err != nil {
		panic(err)
	}
	vector := reflect.ValueOf(key).Elem().FieldByName("key").Elem().FieldByName("s")
	var b []byte
	for i := range vector.Len() {
		for j := range vector.Index(i).Len() {
			b = binary.NativeEndian.AppendUint16(b, uint16(vector.Index(i).Index(j).Uint()))
		}
	}
	tell("state", "ML-KEM s", b)
}
