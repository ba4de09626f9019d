package entry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloakroom/securemem"
)

func openMemory(t *testing.T) *securemem.Memory {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return mem
}

func sampleParties() Parties {
	return Parties{Cluster: [16]byte{1}, Giver: "n1", Taker: "n2", Life: "00112233", Bound: [32]byte{9}}
}

// sealed makes a request and what answers it.
func sealed(t *testing.T, mem *securemem.Memory, content string) (mine *Request, encapsulated, sealed []byte) {
	t.Helper()
	mine, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := mem.NewSecret(len(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Destroy()
	blob.Use(func(b []byte) { copy(b, content) })
	encapsulated, sealed, err = Seal(mem, mine.Public(), sampleParties(), blob)
	if err != nil {
		t.Fatal(err)
	}
	return mine, encapsulated, sealed
}

func TestKeysArrive(t *testing.T) {
	mem := openMemory(t)
	content := strings.Repeat("keyring ", 300)
	mine, encapsulated, box := sealed(t, mem, content)
	if len(mine.Public()) != 1216 || len(encapsulated) != 1120 || len(box) != len(content)+securemem.TagBytes || bytes.Contains(box, []byte("keyring")) {
		t.Errorf("public key %d bytes, encapsulated %d, sealed %d", len(mine.Public()), len(encapsulated), len(box))
	}
	var got string
	err := mine.Open(t.Context(), mem, sampleParties(), encapsulated, box, func(blob []byte) error {
		got = string(bytes.Clone(blob))
		return nil
	})
	if err != nil || got != content {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if stats := mem.Pool().Stats(); stats.InUse != 0 {
		t.Errorf("%d bytes of the pool are still held", stats.InUse)
	}
	failed := errors.New("not good")
	if err := mine.Open(t.Context(), mem, sampleParties(), encapsulated, box, func([]byte) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", mine, mine, mine); strings.Count(text, "[secret]") != 3 {
		t.Error("a request prints as", text)
	}
}

// Nothing opens between other ends than it was sealed for: another cluster,
// giver, taker, life, connection, or key.
func TestKeysOpenForNobodyElse(t *testing.T) {
	mem := openMemory(t)
	mine, encapsulated, box := sealed(t, mem, "keyring")
	other, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	never := func([]byte) error {
		t.Error("opened")
		return nil
	}
	for name, change := range map[string]func(*Parties){
		"cluster": func(p *Parties) { p.Cluster[3]++ }, "giver": func(p *Parties) { p.Giver = "n3" },
		"taker": func(p *Parties) { p.Taker = "n3" }, "life": func(p *Parties) { p.Life = "00112234" },
		"connection": func(p *Parties) { p.Bound[31]++ },
		"where texts end": func(p *Parties) {
			p.Giver, p.Taker = "n1n", "2"
		},
	} {
		parties := sampleParties()
		change(&parties)
		if err := mine.Open(t.Context(), mem, parties, encapsulated, box, never); !errors.Is(err, ErrSealed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := other.Open(t.Context(), mem, sampleParties(), encapsulated, box, never); !errors.Is(err, ErrSealed) {
		t.Error("another request:", err)
	}
	for i := range box {
		bad := bytes.Clone(box)
		bad[i] ^= 1
		if err := mine.Open(t.Context(), mem, sampleParties(), encapsulated, bad, never); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for _, at := range []int{0, 500, 1119} {
		bad := bytes.Clone(encapsulated)
		bad[at] ^= 1
		if err := mine.Open(t.Context(), mem, sampleParties(), bad, box, never); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d of the encapsulated key flipped: %v", at, err)
		}
	}
	for _, cut := range [][]byte{nil, box[:3], box[:securemem.TagBytes]} {
		if err := mine.Open(t.Context(), mem, sampleParties(), encapsulated, cut, never); !errors.Is(err, ErrSealed) {
			t.Errorf("%d bytes: %v", len(cut), err)
		}
	}
	if err := mine.Open(t.Context(), mem, sampleParties(), encapsulated[:1119], box, never); !errors.Is(err, ErrSealed) {
		t.Error("a shorter encapsulated key:", err)
	}
}

func TestNothingIsSealedToAMalformedKey(t *testing.T) {
	mem := openMemory(t)
	blob, err := mem.NewSecret(8)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Destroy()
	for _, public := range [][]byte{nil, make([]byte, 10), bytes.Repeat([]byte{0xff}, 1216)} {
		if _, _, err := Seal(mem, public, sampleParties(), blob); err == nil {
			t.Errorf("sealed to %d bytes", len(public))
		}
	}
}
