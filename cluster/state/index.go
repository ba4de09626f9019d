package state

import (
	"fmt"

	"cloakroom/securemem"
)

// maxDepth bounds the directory to 65,536 references, enough for 800 million
// records. Segments at that depth grow instead of splitting.
const maxDepth = 16

// index finds the slot of a token: a directory by the token's first bits, of
// segments that grow by a page at a time and split in two (extendible
// hashing). It owns its pages, not the slots its entries refer to.
//
// One writer at a time, and no reader beside it.
type index struct {
	slab      *securemem.Slab
	directory []*segment // 2^depth of them; a segment stands 2^(depth - its depth) times
	depth     uint8
	count     int // entries
	pages     int // held by the segments of the directory
	scratch   []entry
}

func newIndex(slab *securemem.Slab) (*index, error) {
	x := &index{slab: slab}
	s, err := x.newSegment(1, 0, 0)
	if err != nil {
		return nil, err
	}
	x.directory = []*segment{s}
	x.pages = len(s.pages)
	return x, nil
}

// segment returns the segment a prefix belongs to.
func (x *index) segment(prefix uint32) *segment {
	return x.directory[prefix>>(32-x.depth)]
}

// find returns the segment and place of a token.
func (x *index) find(k *key) (*segment, place, bool) {
	s := x.segment(k.prefix)
	at, ok := s.find(x.slab, &k.token, k.hash)
	return s, at, ok
}

// reserve makes the token's segment writable and roomy enough for more
// entries. It is what can fail for want of memory, before anything changed.
func (x *index) reserve(k *key, more int) error {
	s := x.segment(k.prefix)
	if s.full(more) {
		return x.grow(s, more)
	}
	if s.holders > 1 {
		return x.unshare(s)
	}
	return nil
}

// insert adds an entry for a token that is not there, in a segment that is
// writable ([index.reserve]).
func (x *index) insert(k *key, ref securemem.Ref, m mark, expiry uint32) error {
	s := x.segment(k.prefix)
	for !s.insert(x.slab, &k.token, k.hash, ref, m) {
		// Rare: below the limit, yet no way to move others aside.
		if err := x.grow(s, pageEntries/2); err != nil {
			return err
		}
		s = x.segment(k.prefix)
	}
	s.expires(expiry)
	x.count++
	return nil
}

// remove takes an entry out of a writable segment.
func (x *index) remove(s *segment, at place, k *key) {
	s.remove(at, k.hash)
	x.count--
}

// shrink gives the pages of a sparse segment back. It is not worth an error.
func (x *index) shrink(k *key) {
	s := x.segment(k.prefix)
	if !s.sparse() {
		return
	}
	if fresh, err := x.rebuild(x.entries(s), pagesFor(s.count), s.prefix, s.depth); err == nil {
		x.replace(s, fresh)
	}
}

// grow rebuilds a segment so that it has room for more entries, as two when it
// is large enough.
func (x *index) grow(s *segment, more int) error {
	want := max(pagesFor(s.count+more), len(s.pages)+1)
	if want > maxPages && s.depth < maxDepth {
		return x.split(s)
	}
	fresh, err := x.rebuild(x.entries(s), want, s.prefix, s.depth)
	if err != nil {
		return err
	}
	x.replace(s, fresh)
	return nil
}

// split rebuilds a segment as two by the next bit of its tokens.
func (x *index) split(s *segment) error {
	entries := x.entries(s)
	prefix, depth := s.prefix|1<<(31-s.depth), s.depth+1
	ones := countIn(entries, prefix, depth)
	low, err := x.rebuild(entries, pagesFor(s.count-ones), s.prefix, depth)
	if err != nil {
		return err
	}
	high, err := x.rebuild(entries, pagesFor(ones), prefix, depth)
	if err != nil {
		x.release(low)
		return err
	}
	if s.depth == x.depth {
		x.double()
	}
	x.replace(s, low, high)
	return nil
}

// entries reads all entries of a segment, which costs a cache miss each, into
// memory that the next call uses again.
func (x *index) entries(s *segment) []entry {
	x.scratch = s.appendEntries(x.slab, x.scratch[:0])
	return x.scratch
}

// double makes the directory tell one more bit apart.
func (x *index) double() {
	twice := make([]*segment, 0, 2*len(x.directory))
	for _, s := range x.directory {
		twice = append(twice, s, s)
	}
	x.directory = twice
	x.depth++
}

// replace puts fresh segments, in token order, where old stands.
func (x *index) replace(old *segment, fresh ...*segment) {
	start := int(old.prefix >> (32 - x.depth))
	span := 1 << (x.depth - old.depth) / len(fresh)
	for i, s := range fresh {
		for j := range span {
			x.directory[start+i*span+j] = s
		}
		x.pages += len(s.pages)
	}
	x.pages -= len(old.pages)
	x.release(old)
}

// unshare replaces a segment that views hold by a copy of its own.
func (x *index) unshare(s *segment) error {
	fresh, err := x.newSegment(len(s.pages), s.prefix, s.depth)
	if err != nil {
		return err
	}
	for i, p := range s.pages {
		*fresh.pages[i] = *p
	}
	fresh.count = s.count
	fresh.earliest.Store(s.earliest.Load())
	x.replace(s, fresh)
	return nil
}

// rebuild makes a segment of those entries that share the prefix, with more
// pages than asked if they find no room.
func (x *index) rebuild(entries []entry, pages int, prefix uint32, depth uint8) (*segment, error) {
	for ; ; pages++ {
		s, err := x.newSegment(pages, prefix, depth)
		if err != nil {
			return nil, err
		}
		if s.insertAll(x.slab, entries) {
			return s, nil
		}
		x.release(s)
	}
}

// newSegment makes an empty segment with one holder.
func (x *index) newSegment(pages int, prefix uint32, depth uint8) (*segment, error) {
	s := &segment{
		pages: make([]*page, 0, pages), buckets: uint32(pages) * pageBuckets,
		prefix: prefix, depth: depth, holders: 1,
	}
	for range pages {
		b, err := x.slab.AllocPages(pageBytes)
		if err != nil {
			x.release(s)
			return nil, fmt.Errorf("grow index: %w", err)
		}
		s.pages = append(s.pages, (*page)(b))
	}
	return s, nil
}

// release drops one hold of a segment and gives its pages back with the last.
func (x *index) release(s *segment) {
	if s.holders--; s.holders > 0 {
		return
	}
	for _, p := range s.pages {
		x.slab.FreePages(p[:])
	}
	s.pages = nil
}

// segments returns the distinct segments in token order.
func (x *index) segments(dst []*segment) []*segment {
	for i := 0; i < len(x.directory); {
		s := x.directory[i]
		dst = append(dst, s)
		i += 1 << (x.depth - s.depth)
	}
	return dst
}
