package securemem

import "math/rand/v2"

// fullness is the number of lists by which a class sorts its chunks.
const fullness = 4

const (
	firstChunkBytes = 16 << 10 // a class begins small: most shards hold few records of most sizes
	minChunkSlots   = 4
)

// sizeClass is what a slab knows of the chunks of one slot size. A chunk
// without a free slot, and the one being filled, is in no list.
type sizeClass struct {
	size    int
	filling uint32 // row; 0: none
	chunks  int
	open    [fullness][]uint32 // rows with free slots, by quarters in use
}

// chunkSize is how many bytes the next chunk of the class has: it doubles from
// 16 KiB to 128 KiB.
func (c *sizeClass) chunkSize() int {
	n := firstChunkBytes << min(c.chunks, 3)
	for n < minChunkSlots*c.size && n < chunkBytes {
		n <<= 1
	}
	return n
}

// choose takes a random row of the fullest ones off its list, so that emptier
// chunks fall empty and go back. It returns 0 if there is none.
func (s *Slab) choose(c *sizeClass) uint32 {
	for i := fullness - 1; i >= 0; i-- {
		if open := c.open[i]; len(open) > 0 {
			r := open[rand.IntN(len(open))]
			s.unlist(c, r)
			return r
		}
	}
	return 0
}

// relist puts a row that has free slots on the list it belongs to.
func (s *Slab) relist(c *sizeClass, r uint32) {
	book := &s.slots[r]
	all := s.table[r].slots
	want := uint8((all - book.free) * fullness / all)
	if book.at >= 0 {
		if book.list == want {
			return
		}
		s.unlist(c, r)
	}
	book.list, book.at = want, int32(len(c.open[want]))
	c.open[want] = append(c.open[want], r)
}

// unlist takes a row off its list.
func (s *Slab) unlist(c *sizeClass, r uint32) {
	book := &s.slots[r]
	open := c.open[book.list]
	last := len(open) - 1
	open[book.at] = open[last]
	s.slots[open[book.at]].at = book.at
	book.at = -1
	c.open[book.list] = open[:last]
}
