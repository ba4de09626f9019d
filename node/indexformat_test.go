package node

import (
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"cloakroom"
)

// The plaintext of an index, as drawn in index.go.
func TestIndexFormat(t *testing.T) {
	golden, err := os.ReadFile("testdata/index-1.hex")
	if err != nil {
		t.Fatal(err)
	}
	at := []cloakroom.Index{
		{Shard: 0, Generation: 1, Index: 7}, {Shard: 5, Generation: 300, Index: 1 << 40}, {Shard: 63, Generation: 1<<32 - 1, Index: 1<<64 - 1},
	}
	text := writeIndex(nil, at)
	if got, want := hex.EncodeToString(text), strings.TrimSpace(string(golden)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := readIndex(nil, text); err != nil || !slices.Equal(got, at) {
		t.Errorf("read back: %v, %v", got, err)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(writeIndex(nil, []cloakroom.Index{{Shard: 1, Generation: 1, Index: 1}, {Shard: 2, Generation: 1, Index: 200}}))
	f.Add([]byte{indexFormat, 1, 1, 0x80, 0})
	f.Add([]byte{indexFormat, 2, 1, 1, 1, 1, 1})
	f.Add([]byte{2, 1, 1, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := []cloakroom.Index{{Shard: 9}}
		at, err := readIndex(before, body)
		if err != nil {
			if !slices.Equal(at, before) {
				t.Fatalf("refused, and left %v", at)
			}
			return
		}
		if again := writeIndex(nil, at[1:]); !slices.Equal(again, body) {
			t.Fatalf("%x reads as %v, which writes as %x", body, at[1:], again)
		}
	})
}
