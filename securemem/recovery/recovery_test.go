package recovery

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"cloakroom"
	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
)

var update = flag.Bool("update", false, "write golden files and seeds anew")

var testCluster = [16]byte{0xc1, 1}

func testMemory(t testing.TB) *securemem.Memory {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return mem
}

// texts makes a secret and returns the text of its shares.
func texts(t testing.TB, mem *securemem.Memory, k, n int) (Public, []string) {
	t.Helper()
	public, shares, err := Make(mem, testCluster, k, n)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, s := range shares {
		s.Use(func(b []byte) { list = append(list, string(bytes.Clone(b))) })
		s.Destroy()
	}
	return *public, list
}

func gathering(t testing.TB, mem *securemem.Memory, public Public) *Gathering {
	t.Helper()
	g, err := NewGathering(Config{Memory: mem, Cluster: testCluster, Public: public})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// Any k shares, in any order, open what was sealed to the recipient.
func TestAnyKSharesRestoreTheSecret(t *testing.T) {
	number := rand.Uint64()
	t.Logf("seed %d", number)
	rnd := rand.New(rand.NewPCG(number, 1))
	mem := testMemory(t)
	for _, c := range [][2]int{{1, 1}, {1, 3}, {2, 2}, {2, 3}, {3, 5}, {5, 9}, {32, 32}} {
		public, shares := texts(t, mem, c[0], c[1])
		if err := public.Check(); err != nil || len(public.Shares) != c[1] || public.Threshold != c[0] {
			t.Fatalf("%v: %+v, %v", c, public, err)
		}
		file := sealed(t, public, "the keyring")
		g := gathering(t, mem, public)
		for i, at := range rnd.Perm(c[1])[:c[0]] {
			p, seed, err := g.Offer([]byte(shares[at]))
			if err != nil || p.Have != i+1 || p.Threshold != c[0] || (seed != nil) != (i+1 == c[0]) {
				t.Fatalf("%v: share %d: %+v, %v, %v", c, i, p, seed, err)
			}
			if seed != nil {
				if got := opened(t, file, seed); got != "the keyring" {
					t.Errorf("%v: opened %q", c, got)
				}
				seed.Destroy()
			}
		}
		if p := g.Progress(); p.Have != 0 {
			t.Errorf("%v: %d shares are kept after all was done", c, p.Have)
		}
	}
}

func sealed(t *testing.T, public Public, text string) []byte {
	t.Helper()
	to, err := public.AgeRecipient()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func opened(t *testing.T, file []byte, seed *securemem.Secret) string {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(file), hybrid.NewIdentity(seed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Shares of one secret are of that secret: a cluster id is part of it.
func TestTheClusterIsPartOfTheSecret(t *testing.T) {
	mem := testMemory(t)
	public, shares := texts(t, mem, 1, 1)
	g, err := NewGathering(Config{Memory: mem, Cluster: [16]byte{9}, Public: public})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, seed, err := g.Offer([]byte(shares[0])); err == nil || seed != nil {
		t.Errorf("in another cluster: %v, %v", seed, err)
	}
}

func TestOfferRefuses(t *testing.T) {
	mem := testMemory(t)
	public, shares := texts(t, mem, 3, 4)
	_, foreign := texts(t, mem, 3, 4)
	g := gathering(t, mem, public)
	if _, _, err := g.Offer([]byte(shares[1])); err != nil {
		t.Fatal(err)
	}
	swap := func(text string, at int) string {
		other := byte('A')
		if text[at] == other {
			other = 'B'
		}
		return text[:at] + string(other) + text[at+1:]
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":             {"", "copy all of it"},
		"half of it":          {shares[0][:40], "copy all of it"},
		"more":                {shares[0] + "A", "copy all of it"},
		"two lines":           {shares[0][:40] + "\n" + shares[0][41:], "copy all of it"},
		"another prefix":      {"cloakroom-share-2." + shares[0][18:], "copy all of it"},
		"no base64":           {shares[0][:40] + "!" + shares[0][41:], "copy all of it"},
		"a slip of the pen":   {swap(shares[0], 50), "copy it again"},
		"of another cluster":  {foreign[0], "another cluster"},
		"the same once more":  {shares[1], "share 2 is here already"},
		"a forged value":      {forged(public, 1, 3), "share 1 is not the one that was given out"},
		"a forged index":      {forged(public, 9, 3), "share 9 is not"},
		"index zero":          {forged(public, 0, 3), "share 0 is not"},
		"a forged threshold":  {forged(public, 1, 1), "share 1 is not"},
		"a name, not a share": {"Ada Lovelace, 1 Ockham Park, a name where a share should be, which says nothing more", "copy all of it"},
	} {
		p, seed, err := g.Offer([]byte(c.text))
		if !errors.Is(err, cloakroom.ErrShare) || !strings.Contains(err.Error(), c.want) || seed != nil {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if p.Have != 1 {
			t.Errorf("%s: %d shares, want 1", name, p.Have)
		}
		if err != nil && len(c.text) > 30 && strings.Contains(err.Error(), c.text[20:30]) {
			t.Errorf("%s: the error repeats it", name)
		}
	}
	if _, _, err := g.Offer([]byte(" \t" + shares[3] + "\r\n")); err != nil {
		t.Errorf("white space around it: %v", err)
	}
}

// forged is a share with a good checksum and a value of its maker.
func forged(public Public, index, threshold byte) string {
	s := share{fingerprint: public.fingerprint(), threshold: threshold, index: index, value: make([]byte, valueBytes)}
	to := make([]byte, TextBytes)
	s.write(to)
	return string(to)
}

// Shares are forgotten a quarter of an hour after the first, however many came
// in between.
func TestSharesLapse(t *testing.T) {
	mem := testMemory(t)
	public, shares := texts(t, mem, 3, 3)
	synctest.Test(t, func(t *testing.T) {
		g := gathering(t, mem, public)
		offer := func(i, have int) {
			t.Helper()
			if p, _, err := g.Offer([]byte(shares[i])); err != nil || p.Have != have {
				t.Errorf("share %d: %+v, %v, want %d", i, p, err, have)
			}
		}
		offer(0, 1)
		until := g.Progress().Until
		<-time.After(Patience - 1)
		offer(1, 2)
		if p := g.Progress(); p.Until != until {
			t.Errorf("the second share moves the end from %v to %v", until, p.Until)
		}
		<-time.After(1)
		synctest.Wait()
		if p := g.Progress(); p.Have != 0 || !p.Until.IsZero() {
			t.Errorf("after %v: %+v", Patience, p)
		}
		if g.values != nil {
			t.Error("the shares are still there")
		}
		offer(1, 1)
		offer(0, 2) // all over again
		if p := g.Progress(); p.Until.IsZero() {
			t.Error("the second attempt never lapses")
		}
	})
}

func TestGatheringCloses(t *testing.T) {
	mem := testMemory(t)
	public, shares := texts(t, mem, 2, 2)
	g := gathering(t, mem, public)
	if _, _, err := g.Offer([]byte(shares[0])); err != nil {
		t.Fatal(err)
	}
	g.Close()
	if g.values != nil {
		t.Error("the shares are still there")
	}
	if _, _, err := g.Offer([]byte(shares[1])); err == nil {
		t.Error("a closed one takes shares")
	}
}

func TestFaults(t *testing.T) {
	mem := testMemory(t)
	for _, c := range [][2]int{{0, 1}, {2, 1}, {1, 0}, {1, 33}} {
		if _, _, err := Make(mem, testCluster, c[0], c[1]); err == nil {
			t.Errorf("%d of %d: made", c[0], c[1])
		}
	}
	_, err := NewGathering(Config{})
	for _, want := range []string{"memory", "cluster id", "recipient"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewGathering: %v, no word of %s", err, want)
		}
	}
}

// The form of a share, with a value that is nobody's.
func TestShareFormat1(t *testing.T) {
	value := bytes.Repeat([]byte{0x0a}, valueBytes)
	s := share{fingerprint: fingerprint{1, 2, 3, 4, 5, 6, 7, 8}, threshold: 2, index: 3, value: value}
	text := make([]byte, TextBytes)
	hash := s.write(text)
	path := filepath.Join("testdata", "share-1.golden")
	got := fmt.Appendf(nil, "%s\n%x\n", text, hash)
	if *update {
		writeFile(t, path, got)
		writeSeed(t, "share", text)
		writeSeed(t, "cut", text[:70])
		writeSeed(t, "spaces", append([]byte(" \n"), text...))
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the format changed:\n got %s\nwant %s", got, want)
	}
	back, again, err := readShare(make([]byte, shareBytes), text)
	if err != nil || again != hash || back.threshold != 2 || back.index != 3 || !slices.Equal(back.value, value) {
		t.Errorf("read %+v, %v", back, err)
	}
}

func FuzzReadShare(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		room := make([]byte, shareBytes)
		s, hash, err := readShare(room, text)
		if err != nil {
			return
		}
		again := make([]byte, TextBytes)
		if got := s.write(again); got != hash || !bytes.Equal(again, trim(text)) {
			t.Errorf("%q is written %q", text, again)
		}
	})
}

func writeSeed(t *testing.T, name string, data []byte) {
	t.Helper()
	folder := filepath.Join("testdata", "fuzz", "FuzzReadShare")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(folder, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
