package state

import (
	"encoding/binary"
	"runtime"

	"cloakroom"
	"cloakroom/securemem"
)

// entry is one index entry with its whole token.
type entry struct {
	token  cloakroom.Token
	ref    securemem.Ref
	expiry uint32 // of a living subject that expires, else 0
	mark   mark
}

// entries reads the entries of a bucket with their tokens into dst. It touches
// the twelve slots first, so that their cache misses overlap.
func (b *bucket) entries(slab *securemem.Slab, dst *[bucketEntries]entry) []entry {
	touch := byte(0)
	for i := range bucketEntries {
		if ref := b.ref(i); ref != 0 {
			touch |= slab.Bytes(ref)[0]
		}
	}
	runtime.KeepAlive(touch)
	n := 0
	for i := range bucketEntries {
		ref := b.ref(i)
		if ref == 0 {
			continue
		}
		slot, m := slab.Bytes(ref), b.mark(i)
		e := &dst[n]
		*e = entry{token: slotToken(slot, b.tag(i)), ref: ref, mark: m}
		if m&subject != 0 {
			e.expiry = livingExpiry(slotRecord(slot, m))
		}
		n++
	}
	return dst[:n]
}

// covers reports whether a token starts with the first depth bits of prefix.
func covers(prefix uint32, depth uint8, token *cloakroom.Token) bool {
	return (binary.BigEndian.Uint32(token[0:4])^prefix)>>(32-depth) == 0
}

// countIn counts the entries whose token starts with the prefix.
func countIn(entries []entry, prefix uint32, depth uint8) int {
	n := 0
	for i := range entries {
		if covers(prefix, depth, &entries[i].token) {
			n++
		}
	}
	return n
}

// insertAll inserts those entries that belong here. It returns false if one
// finds no room.
func (s *segment) insertAll(slab *securemem.Slab, entries []entry) bool {
	for i := range entries {
		e := &entries[i]
		if !covers(s.prefix, s.depth, &e.token) {
			continue
		}
		if !s.insert(slab, &e.token, spread(&e.token), e.ref, e.mark) {
			return false
		}
		s.expires(e.expiry)
	}
	return true
}

// appendEntries appends all entries of the segment, in no order.
func (s *segment) appendEntries(slab *securemem.Slab, dst []entry) []entry {
	var buf [bucketEntries]entry
	for b := range s.buckets {
		dst = append(dst, s.bucket(b).entries(slab, &buf)...)
	}
	return dst
}
