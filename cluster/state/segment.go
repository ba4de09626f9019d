package state

import (
	"math/bits"
	"sync/atomic"

	"cloakroom"
	"cloakroom/securemem"
)

const (
	pageBuckets = 64
	pageBytes   = pageBuckets * bucketBytes // 4 KiB
	pageEntries = pageBuckets * bucketEntries
	// maxPages is when a segment splits rather than grows. It bounds what one
	// growth, one split and one copy for a snapshot touch: 12,288 entries.
	maxPages = 16
	// A segment grows when it is more than 95 % full, to where it is about
	// 75 % full, and shrinks when it is less than half full.
	fullPercent  = 95
	freshPercent = 75
	sparePercent = 50
)

type page [pageBytes]byte

// segment is a hash table for the tokens that share a prefix of depth bits. An
// entry lives in one of two buckets. Segments shared with a view are never
// written: the writer copies them first.
type segment struct {
	pages   []*page // off the Go heap
	buckets uint32  // 64 a page
	count   int     // entries
	prefix  uint32  // the first depth bits of its tokens, then zeros
	depth   uint8
	holders int // the index and views; at 0 the pages are given back
	// earliest is a lower bound of the expiries of the living subjects in it,
	// in unix seconds; 0: none of them expires. The sweep corrects it.
	earliest atomic.Uint32
}

// first and second return the buckets a key may live in; they differ.
func (s *segment) first(hash uint64) uint32 {
	return uint32(uint64(uint32(hash)) * uint64(s.buckets) >> 32)
}

func (s *segment) second(hash uint64) uint32 {
	b := uint32(hash >> 32 * uint64(s.buckets) >> 32)
	if b == s.first(hash) {
		if b++; b == s.buckets {
			b = 0
		}
	}
	return b
}

func (s *segment) bucket(b uint32) *bucket {
	at := b % pageBuckets * bucketBytes
	return (*bucket)(s.pages[b/pageBuckets][at : at+bucketBytes])
}

// place is where an entry stands in its segment.
type place struct {
	bucket uint32
	entry  int
}

// find returns the place of a token.
func (s *segment) find(slab *securemem.Slab, token *cloakroom.Token, hash uint64) (place, bool) {
	first := s.first(hash)
	b := s.bucket(first)
	if i := b.find(slab, token); i >= 0 {
		return place{first, i}, true
	}
	if b.strays() == 0 {
		return place{}, false
	}
	second := s.second(hash)
	if i := s.bucket(second).find(slab, token); i >= 0 {
		return place{second, i}, true
	}
	return place{}, false
}

// find returns the entry of the token in this bucket, or -1.
func (b *bucket) find(slab *securemem.Slab, token *cloakroom.Token) int {
	for m := b.match(tag(token)); m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m)
		if ref := b.ref(i); ref != 0 && slotHolds(slab.Bytes(ref), token) {
			return i
		}
	}
	return -1
}

// insert adds an entry for a token that is not there, moving others to their
// second choice if it must. It returns false, and has changed nothing that
// matters, if there is no way: the segment must grow.
func (s *segment) insert(slab *securemem.Slab, token *cloakroom.Token, hash uint64, ref securemem.Ref, m mark) bool {
	first, second := s.first(hash), s.second(hash)
	at := first
	i := s.bucket(first).free()
	if i < 0 {
		at = second
		i = s.bucket(second).free()
	}
	for depth := 0; i < 0 && depth < 2; depth++ {
		at = first
		if i = s.vacate(slab, first, depth); i < 0 {
			at = second
			i = s.vacate(slab, second, depth)
		}
	}
	if i < 0 {
		return false
	}
	s.bucket(at).set(i, tag(token), ref, m)
	if at != first {
		s.bucket(first).strayAdded()
	}
	s.count++
	return true
}

// vacate copies one entry of a full bucket to its other choice and returns its
// place, which the caller overwrites, or -1. With depth 1 it makes room there in the same way first.
func (s *segment) vacate(slab *securemem.Slab, at uint32, depth int) int {
	b := s.bucket(at)
	for i := range bucketEntries {
		token := slotToken(slab.Bytes(b.ref(i)), b.tag(i))
		hash := spread(&token)
		first := s.first(hash)
		to := first
		if to == at {
			to = s.second(hash)
		}
		j := s.bucket(to).free()
		if j < 0 && depth > 0 {
			j = s.vacate(slab, to, depth-1)
		}
		if j < 0 {
			continue
		}
		s.bucket(to).set(j, b.tag(i), b.ref(i), b.mark(i))
		if to == first {
			s.bucket(first).strayRemoved()
		} else {
			b.strayAdded()
		}
		return i
	}
	return -1
}

// remove takes the entry of a token out.
func (s *segment) remove(at place, hash uint64) {
	s.bucket(at.bucket).clear(at.entry)
	if first := s.first(hash); first != at.bucket {
		s.bucket(first).strayRemoved()
	}
	s.count--
}

// full reports whether more entries would make the segment too full.
func (s *segment) full(more int) bool {
	return (s.count+more)*100 > len(s.pages)*pageEntries*fullPercent
}

// sparse reports whether the segment should give pages back.
func (s *segment) sparse() bool {
	return len(s.pages) > 1 && s.count*100 < len(s.pages)*pageEntries*sparePercent
}

// pagesFor returns how many pages n entries take when they are fresh.
func pagesFor(n int) int {
	perPage := pageEntries * freshPercent / 100
	return max(1, (n+perPage-1)/perPage)
}

// expires lowers the segment's earliest expiry to that of a living subject.
func (s *segment) expires(at uint32) {
	if e := s.earliest.Load(); at != 0 && (e == 0 || at < e) {
		s.earliest.Store(at)
	}
}
