package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testCluster = [16]byte{0xc1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// countingReader makes the same keys each time: 00 01 02 ….
type countingReader struct{ n byte }

func (r *countingReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.n
		r.n++
	}
	return len(b), nil
}

func newTestMemory(t testing.TB) *securemem.Memory {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return mem
}

// testConfig has the clock and the keys of the golden file.
func testConfig(t testing.TB) Config {
	t.Helper()
	var number cloakroom.SealingNumber
	return Config{
		Memory:  newTestMemory(t),
		Cluster: testCluster,
		Rand:    &countingReader{},
		Now:     func() time.Time { return time.Unix(1_800_000_000, 0) },
		NextSealingNumber: func() (cloakroom.SealingNumber, error) {
			number++
			return number, nil
		},
	}
}

func newTestKeyring(t testing.TB, cfg Config) *Keyring {
	t.Helper()
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func encoded(t testing.TB, k *Keyring) (blob []byte) {
	t.Helper()
	s, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destroy()
	s.Use(func(b []byte) { blob = bytes.Clone(b) })
	return blob
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := New(Config{})
	if err == nil {
		t.Fatal("New of nothing succeeded")
	}
	for _, want := range []string{"memory", "cluster id", "sealing numbers"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %q, does not mention %s", err, want)
		}
	}
}

