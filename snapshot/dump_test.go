package snapshot

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom"
	"cloakroom/internal/dumptest"
	"cloakroom/securemem"
)

// The keys of one snapshot, which age makes and keeps on the heap while it
// streams, are gone from memory when the stream is done with and the collector
// has run: a child writes and reads some, waits, and is dumped.

// childMode tells the test binary, run again, to be the child.
const childMode = "CLOAKROOM_SNAPSHOT_CHILD"

func TestNoFileKeyInADump(t *testing.T) {
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
	for _, c := range []struct {
		mode string
		leak bool
	}{{"clean", false}, {"leak", true}} {
		t.Run(c.mode, func(t *testing.T) {
			found := dumptest.DumpChild(t, "snapshot", "TestNoFileKeyInADump", childMode+"="+c.mode, func(from io.Reader) *dumptest.Patterns {
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
	patterns, keys := new(dumptest.Patterns), 0
	class := patterns.Class("key of a snapshot", 16)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		if lines.Text() == "ready" && keys == 2*2*childRounds {
			return patterns
		}
		text, is := strings.CutPrefix(lines.Text(), "key ")
		if b, err := hex.DecodeString(text); is && err == nil {
			keys++
			patterns.Add(class, inverted(b))
		}
	}
	t.Fatalf("child ended after %d keys", keys)
	return nil
}

func inverted(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}

const childRounds = 5

// spy sees the file keys that age makes, and keeps them with every bit
// inverted.
type spy struct {
	age.Recipient
	age.Identity
	saw [][]byte
}

func (s *spy) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	s.saw = append(s.saw, inverted(fileKey))
	return s.Recipient.(age.RecipientWithLabels).WrapWithLabels(fileKey)
}

func (s *spy) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := s.Identity.Unwrap(stanzas)
	s.saw = append(s.saw, inverted(fileKey))
	return fileKey, err
}

// leaked is where the child of the counter-test leaves a key.
var leaked []byte

func beDumped(t *testing.T, leak bool) {
	id := hybrid(t)
	state := noise(t, 3*chunkBytes)
	for range childRounds {
		eyes := &spy{Recipient: id.Recipient(), Identity: id}
		to, from := seal(t), open(t)
		to.Recipient = eyes
		from.Identity = func(cloakroom.Epoch) (age.Identity, error) { return eyes, nil }
		var file bytes.Buffer
		w, err := NewWriter(&file, headerFor(state), to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(state); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		nonce := bytes.Clone(file.Bytes()[headerBytes+ageHeaderBytes:][:ageNonceBytes])
		if _, err := readAll(file.Bytes(), from); err != nil {
			t.Fatal(err)
		}
		for _, key := range eyes.saw {
			fmt.Printf("\nkey %x\n", key)
			fmt.Printf("\nkey %x\n", invertedStreamKey(key, nonce))
		}
		if leak {
			leaked = inverted(eyes.saw[0])
		}
	}
	runtime.GC()
	runtime.GC()
	fmt.Println("\nready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	t.Log(len(leaked))
}

// invertedStreamKey derives what age encrypts the chunks with.
func invertedStreamKey(invertedFileKey, nonce []byte) []byte {
	out := make([]byte, 32)
	securemem.Do(func() {
		key, err := hkdf.Key(sha256.New, inverted(invertedFileKey), nonce, "payload", len(out))
		if err != nil {
			panic(err)
		}
		copy(out, inverted(key))
	})
	return out
}
