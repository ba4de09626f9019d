package securemem

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"cloakroom"
)

// Ref names a slot of a [Slab]: table row in the upper 19 bits, slot within
// the chunk in the lower 13. 0 is never a valid Ref.
type Ref uint32

const (
	slotBits = 13 // 128 KiB ÷ 16-byte slots
	slotMask = 1<<slotBits - 1
	maxRows  = 1 << (32 - slotBits)
)

// row is what finding a slot needs: 16 bytes, so that the table of a gigabyte
// of chunks stays in the cache.
type row struct {
	base  unsafe.Pointer // first slot; nil: row is vacant
	size  uint32         // of a slot, bytes
	slots uint32
}

// slots is the bookkeeping of one chunk: one bit for each slot.
type slots struct {
	used  []uint64 // bit set: slot taken, or behind the last one
	free  uint32
	class uint16 // pageClass: the row is one slot of whole pages
	at    int32  // position in the class's open list, -1: not in it
}

const pageClass = ^uint16(0)

// Slab carves the slots and pages of one shard out of chunks of 128 KiB. Each
// chunk holds slots of one size; a slot is chosen at random among the free
// ones of its chunk, so that its place does not tell when it was written.
//
// The caller provides the locking: Alloc, Free, Hold, Unhold, AllocPages,
// FreePages and Close exclude everything else; any number may call Bytes at
// the same time. Stats is safe at any time.
type Slab struct {
	arena   *Arena
	purpose string

	table  []row
	slots  []slots           // as long as table
	vacant []uint32          // rows to use again
	open   [classes][]uint32 // rows with a free slot; the last one is being filled
	pages  pageRuns

	holds  int
	parked []Ref // freed while held

	used   atomic.Int64 // bytes
	chunks atomic.Int64
	count  atomic.Int64 // live slots
	held   atomic.Int64 // len(parked)
}

// SlabStats are counters of a [Slab].
type SlabStats struct {
	Mapped int64 // bytes of chunks
	Used   int64 // bytes of live slots and pages
	Slots  int64 // live slots
	Parked int64 // slots freed while held, to be wiped
}

// NewSlab returns an empty slab. purpose names it in the counters.
func (a *Arena) NewSlab(purpose string) *Slab {
	s := &Slab{arena: a, purpose: purpose, table: make([]row, 1), slots: make([]slots, 1)}
	s.pages.byBase = make(map[unsafe.Pointer]*pageChunk)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slabs[s] = struct{}{}
	return s
}

// Alloc returns a zeroed slot for n bytes, 1 to [MaxSlot], as long as its
// class. It fails with cloakroom.ErrMemoryFull.
func (s *Slab) Alloc(n int) (Ref, []byte, error) {
	if n < 1 || n > MaxSlot {
		return 0, nil, fmt.Errorf("allocate slot: %d bytes: want 1 to %d", n, MaxSlot)
	}
	if n > sharedSlots {
		return s.allocLarge(n)
	}
	class, size := classOf(n)
	open := s.open[class]
	if len(open) == 0 {
		if err := s.addChunk(class, size); err != nil {
			return 0, nil, fmt.Errorf("allocate slot: %w", err)
		}
		open = s.open[class]
	}
	r := open[len(open)-1]
	slot := s.slots[r].takeRandom()
	if s.slots[r].free == 0 {
		s.closeRow(class, r)
		s.chooseNext(class)
	}
	s.used.Add(int64(size))
	s.count.Add(1)
	ref := Ref(r<<slotBits | slot)
	return ref, s.Bytes(ref), nil
}

// Bytes returns the whole slot, as long as its class.
func (s *Slab) Bytes(ref Ref) []byte {
	r := &s.table[ref>>slotBits]
	// Slicing a chunk-sized array keeps a wrong slot number inside the chunk.
	at := uint32(ref) & slotMask * r.size
	return (*[chunkBytes]byte)(r.base)[at : at+r.size : at+r.size]
}

// Free wipes a slot and takes it back; while the slab is held, at the last
// [Slab.Unhold]. Freeing a slot twice panics.
func (s *Slab) Free(ref Ref) {
	if s.holds > 0 {
		s.parked = append(s.parked, ref)
		s.held.Store(int64(len(s.parked)))
		return
	}
	s.release(ref)
}

// Hold keeps slots that are freed from now on intact, for a snapshot that
// reads them. Holds count.
func (s *Slab) Hold() { s.holds++ }

// Unhold ends one Hold. The last one wipes and frees what was parked: about
// 50 ns a slot.
func (s *Slab) Unhold() {
	if s.holds == 0 {
		panic("securemem: slab was not held")
	}
	if s.holds--; s.holds > 0 {
		return
	}
	for _, ref := range s.parked {
		s.release(ref)
	}
	s.parked = nil
	s.held.Store(0)
}

