package securemem

import (
	"fmt"
	"sync/atomic"
	"unsafe"
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
	at    int32  // position in the class's list, -1: in none
	class uint16 // pageClass: the row is one slot of whole pages
	pages uint8  // length of the chunk in 4 KiB
	list  uint8  // of the class's open lists
}

const pageClass = ^uint16(0)

// Slab carves the slots and pages of one shard out of chunks of 16 to
// 128 KiB. Each chunk holds slots of one size; a slot is chosen at random among the free
// ones of its chunk, so that its place does not tell when it was written.
//
// The caller provides the locking: Alloc, Free, Hold, Unhold, AllocPages,
// FreePages and Close exclude everything else; any number may call Bytes at
// the same time. Stats is safe at any time.
type Slab struct {
	arena   *Arena
	purpose string

	table   []row
	slots   []slots             // as long as table
	vacant  []uint32            // rows to use again
	classes [classes]*sizeClass // nil: not in use yet
	pages   pageRuns

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
	c := s.classes[class]
	if c == nil {
		c = &sizeClass{size: size}
		s.classes[class] = c
	}
	if c.filling == 0 {
		c.filling = s.choose(c)
	}
	if c.filling == 0 {
		r, err := s.addChunk(class, c)
		if err != nil {
			return 0, nil, fmt.Errorf("allocate slot: %w", err)
		}
		c.filling = r
	}
	r := c.filling
	slot := s.slots[r].takeRandom()
	if s.slots[r].free == 0 {
		c.filling = 0
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

// release wipes a slot and marks it free; an empty chunk goes back.
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
		s.giveRun(s.table[r].base, len(b))
		s.vacate(r)
		return
	}
	book.give(slot)
	c := s.classes[book.class]
	switch empty := book.free == s.table[r].slots; {
	case empty && c.filling == r:
		c.filling = 0
		s.giveRow(c, r)
	case empty:
		if book.at >= 0 { // a chunk of one slot was full before
			s.unlist(c, r)
		}
		s.giveRow(c, r)
	case c.filling != r:
		s.relist(c, r)
	}
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
		if base := s.table[r].base; base != nil && s.slots[r].pages == chunkPages {
			clear(unsafe.Slice((*byte)(base), chunkBytes))
			s.giveChunk(base)
		}
	}
	s.pages.close(s)
	s.table, s.slots, s.vacant, s.parked, s.classes = nil, nil, nil, nil, [classes]*sizeClass{}
	s.used.Store(0)
	s.count.Store(0)
	s.held.Store(0)
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	delete(s.arena.slabs, s)
}