// The first key made is 00…1f, the index key; the second 20…3f, the data key of
// epoch 1. What hangs on them is computed here anew with the standard library.
func TestDerivationsAreHKDF(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	index, data := make([]byte, 32), make([]byte, 32)
	for i := range index {
		index[i], data[i] = byte(i), byte(32+i)
	}
	derive := func(parent []byte, info string) cipher.Block {
		key, err := hkdf.Key(sha256.New, parent, testCluster[:], info, 32)
		if err != nil {
			t.Fatal(err)
		}
		b, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var got, want [16]byte
	in := []byte("sixteen bytes in")

	k.SlotCipher().Encrypt(got[:], in)
	derive(index, "cloakroom/v1/slot\x00").Encrypt(want[:], in)
	if got != want {
		t.Errorf("slot cipher: got %x, want %x", got, want)
	}
	token, err := k.TokenCipher(0x0203)
	if err != nil {
		t.Fatal(err)
	}
	token.Encrypt(got[:], in)
	derive(index, "cloakroom/v1/token\x00\x02\x03").Encrypt(want[:], in)
	if got != want {
		t.Errorf("token cipher: got %x, want %x", got, want)
	}
	epoch, number, aead, err := k.Sealing(1)
	if err != nil || epoch != 1 || number != 1 {
		t.Fatalf("Sealing = %d, %d, %v", epoch, number, err)
	}
	gcm, err := cipher.NewGCM(derive(data, "cloakroom/v1/sealing\x00\x00\x00\x00\x01"))
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	if got, want := aead.Seal(nil, nonce, in, nil), gcm.Seal(nil, nonce, in, nil); !bytes.Equal(got, want) {
		t.Errorf("sealing key: got %x, want %x", got, want)
	}
}

func TestTokenCipherIsBuiltOnce(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	var wg sync.WaitGroup
	var got [8]*securemem.Block
	for i := range got {
		wg.Go(func() { got[i], _ = k.TokenCipher(5) })
	}
	wg.Wait()
	for i, b := range got {
		if b == nil || b != got[0] {
			t.Fatalf("caller %d got another cipher", i)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = k.TokenCipher(5) }); n != 0 {
		t.Errorf("a cached cipher costs %v allocations", n)
	}
	for f := range cloakroom.FieldNumber(maxTokenCiphers - 1) {
		if _, err := k.TokenCipher(100 + f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.TokenCipher(1000); !errors.Is(err, cloakroom.ErrMemoryFull) {
		t.Errorf("one field more: %v, want ErrMemoryFull", err)
	}
}

func TestSealingTakesTheNextNumberWhenUsedUp(t *testing.T) {
	cfg := testConfig(t)
	cfg.maxSeals = 10
	k := newTestKeyring(t, cfg)
	for _, c := range []struct {
		n    int
		want cloakroom.SealingNumber
	}{{4, 1}, {6, 1}, {1, 2}, {9, 2}, {3, 3}, {8, 4}} {
		_, number, aead, err := k.Sealing(c.n)
		if err != nil || number != c.want {
			t.Fatalf("Sealing(%d) = number %d, %v, want %d", c.n, number, err, c.want)
		}
		if opening, err := k.Opening(1, number); err != nil || opening != aead {
			t.Fatalf("Opening(1, %d) = another cipher, %v", number, err)
		}
	}
	for _, n := range []int{0, -1, 11} {
		if _, _, _, err := k.Sealing(n); err == nil {
			t.Errorf("Sealing(%d) succeeded", n)
		}
	}
}

func TestSealingRefusesAReusedNumber(t *testing.T) {
	cfg := testConfig(t)
	cfg.maxSeals = 1
	cfg.NextSealingNumber = func() (cloakroom.SealingNumber, error) { return 7, nil }
	k := newTestKeyring(t, cfg)
	if _, _, _, err := k.Sealing(1); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := k.Sealing(1); !errors.Is(err, errReusedNumber) {
		t.Errorf("Sealing under the same number = %v, want errReusedNumber", err)
	}
}

// The directory may have to open its own entries before it can answer.
func TestOpeningGoesOnWhileANumberIsTaken(t *testing.T) {
	cfg := testConfig(t)
	var k *Keyring
	cfg.NextSealingNumber = func() (cloakroom.SealingNumber, error) {
		_, err := k.Opening(1, 50)
		return 51, err
	}
	k = newTestKeyring(t, cfg)
	if _, number, _, err := k.Sealing(1); err != nil || number != 51 {
		t.Errorf("Sealing = %d, %v", number, err)
	}
}

func TestSealingPassesOnTheDirectorysError(t *testing.T) {
	cfg := testConfig(t)
	down := errors.New("directory is down")
	failing := true
	cfg.NextSealingNumber = func() (cloakroom.SealingNumber, error) {
		if failing {
			return 0, down
		}
		return 3, nil
	}
	k := newTestKeyring(t, cfg)
	if _, _, _, err := k.Sealing(1); !errors.Is(err, down) {
		t.Fatalf("Sealing = %v, want the directory's error", err)
	}
	failing = false
	if _, number, _, err := k.Sealing(1); err != nil || number != 3 {
		t.Errorf("Sealing after the failure = %d, %v", number, err)
	}
}

func TestRotateChainsVersionsAndKeepsOldKeys(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	_, number, old, err := k.Sealing(1)
	if err != nil {
		t.Fatal(err)
	}
	sealed := old.Seal(nil, make([]byte, 12), []byte("sealed before"), nil)
	before := k.Hash()
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	if k.Version() != 2 || k.Hash() == before {
		t.Fatalf("version %d with the same hash: %v", k.Version(), k.Hash() == before)
	}
	blob := encoded(t, k)
	if [32]byte(blob[13:45]) != before {
		t.Error("version 2 does not hold the hash of version 1")
	}
	if sha256.Sum256(blob) != k.Hash() {
		t.Error("Hash is not SHA-256 of the blob")
	}
	if epoch, _, _, err := k.Sealing(1); err != nil || epoch != 2 {
		t.Errorf("Sealing after Rotate = epoch %d, %v, want 2", epoch, err)
	}
	a, err := k.Opening(1, number)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Open(nil, make([]byte, 12), sealed, nil); err != nil || string(got) != "sealed before" {
		t.Errorf("Open under the old epoch = %q, %v", got, err)
	}
	for _, e := range []cloakroom.Epoch{0, 3} {
		if _, err := k.Opening(e, 1); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("Opening(epoch %d) = %v, want ErrUnknownKey", e, err)
		}
	}
}

// A reader may use a cipher while the keyring drops it for others.
func TestEvictedCipherWorksUntilItsReaderLetsGo(t *testing.T) {
	cfg := testConfig(t)
	cfg.maxOpenings = 2
	k := newTestKeyring(t, cfg)
	held, err := k.Opening(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	sealed := held.Seal(nil, nonce, []byte("text"), nil)
	for n := range cloakroom.SealingNumber(20) { // each ends with two collections
		if _, err := k.Opening(1, n); err != nil {
			t.Fatal(err)
		}
		if got, err := held.Open(nil, nonce, sealed, nil); err != nil || string(got) != "text" {
			t.Fatalf("after %d others: %q, %v", n, got, err)
		}
	}
	if n := len(*k.openings.Load()); n != 2 {
		t.Errorf("%d ciphers are ready, want 2", n)
	}
	again, err := k.Opening(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	if again == held {
		t.Error("the cipher was not dropped: the test shows nothing")
	}
	if got, err := again.Open(nil, nonce, sealed, nil); err != nil || string(got) != "text" {
		t.Errorf("derived anew: %q, %v", got, err)
	}
	runtime.KeepAlive(held)
}

// Without reaping, the ciphers would not fit what is left of the key region.
func TestEvictedCiphersAreReaped(t *testing.T) {
	cfg := testConfig(t)
	cfg.maxOpenings = 2
	k := newTestKeyring(t, cfg)
	const room = 16 << 10
	leaveRoom(t, cfg.Memory, room)
	for n := range cloakroom.SealingNumber(room/768 + 10) {
		if _, err := k.Opening(1, n); err != nil {
			t.Fatalf("cipher %d: %v", n, err)
		}
	}
}

// leaveRoom takes all of the key region but room bytes until the test ends.
func leaveRoom(t *testing.T, mem *securemem.Memory, room int) {
	t.Helper()
	reserve, err := mem.NewSecret(room)
	if err != nil {
		t.Fatal(err)
	}
	for size := securemem.MaxSecret; size >= 64; { // large pieces first
		s, err := mem.NewSecret(size)
		if err != nil {
			size /= 2
			continue
		}
		t.Cleanup(s.Destroy)
	}
	reserve.Destroy()
}

func TestOpeningHitDoesNotAllocate(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	if _, err := k.Opening(1, 1); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = k.Opening(1, 1) }); n != 0 {
		t.Errorf("a hit costs %v allocations", n)
	}
}

func TestClosedKeyringRefuses(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	k.Close()
	k.Close()
	if _, err := k.TokenCipher(9); !errors.Is(err, ErrClosed) {
		t.Errorf("TokenCipher = %v, want ErrClosed", err)
	}
	if _, err := k.Opening(1, 9); !errors.Is(err, ErrClosed) {
		t.Errorf("Opening = %v, want ErrClosed", err)
	}
	if _, _, _, err := k.Sealing(1); !errors.Is(err, ErrClosed) {
		t.Errorf("Sealing = %v, want ErrClosed", err)
	}
	if err := k.Rotate(); !errors.Is(err, ErrClosed) {
		t.Errorf("Rotate = %v, want ErrClosed", err)
	}
	if _, err := k.Encode(); !errors.Is(err, ErrClosed) {
		t.Errorf("Encode = %v, want ErrClosed", err)
	}
}

func TestPrintsAsSecret(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if got := fmt.Sprintf(verb, k); got != concealed {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("test", "keyring", k)
	if !strings.Contains(log.String(), `"keyring":"[secret]"`) {
		t.Errorf("slog writes %s", log.Bytes())
	}
	if got, err := json.Marshal(k); err != nil || string(got) != `"[secret]"` {
		t.Errorf("json writes %s, %v", got, err)
	}
}

// The golden file holds two versions: as made, and after a rotation. Format 1
// is to be read for good.
func TestGoldenBlobs(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	got := [][]byte{encoded(t, k)}
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	got = append(got, encoded(t, k))
	for i, blob := range got {
		path := filepath.Join("testdata", fmt.Sprintf("keyring-1.version-%d.hex", i+1))
		if *update {
			if err := os.WriteFile(path, []byte(hexLines(blob)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want := readHex(t, path)
		if !bytes.Equal(blob, want) {
			t.Errorf("%s: got\n%swant\n%s", path, hexLines(blob), hexLines(want))
		}
		decoded, err := Decode(testConfig(t), want)
		if err != nil {
			t.Fatal(err)
		}
		if again := encoded(t, decoded); !bytes.Equal(again, want) {
			t.Errorf("%s: does not encode to itself", path)
		}
		if decoded.Version() != uint64(i+1) || decoded.Hash() != sha256.Sum256(want) {
			t.Errorf("%s: version %d, hash %x", path, decoded.Version(), decoded.Hash())
		}
		if !bytes.Equal(decoded.PublicKeys()[0].Key, k.PublicKeys()[0].Key) {
			t.Errorf("%s: another public key", path)
		}
		decoded.Close()
	}
}

func TestDecodeRefuses(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	blob := encoded(t, k)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(blob)
		b[at] = to
		return b
	}
	entry := func(i int) int { return blobHeaderBytes + i*blobEntryBytes }
	swapped := bytes.Clone(blob)
	copy(swapped[entry(1):], blob[entry(2):entry(3)])
	copy(swapped[entry(2):], blob[entry(1):entry(2)])
	without := func(i int) []byte {
		b := slices.Delete(bytes.Clone(blob), entry(i), entry(i+1))
		b[62]--
		return b
	}
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	uneven := slices.Delete(encoded(t, k), entry(7), entry(8)) // a CA key before it has the same number
	uneven[62]--
	cfg := testConfig(t) // one: each takes of what may be locked
	for name, b := range map[string][]byte{
		"nothing":                      nil,
		"a short header":               blob[:blobHeaderBytes-1],
		"a cut key":                    blob[:len(blob)-1],
		"a byte too many":              append(bytes.Clone(blob), 0),
		"another magic":                change(0, 'x'),
		"another format":               change(4, 2),
		"version 0":                    change(12, 0),
		"version 2 without a before":   change(12, 2),
		"version 1 with a before":      change(20, 1),
		"another cluster":              change(45, 0),
		"another count":                change(62, 8),
		"an unknown purpose":           change(entry(6), 11),
		"a reserved purpose":           change(entry(5), 6),
		"a purpose twice":              change(entry(3), byte(credentialKey)),
		"an index key with a number":   change(entry(0)+4, 1),
		"a data key of epoch 0":        change(entry(1)+4, 0),
		"a data key of epoch 65537":    change(entry(1)+2, 1),
		"keys in another order":        swapped,
		"no signing key":               without(4),
		"no CA key":                    without(5),
		"no snapshot identity":         without(6),
		"an epoch without identity":    uneven,
		"no data key":                  without(1),
		"a CA key of number 0":         change(entry(5)+4, 0),
		"an identity of epoch 0":       change(entry(6)+4, 0),
		"an identity of epoch 65537":   change(entry(6)+2, 1),
		"an identity without its data": change(entry(6)+4, 2),
		"a count without a key in it":  change(62, 0),
		"a count that is far too high": change(61, 0xff),
	} {
		if _, err := Decode(cfg, b); !errors.Is(err, ErrBlob) {
			t.Errorf("%s: Decode = %v, want ErrBlob", name, err)
		}
	}
}

func hexLines(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		fmt.Fprintf(&text, "%x\n", b[:n])
		b = b[n:]
	}
	return text.String()
}

func readHex(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(hex.NewDecoder(strings.NewReader(strings.ReplaceAll(string(text), "\n", ""))))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}
