package securemem

import (
	"fmt"
	"unsafe"

	"cloakroom"
)

// allocLarge gives a slot of whole pages a row of its own.
func (s *Slab) allocLarge(n int) (Ref, []byte, error) {
	n = (n + pageBytes - 1) &^ (pageBytes - 1)
	r, err := s.newRow()
	if err != nil {
		return 0, nil, fmt.Errorf("allocate slot: %w", err)
	}
	base, err := s.takeRun(n)
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

// addChunk returns the row of a new chunk.
func (s *Slab) addChunk(class int, c *sizeClass) (uint32, error) {
	r, err := s.newRow()
	if err != nil {
		return 0, err
	}
	bytes := c.chunkSize()
	base, err := s.takeRun(bytes)
	if err != nil {
		s.vacate(r)
		return 0, err
	}
	n := uint32(bytes / c.size)
	s.table[r] = row{base: base, size: uint32(c.size), slots: n}
	s.slots[r] = newSlots(n, uint16(class), bytes)
	c.chunks++
	return r, nil
}

// giveRow gives the wiped chunk of a row back.
func (s *Slab) giveRow(c *sizeClass, r uint32) {
	c.chunks--
	s.giveRun(s.table[r].base, int(s.slots[r].pages)*pageBytes)
	s.vacate(r)
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

// takeRun returns n zeroed bytes: a chunk of its own or a part of one.
func (s *Slab) takeRun(n int) (unsafe.Pointer, error) {
	if n == chunkBytes {
		return s.takeChunk()
	}
	return s.pages.take(s, n)
}

// giveRun takes back what takeRun returned, wiped.
func (s *Slab) giveRun(base unsafe.Pointer, n int) {
	if n == chunkBytes {
		s.giveChunk(base)
		return
	}
	s.pages.give(s, base, n)
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
