package record

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"cloakroom"
)

// A drawn pseudonym lies in the slot, has the one form that the front door
// takes, and is another each time.
func TestDrawFallsIntoTheSlot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	room, _ := newTestRoom(t, false)
	seen := make(map[cloakroom.Pseudonym]bool)
	for range 2000 {
		slot := cloakroom.Slot(rnd.IntN(cloakroom.Slots))
		id, err := room.Draw(slot, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := room.Slot(id); got != slot {
			t.Fatalf("slot of the pseudonym: got %d, want %d", got, slot)
		}
		formed := id
		if formed.SetRandomForm(); formed != id || seen[id] {
			t.Fatalf("not a new version-4 UUID: %x", id)
		}
		seen[id] = true
	}
}

// Drawing backwards from the slot must be the same as drawing ids until one
// falls into it: every bit of the id that is free is as often 0 as 1.
func TestDrawnPseudonymsAreUniform(t *testing.T) {
	room, _ := newTestRoom(t, false)
	const n = 20_000
	var ones [128]int
	for range n {
		id, err := room.Draw(77, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range ones {
			ones[bit] += int(id[bit/8] >> (7 - bit%8) & 1)
		}
	}
	for bit, got := range ones {
		if bit/4 == 12 || bit == 64 || bit == 65 { // version and variant
			continue
		}
		// Six standard deviations: once in a billion bits by chance.
		if low, high := n/2-424, n/2+424; got < low || got > high {
			t.Errorf("bit %d is set in %d of %d, want %d to %d", bit, got, n, low, high)
		}
	}
}

func TestDrawTellsThatRandomnessIsOut(t *testing.T) {
	room, _ := newTestRoom(t, false)
	if _, err := room.Draw(1, iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Draw = %v, want the reader's error", err)
	}
}

// Issuer and subject are framed: what moves from one to the other is somebody
// else. Every domain has a handle of its own.
func TestHandlesDiffer(t *testing.T) {
	room, _ := newTestRoom(t, false)
	seen := make(map[cloakroom.Token]string)
	add := func(what string, handle cloakroom.Token) {
		if other, there := seen[handle]; there {
			t.Errorf("%s has the handle of %s", what, other)
		}
		seen[handle] = what
	}
	for _, c := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"bc", "a"}} {
		handle := room.Handle([]byte(c[0]), []byte(c[1]))
		if again := room.Handle([]byte(c[0]), []byte(c[1])); again != handle {
			t.Errorf("%q: another handle the second time", c)
		}
		add(c[0]+"|"+c[1], handle)
		for domain := range cloakroom.Domain(3) {
			add(c[0]+"|"+c[1]+" in a domain", room.DomainHandle(handle, domain))
		}
	}
}

func TestSealedPseudonymOpensOnlyUnderItsToken(t *testing.T) {
	room, _ := newTestRoom(t, false)
	tok := room.Handle([]byte("issuer"), []byte("subject"))
	id, err := room.Draw(room.HandleSlot(tok), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := room.SealPseudonym(nil, tok, id, 3)
	if err != nil || len(rec) != SealedPseudonym {
		t.Fatalf("sealed to %d bytes, want %d: %v", len(rec), SealedPseudonym, err)
	}
	if got, domain, err := room.OpenPseudonym(tok, rec); got != id || domain != 3 || err != nil {
		t.Errorf("OpenPseudonym = %x, %d, %v, want %x, 3", got, domain, err, id)
	}
	other := tok
	other[0]++
	value, err := room.Seal(nil, tok, cloakroom.AliasField, 3, 0, false, bytes.Repeat([]byte{1}, 17))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		tok  cloakroom.Token
		rec  []byte
	}{
		{"another token", other, rec},
		{"cut", tok, rec[:len(rec)-1]},
		{"changed domain", tok, append(append(bytes.Clone(rec[:8]), rec[8]^1), rec[9:]...)},
		{"not 16 bytes", tok, value},
		{"nothing", tok, nil},
	} {
		if _, _, err := room.OpenPseudonym(c.tok, c.rec); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: OpenPseudonym = %v, want ErrRecord", c.name, err)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	room, _ := newTestRoom(b, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := room.Draw(77, rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	room, _ := newTestRoom(b, false)
	issuer, subject := []byte("https://login.example.org"), []byte("248289761001")
	b.ReportAllocs()
	for b.Loop() {
		room.DomainHandle(room.Handle(issuer, subject), 2)
	}
}
