package state

import (
	"testing"

	"cloakroom"
	"cloakroom/securemem"
)

// The tag search by words finds what a loop finds.
func TestMatchFindsEveryTag(t *testing.T) {
	r := seeded(t)
	for range 20_000 {
		var b bucket
		for i := range bucketEntries {
			b[i] = byte(r.Uint32()) >> r.IntN(8)
		}
		tag := b.tag(r.IntN(bucketEntries))
		if r.IntN(4) == 0 {
			tag = byte(r.Uint32())
		}
		want := uint32(0)
		for i := range bucketEntries {
			if b.tag(i) == tag {
				want |= 1 << i
			}
		}
		if got := b.match(tag); got != want {
			t.Fatalf("match(%#x) in %x = %012b, want %012b", tag, b[:bucketEntries], got, want)
		}
	}
}

func TestMarksStayWithTheirEntry(t *testing.T) {
	r := seeded(t)
	var b bucket
	var want [bucketEntries]mark
	strays := uint32(0)
	for range 10_000 {
		i := r.IntN(bucketEntries)
		want[i] = mark(r.IntN(4))
		b.set(i, byte(i), securemem.Ref(i+1), want[i])
		if r.IntN(2) == 0 && strays > 0 {
			b.strayRemoved()
			strays--
		} else if strays < straySaturate-1 {
			b.strayAdded()
			strays++
		}
		for j := range want {
			if got := b.mark(j); got != want[j] {
				t.Fatalf("mark %d = %b, want %b", j, got, want[j])
			}
		}
		if got := b.strays(); got != strays {
			t.Fatalf("strays = %d, want %d", got, strays)
		}
	}
}

// A count that reached its end no longer tells how many: it must never come
// down again, or entries in their second bucket would be lost.
func TestSaturatedStraysStay(t *testing.T) {
	var b bucket
	for range 300 {
		b.strayAdded()
	}
	for range 300 {
		b.strayRemoved()
	}
	if b.strays() != straySaturate {
		t.Errorf("strays = %d, want %d", b.strays(), straySaturate)
	}
}

func TestSlotsGiveBackWhatTheyHold(t *testing.T) {
	slab := newSlab(t, 0)
	r := seeded(t)
	lengths := []int{1, 11, 69, 496, 497, 498, 499, 500, 1000, 65_000, 68_000}
	for range 2000 {
		lengths = append(lengths, 1+r.IntN(3000))
	}
	for _, n := range lengths {
		token, record := randomToken(r), make([]byte, n)
		for i := range record {
			record[i] = byte(r.Uint32())
		}
		ref, slot, err := slab.Alloc(slotHead + n)
		if err != nil {
			t.Fatal(err)
		}
		m := fillSlot(slot, &token, record)
		slot = slab.Bytes(ref)
		if got := slotRecord(slot, m); string(got) != string(record) {
			t.Fatalf("a record of %d bytes comes back with %d", n, len(got))
		}
		if !slotHolds(slot, &token) || slotToken(slot, tag(&token)) != token {
			t.Fatal("a slot does not know its token")
		}
		for i := range slotHead {
			other := token
			other[i] ^= 1
			if slotHolds(slot, &other) {
				t.Fatalf("a slot takes a token for its own that differs in byte %d", i)
			}
		}
		if n <= 497 && m&padded != 0 {
			t.Errorf("a record of %d bytes is padded: its size class wastes memory", n)
		}
		slab.Free(ref)
	}
}

func TestPaddingAtItsEdges(t *testing.T) {
	for _, pad := range []int{0, 1, 2, 3, 253, 254, 255, 256, 257, 9000} {
		token, record := cloakroom.Token{1}, []byte("record")
		slot := make([]byte, slotHead+len(record)+pad)
		m := fillSlot(slot, &token, record)
		if got := string(slotRecord(slot, m)); got != string(record) {
			t.Errorf("padding %d: record = %q, want %q", pad, got, record)
		}
	}
}
