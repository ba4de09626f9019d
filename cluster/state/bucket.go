package state

import (
	"encoding/binary"
	"math/bits"

	"cloakroom"
	"cloakroom/securemem"
)

// bucketEntries is how many entries a bucket holds: what fits a cache line.
const bucketEntries = 12

// bucket is one cache line of the index, off the Go heap. An entry is one tag
// (the last byte of the token), two marks and the reference of the slot that
// holds the rest of the token and the record. Integers are little-endian.
//
//	offset  size  content
//	0       12    tags
//	12      4     marks: bits 0–11 the entry's slot is padded, 12–23 the entry
//	              is a subject record, 24–31 how many entries whose first
//	              choice is this bucket live in their second
//	16      48    12 references; 0: no entry
type bucket [bucketBytes]byte

const (
	bucketBytes = 64
	marksAt     = bucketEntries
	refsAt      = marksAt + 4
)

const (
	subjectShift  = 12
	strayShift    = 24
	straySaturate = 0xff // from here on the count is only known to be large
)

// mark tells what an index entry is besides its token and slot.
type mark uint8

const (
	padded  mark = 1 << 0 // the slot is longer than its content
	subject mark = 1 << 1 // the record is a subject record
)

func (b *bucket) tag(i int) byte { return b[i] }

func (b *bucket) ref(i int) securemem.Ref {
	return securemem.Ref(binary.LittleEndian.Uint32(b[refsAt+4*i:]))
}

func (b *bucket) marks() uint32         { return binary.LittleEndian.Uint32(b[marksAt:]) }
func (b *bucket) setMarks(marks uint32) { binary.LittleEndian.PutUint32(b[marksAt:], marks) }

func (b *bucket) mark(i int) mark {
	marks := b.marks()
	return mark(marks>>i&1) | mark(marks>>(i+subjectShift)&1)<<1
}

func (b *bucket) set(i int, tag byte, ref securemem.Ref, m mark) {
	b[i] = tag
	binary.LittleEndian.PutUint32(b[refsAt+4*i:], uint32(ref))
	marks := b.marks() &^ (1<<i | 1<<(i+subjectShift))
	b.setMarks(marks | uint32(m&padded)<<i | uint32(m&subject)>>1<<(i+subjectShift))
}

func (b *bucket) clear(i int) { b.set(i, 0, 0, 0) }

// free returns a free place in the bucket, or -1.
func (b *bucket) free() int {
	for i := range bucketEntries {
		if b.ref(i) == 0 {
			return i
		}
	}
	return -1
}

// strays is the number of entries that chose this bucket first and live
// elsewhere: while it is 0 nobody needs to look at their second choice.
func (b *bucket) strays() uint32 { return b.marks() >> strayShift }

func (b *bucket) strayAdded() {
	if b.strays() != straySaturate {
		b.setMarks(b.marks() + 1<<strayShift)
	}
}

// strayRemoved leaves a saturated count alone: it may stand for more.
func (b *bucket) strayRemoved() {
	if b.strays() != straySaturate {
		b.setMarks(b.marks() - 1<<strayShift)
	}
}

// match returns the places whose tag is the given one, as bits 0–11. Free
// places have tag 0 and may be among them.
func (b *bucket) match(tag byte) uint32 {
	const ones = 0x0101010101010101
	want := uint64(tag) * ones
	low := zeroBytes(binary.LittleEndian.Uint64(b[0:8]) ^ want)
	high := zeroBytes(uint64(binary.LittleEndian.Uint32(b[8:12])) ^ want)
	return low | high<<8&0xfff
}

// zeroBytes returns a bit for each byte of x that is zero.
func zeroBytes(x uint64) uint32 {
	const low7 = 0x7f7f7f7f7f7f7f7f
	zero := ^((x&low7 + low7) | x | low7) >> 7 // 1 in each zero byte
	return uint32(zero * 0x0102040810204080 >> 56)
}

// key is a token taken apart for the index.
type key struct {
	token  cloakroom.Token
	prefix uint32 // its first bits choose the segment
	hash   uint64 // its halves choose the two buckets
}

func newKey(token *cloakroom.Token) key {
	return key{*token, binary.BigEndian.Uint32(token[0:4]), spread(token)}
}

// tag returns the byte of the token that stands in the bucket.
func tag(token *cloakroom.Token) byte { return token[len(token)-1] }

// spread mixes a token into 64 bits. Tokens are random already; the one
// multiplication keeps a segment usable when they are not (tests, a foreign
// proposer), and makes the buckets independent of the segment.
func spread(token *cloakroom.Token) uint64 {
	hi, lo := bits.Mul64(
		binary.LittleEndian.Uint64(token[0:8])^0x9e3779b97f4a7c15,
		binary.LittleEndian.Uint64(token[8:16])^0xd6e8feb86659fd93)
	return hi ^ lo
}
