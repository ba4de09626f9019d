package securemem

import "unsafe"

// span is a piece of guarded memory. It is not a slice because fmt prints the
// bytes of a slice even in private fields: given a wrong verb it follows a
// holder's private pointers down to here. Of a span it prints address and
// length.
type span struct {
	at unsafe.Pointer
	n  int
}

// spanOf remembers where b lies.
func spanOf(b []byte) span { return span{at: unsafe.Pointer(unsafe.SliceData(b)), n: len(b)} }

// bytes is the whole span.
func (s span) bytes() []byte { return unsafe.Slice((*byte)(s.at), s.n) }

// addr is the address of the first byte.
func (s span) addr() uintptr { return uintptr(s.at) }

// has reports whether p points into the span.
func (s span) has(p unsafe.Pointer) bool { return uintptr(p)-s.addr() < uintptr(s.n) }
