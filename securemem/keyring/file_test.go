package keyring

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom/securemem/recovery"
)

// fileGolden was sealed to goldenIdentity by the keys 00….
const fileGolden = "testdata/keyring-1.age"

func goldenRecovery(t testing.TB) (recovery.Public, age.Identity) {
	t.Helper()
	id, err := age.ParseHybridIdentity(goldenIdentity)
	if err != nil {
		t.Fatal(err)
	}
	return recovery.Public{Recipient: id.Recipient().String(), Threshold: 2, Shares: []recovery.Hash{{1}, {2}, {3}}}, id
}

func sealFile(t testing.TB, k *Keyring) ([]byte, age.Identity) {
	t.Helper()
	public, id := goldenRecovery(t)
	file, err := k.SealFile(public)
	if err != nil {
		t.Fatal(err)
	}
	return file, id
}

func TestKeyringFileFormat1(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	file, id := sealFile(t, k)
	end := bytes.IndexByte(file, '\n') + 1
	if *update {
		if err := os.WriteFile(fileGolden, file, 0o644); err != nil {
			t.Fatal(err)
		}
		writeSeed(t, "FuzzReadFileHeader", "golden", file)
		writeSeed(t, "FuzzReadFileHeader", "header", file[:end])
		writeSeed(t, "FuzzReadFileHeader", "spaces", append([]byte(" "), file[:end]...))
	}
	golden, err := os.ReadFile(fileGolden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden[:end], file[:end]) {
		t.Errorf("the header changed:\n got %swant %s", file[:end], golden[:end])
	}
	for name, file := range map[string][]byte{"golden": golden, "new": file} {
		back, h, err := OpenFile(testConfig(t), file, id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer back.Close()
		if back.Hash() != k.Hash() || h.Version != 1 || h.Hash != recovery.Hash(k.Hash()) || h.Recovery.Threshold != 2 {
			t.Errorf("%s: version %d, header %+v", name, back.Version(), h)
		}
	}
	if len(file) > 8<<10 {
		t.Errorf("a new keyring takes %d bytes on disk", len(file))
	}
}

func TestKeyringFileOfALaterVersion(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	for range 30 {
		if err := k.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	file, id := sealFile(t, k)
	back, h, err := OpenFile(testConfig(t), file, id)
	if err != nil || h.Version != 31 || back.Hash() != k.Hash() {
		t.Fatalf("version %d: %v", h.Version, err)
	}
	back.Close()
}

func TestOpenFileRefuses(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	file, id := sealFile(t, k)
	cfg := testConfig(t)
	refused := func(name string, cfg Config, file []byte, id age.Identity) {
		t.Helper()
		if back, h, err := OpenFile(cfg, file, id); err == nil || back != nil || h.Version != 0 {
			t.Errorf("%s: opened", name)
		} else if len(err.Error()) > 200 {
			t.Errorf("%s: the error quotes the file", name)
		}
	}
	for i := 0; i < len(file); i += 1 + i/20 { // every byte of the header is near the front
		bad := bytes.Clone(file)
		bad[i] ^= 4
		refused("a byte changed", cfg, bad, id)
	}
	for _, n := range []int{0, 1, 100, bytes.IndexByte(file, '\n') + 1, len(file) / 2, len(file) - 1} {
		refused("cut", cfg, file[:n], id)
	}
	refused("longer", cfg, append(bytes.Clone(file), 0), id)
	refused("too long", cfg, append(bytes.Clone(file), make([]byte, MaxFileBytes)...), id)
	other := testConfig(t)
	other.Cluster[0] ^= 1
	refused("another cluster", other, file, id)
	stranger, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	refused("another identity", cfg, file, stranger)
}

// Who can write to the disk can't have shares collected for another secret, nor
// have an old keyring taken for a new one.
func TestFileHeaderIsAuthenticated(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	file, id := sealFile(t, k)
	for from, to := range map[string]string{
		`"threshold":2`: `"threshold":1`, `"version":1`: `"version":2`,
		`"shares":["01`: `"shares":["ff`,
	} {
		bad := bytes.Replace(file, []byte(from), []byte(to), 1)
		if bytes.Equal(bad, file) {
			t.Fatalf("no %s in the header", from)
		}
		if _, err := ReadFileHeader(bad); err != nil {
			t.Errorf("%s: the header is well formed: %v", to, err)
		}
		if _, _, err := OpenFile(testConfig(t), bad, id); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// A file that is well sealed and says another hash or version than that of what
// is in it, as one that a faulty release wrote.
func TestOpenFileHoldsTheBlobToTheHeader(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	public, id := goldenRecovery(t)
	to, err := public.AgeRecipient()
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]FileHeader{
		"good":    {Version: 1, Hash: k.Hash()},
		"hash":    {Version: 1, Hash: recovery.Hash{1}},
		"version": {Version: 2, Hash: k.Hash()},
	} {
		h.Format, h.Cluster, h.Recovery = fileFormat, testCluster, public
		line, err := h.line()
		if err != nil {
			t.Fatal(err)
		}
		sum, file := sha256.Sum256(line), bytes.NewBuffer(line)
		if err := sealAge(file, to, sum[:], encoded(t, k)); err != nil {
			t.Fatal(err)
		}
		back, _, err := OpenFile(testConfig(t), file.Bytes(), id)
		if name == "good" {
			if err != nil {
				t.Fatal(err)
			}
			back.Close()
		} else if !errors.Is(err, ErrFile) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestSealFileRefuses(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	public, _ := goldenRecovery(t)
	bad := public
	bad.Recipient = "age1xyz"
	if _, err := k.SealFile(bad); err == nil || strings.Contains(err.Error(), "xyz") {
		t.Errorf("no recipient: %v", err)
	}
	bad = public
	bad.Threshold = 4
	if _, err := k.SealFile(bad); err == nil {
		t.Error("a threshold above the shares")
	}
	k.Close()
	if _, err := k.SealFile(public); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func FuzzReadFileHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, file []byte) {
		h, err := ReadFileHeader(file)
		if err != nil {
			if !errors.Is(err, ErrFile) {
				t.Fatalf("got %v, want ErrFile", err)
			}
			return
		}
		line, err := h.line()
		if err != nil || !bytes.HasPrefix(file, line) {
			t.Errorf("%q is written %q, %v", file, line, err)
		}
	})
}
