package node

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/node/api"
)

// The plaintext of a cursor, as drawn in cursor.go.
func TestCursorFormat(t *testing.T) {
	golden, err := os.ReadFile("testdata/cursor-1.hex")
	if err != nil {
		t.Fatal(err)
	}
	c := &cursor{print: print{1, 2, 3, 4, 5, 6, 7, 8}, marks: []mark{{1, 0}, {300, 1 << 40}, {1<<32 - 1, 1<<64 - 1}}}
	text := c.append(nil)
	if got, want := hex.EncodeToString(text), strings.TrimSpace(string(golden)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := readCursor(text); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read back: %v, %v", got, err)
	}
}

// The longest cursor fits its header, sealed.
func TestTheLongestCursorFits(t *testing.T) {
	c := &cursor{marks: make([]mark, cloakroom.MaxShards)}
	for i := range c.marks {
		c.marks[i] = mark{1<<32 - 1, 1<<64 - 1}
	}
	if n := (opaqueTagBytes + len(c.append(nil)) + 2) / 3 * 4; n > api.MaxCursorBytes {
		t.Errorf("%d bytes, at most %d are taken", n, api.MaxCursorBytes)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add((&cursor{marks: []mark{{1, 1}, {1, 200}}}).append(nil))
	f.Add([]byte{cursorFormat, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 1})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := readCursor(body)
		if err != nil {
			return
		}
		if again := c.append(nil); string(again) != string(body) {
			t.Errorf("%x was read, and is written as %x", body, again)
		}
	})
}
