package securemem

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSlabAgainstModel runs random operations against a map.
func TestSlabAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := openTest(t, Config{Lock: LockOff, Limit: 64 << 20})
	s := m.Arena().NewSlab("test")
	live := map[Ref][]byte{}
	var refs []Ref
	for range 60_000 {
		if len(refs) > 0 && rng.IntN(100) < 45 {
			i := rng.IntN(len(refs))
			ref := refs[i]
			refs[i] = refs[len(refs)-1]
			refs = refs[:len(refs)-1]
			want := live[ref]
			if got := s.Bytes(ref)[:len(want)]; !bytes.Equal(got, want) {
				t.Fatalf("slot %d changed", ref)
			}
			delete(live, ref)
			s.Free(ref)
			continue
		}
		n := 1 + rng.IntN(200)
		if rng.IntN(50) == 0 {
			n = 1 + rng.IntN(MaxSlot)
		}
		ref, b, err := s.Alloc(n)
		if err != nil {
			continue
		}
		if ref == 0 || live[ref] != nil {
			t.Fatalf("ref %d given twice", ref)
		}
		if len(b) < n || bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
			t.Fatalf("slot of %d bytes for %d is short or not zero", len(b), n)
		}
		for i := range b[:n] {
			b[i] = byte(rng.Uint32())
		}
		live[ref] = bytes.Clone(b[:n])
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if !bytes.Equal(s.Bytes(ref)[:len(live[ref])], live[ref]) {
			t.Fatalf("slot %d changed", ref)
		}
		s.Free(ref)
	}
	if got := s.Stats(); got != (SlabStats{}) {
		t.Errorf("stats of an emptied slab: %+v", got)
	}
	if got := m.Arena().Stats(); got.Mapped != 0 || got.Used != 0 || got.Free != got.Limit {
		t.Errorf("stats of an emptied arena: %+v", got)
	}
}
