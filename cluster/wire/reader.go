package wire

import (
	"encoding/binary"

	"cloakroom"
)

// reader takes bytes from the front of a message. Once it runs out or meets
// what the format forbids it is bad and hands out zeros, so that decoders
// check once, at the end.
type reader struct {
	rest []byte
	bad  bool
}

// open starts reading a message and checks its format byte.
func open(b []byte) reader {
	r := reader{rest: b}
	r.demand(r.byte() == format)
	return r
}

// demand makes the reader bad unless the rule holds.
func (r *reader) demand(rule bool) {
	if !rule {
		r.bad, r.rest = true, nil
	}
}

// end checks that the message is read to its last byte.
func (r *reader) end() error {
	if r.bad || len(r.rest) != 0 {
		return cloakroom.ErrMalformed
	}
	return nil
}

// zeros is what a bad reader hands out for parts of fixed size; it is never
// written to.
var zeros [16]byte

// take returns the next n bytes. A bad reader returns at most 16 zeros.
func (r *reader) take(n int) []byte {
	if uint(n) > uint(len(r.rest)) || r.bad {
		r.bad, r.rest = true, nil
		return zeros[:min(uint(n), uint(len(zeros)))]
	}
	part := r.rest[:n:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// size reads an amount of bytes that an int64 holds.
func (r *reader) size() int64 {
	n := int64(r.uint64())
	r.demand(n >= 0)
	return max(n, 0)
}

func (r *reader) code() Code {
	c := Code(r.byte())
	r.demand(c.valid())
	return c
}

// count reads a 4-byte count of things that take at least size bytes each, and
// there are at most limit of. What it returns fits into the bytes left.
func (r *reader) count(limit, size int) int {
	n := r.uint32()
	r.demand(uint64(n) <= uint64(limit) && uint64(n)*uint64(size) <= uint64(len(r.rest)))
	if r.bad {
		return 0
	}
	return int(n)
}

// raw reads the bytes of a string; they alias the message.
func (r *reader) raw() []byte {
	n := int(r.uint16())
	r.demand(n <= MaxStringBytes)
	return r.take(n)
}

// string reads a string. An empty one costs no allocation.
func (r *reader) string() string {
	b := r.raw()
	if r.bad {
		return ""
	}
	return string(b)
}

// appendString appends s, or its first MaxStringBytes.
func appendString[S string | []byte](dst []byte, s S) []byte {
	s = s[:min(len(s), MaxStringBytes)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