// release wipes a slot and marks it free; an empty chunk returns to the arena.
func (s *Slab) release(ref Ref) {
	r, slot := uint32(ref)>>slotBits, uint32(ref)&slotMask
	if int(r) >= len(s.table) || s.table[r].base == nil || !s.slots[r].taken(slot) {
		panic("securemem: slot freed twice, or never allocated")
	}
	b := s.Bytes(ref)
	clear(b)
	s.used.Add(-int64(len(b)))
	s.count.Add(-1)
	book := &s.slots[r]
	if book.class == pageClass {
		s.pages.give(s, unsafe.Pointer(unsafe.SliceData(b)), len(b))
		s.vacate(r)
		return
	}
	book.give(slot)
	if book.free == s.table[r].slots {
		s.closeRow(int(book.class), r)
		s.giveChunk(s.table[r].base)
		s.vacate(r)
	} else if book.at < 0 {
		s.openRow(int(book.class), r)
	}
}

// allocLarge gives a slot of whole pages a row of its own.
func (s *Slab) allocLarge(n int) (Ref, []byte, error) {
	n = (n + pageBytes - 1) &^ (pageBytes - 1)
	r, err := s.newRow()
	if err != nil {
		return 0, nil, fmt.Errorf("allocate slot: %w", err)
	}
	base, err := s.pages.take(s, n)
	if err != nil {
		s.vacate(r)
		return 0, nil, fmt.Errorf("allocate slot: %w", err)
	}
	s.table[r] = row{base: base, size: uint32(n), slots: 1}
	s.slots[r] = slots{used: []uint64{^uint64(0)}, class: pageClass, at: -1}
	s.used.Add(int64(n))
	s.count.Add(1)
	return Ref(r << slotBits), s.Bytes(Ref(r << slotBits)), nil
}

// addChunk opens a new chunk of a class.
func (s *Slab) addChunk(class, size int) error {
	r, err := s.newRow()
	if err != nil {
		return err
	}
	base, err := s.takeChunk()
	if err != nil {
		s.vacate(r)
		return err
	}
	n := uint32(chunkBytes / size)
	s.table[r] = row{base: base, size: uint32(size), slots: n}
	s.slots[r] = newSlots(n, uint16(class))
	s.openRow(class, r)
	return nil
}

// newRow returns a vacant row of the table.
func (s *Slab) newRow() (uint32, error) {
	if last := len(s.vacant) - 1; last >= 0 {
		r := s.vacant[last]
		s.vacant = s.vacant[:last]
		return r, nil
	}
	if len(s.table) == maxRows {
		return 0, fmt.Errorf("slab has %d chunks: %w", maxRows, cloakroom.ErrMemoryFull)
	}
	s.table, s.slots = append(s.table, row{}), append(s.slots, slots{at: -1})
	return uint32(len(s.table) - 1), nil
}

func (s *Slab) vacate(r uint32) {
	s.table[r], s.slots[r] = row{}, slots{at: -1}
	s.vacant = append(s.vacant, r)
}

// openRow lists a row that has a free slot again, before the one being filled.
func (s *Slab) openRow(class int, r uint32) {
	open := append(s.open[class], r)
	s.slots[r].at = int32(len(open) - 1)
	s.open[class] = open
	if len(open) > 1 {
		s.swapOpen(class, len(open)-1, len(open)-2)
	}
}

// closeRow takes a row off the list.
func (s *Slab) closeRow(class int, r uint32) {
	open := s.open[class]
	last := len(open) - 1
	s.swapOpen(class, int(s.slots[r].at), last)
	s.slots[r].at = -1
	s.open[class] = open[:last]
}

func (s *Slab) swapOpen(class, i, j int) {
	open := s.open[class]
	open[i], open[j] = open[j], open[i]
	s.slots[open[i]].at, s.slots[open[j]].at = int32(i), int32(j)
}

// chooseNext picks the chunk to fill next: the fullest of four random ones, so
// that the emptier ones fall empty and go back to the arena.
func (s *Slab) chooseNext(class int) {
	open := s.open[class]
	if len(open) < 2 {
		return
	}
	best := rand.IntN(len(open))
	for range 3 {
		other := rand.IntN(len(open))
		if s.slots[open[other]].free < s.slots[open[best]].free {
			best = other
		}
	}
	s.swapOpen(class, best, len(open)-1)
}

func (s *Slab) takeChunk() (unsafe.Pointer, error) {
	base, err := s.arena.take()
	if err == nil {
		s.chunks.Add(1)
	}
	return base, err
}

func (s *Slab) giveChunk(base unsafe.Pointer) {
	s.chunks.Add(-1)
	s.arena.give(base)
}

// Stats returns the slab's counters.
func (s *Slab) Stats() SlabStats {
	return SlabStats{
		Mapped: s.chunks.Load() * chunkBytes, Used: s.used.Load(), Slots: s.count.Load(), Parked: s.held.Load(),
	}
}

// Close wipes everything and returns it to the arena, held or not. The slab
// must not be used afterwards.
func (s *Slab) Close() {
	for r := range s.table {
		if base := s.table[r].base; base != nil && s.slots[r].class != pageClass {
			clear(unsafe.Slice((*byte)(base), chunkBytes))
			s.giveChunk(base)
		}
	}
	s.pages.close(s)
	s.table, s.slots, s.vacant, s.parked, s.open = nil, nil, nil, nil, [classes][]uint32{}
	s.used.Store(0)
	s.count.Store(0)
	s.held.Store(0)
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	delete(s.arena.slabs, s)
}
