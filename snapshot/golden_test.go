package snapshot

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom"
)

const goldenFile = "testdata/snapshot-1.hex"

var goldenState = []byte("the state of a replica, in the form of its own")

// Format 1 is to be read for good. Every field differs from every other, so
// that none can take another's place unnoticed.
func TestGoldenSnapshot(t *testing.T) {
	if *update {
		file := written(t, headerFor(goldenState), goldenState)
		if err := os.WriteFile(goldenFile, []byte(hexLines(file)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := readHex(t, goldenFile)
	state, err := readAll(file, open(t))
	if err != nil || !bytes.Equal(state, goldenState) {
		t.Errorf("read %q, %v", state, err)
	}
	h, err := ReadHeader(bytes.NewReader(file))
	if err != nil || h != headerFor(goldenState) {
		t.Errorf("header: %+v, %v", h, err)
	}
	// What of a file is not random is written as it was.
	again := written(t, h, goldenState)
	if len(again) != len(file) || !bytes.Equal(again[:headerBytes], file[:headerBytes]) {
		t.Errorf("written again: %d bytes, header\n%swant %d,\n%s",
			len(again), hexLines(again[:headerBytes]), len(file), hexLines(file[:headerBytes]))
	}
}

// The header as the table in format.go draws it.
func TestHeaderBytes(t *testing.T) {
	h := headerFor(goldenState)
	want := "434c4b534e415053" + "0001" + "c1010203000000000000000000000000" + "00000004" + "00000002" +
		"000000000000004d" + "0000000000000005" + "000001a3185c507b" + "0003" + "0001" + "0004" +
		"000000000000000a" + "0000000000000004" + "0000000000000001" + "000000000000002e"
	if got := hex.EncodeToString(h.append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSize(t *testing.T) {
	for payload, want := range map[int64]int64{
		0:              96 + 1643 + 16 + 72,
		1:              96 + 1643 + 16 + 72 + 1,
		chunkBytes:     96 + 1643 + 16 + 72 + 65536,
		chunkBytes + 1: 96 + 1643 + 32 + 72 + 65537,
		1 << 30:        96 + 1643 + 16*16384 + 72 + 1<<30,
		maxPayload:     96 + 1643 + 16<<46 + 72 + 1<<62 - 1,
	} {
		if got := Size(payload); got != want {
			t.Errorf("Size(%d) = %d, want %d", payload, got, want)
		}
	}
}

// Nothing but the golden file reads to the end under the cluster's key. Under
// one that takes every signature, what does has the form drawn.
func FuzzRead(f *testing.F) {
	golden := readHex(f, goldenFile)
	f.Add(golden, false)
	f.Add(golden, true)
	strict, lax := open(f), open(f)
	lax.Verify = func([8]byte, string, []byte, []byte) bool { return true }
	id := hybrid(f)
	lax.Identity = func(cloakroom.Epoch) (age.Identity, error) { return id, nil }
	f.Fuzz(func(t *testing.T, file []byte, forge bool) {
		cfg := strict
		if forge {
			cfg = lax
			if h, err := ReadHeader(bytes.NewReader(file)); err == nil {
				cfg.Want = h.Origin
			}
		}
		state, err := readAll(file, cfg)
		switch h, bad := ReadHeader(bytes.NewReader(file)); {
		case err != nil:
		case !forge && !bytes.Equal(file, golden):
			t.Error("read to the end, and nobody signed it")
		case bad != nil || h.Payload != int64(len(state)) || Size(h.Payload) != int64(len(file)):
			t.Errorf("%d bytes of state in %d: %+v", len(state), len(file), h)
		case !bytes.Equal(h.append(nil), file[:headerBytes]):
			t.Errorf("%x encodes to %x", file[:headerBytes], h.append(nil))
		}
	})
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
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}
