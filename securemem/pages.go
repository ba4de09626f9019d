package securemem

import (
	"fmt"
	"math/bits"
	"unsafe"
)

const (
	pageBytes  = 4 << 10
	chunkPages = chunkBytes / pageBytes
)

// pageRuns carves runs of 4 KiB pages out of the arena's chunks: for index
// segments, for slots too large to share a chunk, and for a class's first
// chunks.
type pageRuns struct {
	chunks []*pageChunk
	byBase map[unsafe.Pointer]*pageChunk
}

// pageChunk is one chunk cut into pages.
type pageChunk struct {
	base unsafe.Pointer
	used uint32 // bit set: page taken
	at   int    // position in pageRuns.chunks
}

// AllocPages returns n zeroed bytes, a multiple of 4 KiB up to 128 KiB, at a
// page boundary. It fails with cloakroom.ErrMemoryFull.
func (s *Slab) AllocPages(n int) ([]byte, error) {
	if n <= 0 || n > chunkBytes || n%pageBytes != 0 {
		return nil, fmt.Errorf("allocate pages: %d bytes: want a multiple of %d up to %d", n, pageBytes, chunkBytes)
	}
	base, err := s.pages.take(s, n)
	if err != nil {
		return nil, fmt.Errorf("allocate pages: %w", err)
	}
	s.used.Add(int64(n))
	return unsafe.Slice((*byte)(base), n), nil
}

// FreePages wipes what [Slab.AllocPages] returned and takes it back, also
// while the slab is held.
func (s *Slab) FreePages(b []byte) {
	clear(b)
	s.used.Add(-int64(len(b)))
	s.pages.give(s, unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

// take finds a run in the chunk with the least room for it.
func (p *pageRuns) take(s *Slab, n int) (unsafe.Pointer, error) {
	pages := n / pageBytes
	var best *pageChunk
	bestFree := chunkPages + 1
	for _, c := range p.chunks {
		free := chunkPages - bits.OnesCount32(c.used)
		if free < pages || free >= bestFree {
			continue
		}
		if _, ok := c.findRun(pages); ok {
			best, bestFree = c, free
		}
	}
	if best == nil {
		base, err := s.takeChunk()
		if err != nil {
			return nil, err
		}
		best = &pageChunk{base: base, at: len(p.chunks)}
		p.chunks = append(p.chunks, best)
		p.byBase[base] = best
	}
	first, _ := best.findRun(pages)
	best.used |= runMask(first, pages)
	return unsafe.Add(best.base, first*pageBytes), nil
}

// give takes a wiped run back; an empty chunk returns to the arena.
func (p *pageRuns) give(s *Slab, at unsafe.Pointer, n int) {
	// Chunks lie at multiples of their size, because regions do.
	offset := uintptr(at) % chunkBytes
	c := p.byBase[unsafe.Add(at, -int(offset))]
	mask := runMask(int(offset/pageBytes), n/pageBytes)
	if c == nil || n%pageBytes != 0 || offset%pageBytes != 0 || c.used&mask != mask {
		panic("securemem: pages freed twice, or never allocated")
	}
	c.used &^= mask
	if c.used != 0 {
		return
	}
	last := len(p.chunks) - 1
	p.chunks[c.at] = p.chunks[last]
	p.chunks[c.at].at = c.at
	p.chunks[last] = nil
	p.chunks = p.chunks[:last]
	delete(p.byBase, c.base)
	s.giveChunk(c.base)
}

// close wipes and returns all chunks.
func (p *pageRuns) close(s *Slab) {
	for _, c := range p.chunks {
		clear(unsafe.Slice((*byte)(c.base), chunkBytes))
		s.giveChunk(c.base)
	}
	*p = pageRuns{}
}

// findRun returns the first page of the first run that is long enough.
func (c *pageChunk) findRun(pages int) (int, bool) {
	for first := 0; first+pages <= chunkPages; first++ {
		if busy := c.used & runMask(first, pages); busy != 0 {
			first = bits.Len32(busy) - 1 // go on behind the last busy page
			continue
		}
		return first, true
	}
	return 0, false
}

func runMask(first, pages int) uint32 {
	return uint32((uint64(1)<<pages - 1) << first)
}
