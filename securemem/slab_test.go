package securemem

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
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

// testSlab is a slab with an arena of its own.
func testSlab(t *testing.T, limit int64) (*Slab, *Arena) {
	t.Helper()
	m := openTest(t, Config{Lock: LockOff, Limit: limit})
	return m.Arena().NewSlab("test"), m.Arena()
}

func mustAlloc(t *testing.T, s *Slab, n int) (Ref, []byte) {
	t.Helper()
	ref, b, err := s.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return ref, b
}

// TestPlaceDoesNotTellOrder looks at where slots of one chunk come to lie. A
// right allocator fails it less often than once in 10^30 runs.
func TestPlaceDoesNotTellOrder(t *testing.T) {
	s, _ := testSlab(t, 4<<20)
	const n = 1000
	for range 16384/100 + 32768/100 + 65536/100 { // the class's first, smaller chunks
		mustAlloc(t, s, 100)
	}
	rising, sum := 0, 0
	places := make([]int, n)
	for i := range places {
		ref, _ := mustAlloc(t, s, 100)
		places[i] = int(ref & slotMask)
		if i > 0 && places[i] > places[i-1] {
			rising++
		}
		if i < 100 {
			sum += places[i]
		}
	}
	if rising < n/3 || rising > n*2/3 {
		t.Errorf("%d of %d slots lie behind the one before", rising, n)
	}
	if mean, slots := sum/100, chunkBytes/100; mean < slots/4 || mean > slots*3/4 {
		t.Errorf("the first hundred slots lie around %d of %d", mean, slots)
	}
}

func TestFreeWipesAtOnce(t *testing.T) {
	for _, n := range []int{20, 700, 30 << 10, MaxSlot} {
		s, _ := testSlab(t, 4<<20)
		mustAlloc(t, s, n) // keeps the chunk
		ref, b := mustAlloc(t, s, n)
		copy(b, marker)
		s.Free(ref)
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("slot of %d bytes is not wiped", n)
		}
	}
}

// TestHoldKeepsFreedSlots: a snapshot reads on while writers free.
func TestHoldKeepsFreedSlots(t *testing.T) {
	for _, n := range []int{40, 30 << 10} {
		s, arena := testSlab(t, 4<<20)
		ref, b := mustAlloc(t, s, n)
		copy(b, marker)
		s.Hold()
		s.Hold()
		s.Free(ref)
		for range 100 {
			if _, other := mustAlloc(t, s, 20); &other[0] == &b[0] {
				t.Fatal("a held slot was given away")
			}
		}
		s.Unhold()
		if !bytes.HasPrefix(b, []byte(marker)) || s.Stats().Parked != 1 {
			t.Fatalf("freed slot was touched while held; stats %+v", s.Stats())
		}
		keep, _ := mustAlloc(t, s, n) // keeps the chunk mapped
		s.Unhold()
		if bytes.Contains(b, []byte(marker)) || s.Stats().Parked != 0 {
			t.Errorf("freed slot is not wiped after the last Unhold; stats %+v", s.Stats())
		}
		s.Free(keep)
		if got, want := arena.Stats().Used, int64(100*20); got != want {
			t.Errorf("%d bytes in use, want %d", got, want)
		}
		wantPanic(t, "Unhold without Hold", s.Unhold)
	}
}

func TestWrongFreesPanic(t *testing.T) {
	s, _ := testSlab(t, 4<<20)
	ref, _ := mustAlloc(t, s, 50)
	mustAlloc(t, s, 50)
	s.Free(ref)
	wantPanic(t, "second Free", func() { s.Free(ref) })
	wantPanic(t, "Free of 0", func() { s.Free(0) })
	wantPanic(t, "Free of a row that is not there", func() { s.Free(1 << 31) })
	pages, err := s.AllocPages(8192)
	if err != nil {
		t.Fatal(err)
	}
	s.FreePages(pages[:4096])
	wantPanic(t, "FreePages of half-freed pages", func() { s.FreePages(pages) })
}

func TestAllocRefusesSizes(t *testing.T) {
	s, _ := testSlab(t, 4<<20)
	for _, n := range []int{-1, 0, MaxSlot + 1} {
		if _, _, err := s.Alloc(n); err == nil {
			t.Errorf("slot of %d bytes", n)
		}
	}
	for _, n := range []int{-4096, 0, 100, 132 << 10} {
		if _, err := s.AllocPages(n); err == nil {
			t.Errorf("pages of %d bytes", n)
		}
	}
}

func TestAllocPages(t *testing.T) {
	s, arena := testSlab(t, 16<<20)
	var all [][]byte
	for round := range 3 {
		for n := pageBytes; n <= chunkBytes; n += pageBytes {
			b, err := s.AllocPages(n)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) != n || cap(b) != n || uintptr(spanOf(b).at)%pageBytes != 0 || !bytes.Equal(b, make([]byte, n)) {
				t.Fatalf("round %d: pages of %d bytes: len %d, cap %d, or not zero or aligned", round, n, len(b), cap(b))
			}
			for i := range b {
				b[i] = byte(n / pageBytes)
			}
			all = append(all, b)
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, b := range all[len(all)/2:] {
			if bytes.Count(b, b[:1]) != len(b) {
				t.Fatal("pages overlap")
			}
			s.FreePages(b)
		}
		all = all[:len(all)/2]
	}
	for _, b := range all {
		s.FreePages(b)
	}
	if got := arena.Stats(); got.Mapped != 0 || got.Used != 0 {
		t.Errorf("stats %+v", got)
	}
}

// TestBytesIsInlined asks the compiler: the call costs more than what it does.
func TestBytesIsInlined(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go tool is not in the path")
	}
	out, err := exec.CommandContext(t.Context(), goTool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, method := range []string{"(*Slab).Bytes", "(*AEAD).Open", "(*Block).Encrypt"} {
		if !bytes.Contains(out, []byte("can inline "+method)) {
			t.Errorf("%s is not inlined", method)
		}
	}
}
