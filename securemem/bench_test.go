package securemem

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkAEADOpen32(b *testing.B) {
	m := openTest(b, Config{Limit: 1 << 20})
	a, err := m.NewAEAD(make([]byte, KeyBytes))
	if err != nil {
		b.Fatal(err)
	}
	nonce, ad := make([]byte, NonceBytes), make([]byte, 43)
	sealed := a.Seal(nil, nonce, make([]byte, 32), ad)
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Open(dst, nonce, sealed, ad); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlockEncrypt(b *testing.B) {
	m := openTest(b, Config{Limit: 1 << 20})
	block, err := m.NewBlock(make([]byte, KeyBytes))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		block.Encrypt(buf, buf)
	}
}

func BenchmarkPoolGetRelease(b *testing.B) {
	m := openTest(b, Config{Limit: 1 << 20})
	b.ReportAllocs()
	for b.Loop() {
		buf, err := m.Pool().Get(b.Context(), 8<<10)
		if err != nil {
			b.Fatal(err)
		}
		buf.Release()
	}
}

// fill allocates n slots of size bytes each.
func fill(b *testing.B, s *Slab, n, size int) []Ref {
	refs := make([]Ref, n)
	for i := range refs {
		ref, slot, err := s.Alloc(size)
		if err != nil {
			b.Fatal(err)
		}
		slot[0] = byte(i)
		refs[i] = ref
	}
	rand.Shuffle(n, func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	return refs
}

func BenchmarkSlabBytesRandom(b *testing.B) {
	for _, pages := range []protection{plainPages, hugePages, lockedPages, secretPages} {
		b.Run([]string{"plain", "huge", "locked", "secret"}[pages], func(b *testing.B) {
			m := openTest(b, Config{Lock: LockOff, Limit: 4 << 20})
			a, err := newArena(m, 1<<30, pages, false)
			if err != nil {
				b.Skip(err)
			}
			s := a.NewSlab("bench")
			refs := fill(b, s, 2_000_000, 84)
			i, sum := 0, byte(0)
			for b.Loop() {
				sum += s.Bytes(refs[i])[40]
				if i++; i == len(refs) {
					i = 0
				}
			}
			sink = sum
		})
	}
}

var sink byte

func BenchmarkSlabAllocFree(b *testing.B) {
	m := openTest(b, Config{Lock: LockOff, Limit: 1 << 30})
	s := m.Arena().NewSlab("bench")
	refs := fill(b, s, 500_000, 84)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.Free(refs[i])
		refs[i], _, _ = s.Alloc(84)
		if i++; i == len(refs) {
			i = 0
		}
	}
}
