package securemem

import (
	"context"
	"unsafe"
)

// Buffer is guarded memory of one request. One goroutine uses it at a time. It
// prints as "[secret]"; the slice that Bytes returns does not.
type Buffer struct {
	concealed
	pool  *Pool
	at    unsafe.Pointer // nil once released
	n     int
	order int
	first bool // the request held none before
}

// Bytes returns the buffer: as long as was asked for, with the capacity of its
// class. The slice dies with [Buffer.Release] and [Buffer.Grow].
func (b *Buffer) Bytes() []byte {
	if b.at == nil {
		panic("securemem: use of a released buffer")
	}
	return unsafe.Slice((*byte)(b.at), leafBytes<<b.order)[:b.n]
}

// Grow makes the buffer n bytes long and keeps its content. If its class is
// too small, the whole content of the class moves to a larger one and the old
// place is wiped; it waits and fails like [Pool.More], and then b is as before.
func (b *Buffer) Grow(ctx context.Context, n int) error {
	if n <= cap(b.Bytes()) {
		b.n = max(b.n, n)
		return nil
	}
	larger, err := b.pool.More(ctx, n)
	if err != nil {
		return err
	}
	old := b.Bytes()
	copy(larger.Bytes(), old[:cap(old)])
	*b, *larger = *larger, *b
	larger.Release()
	return nil
}

// Release wipes the whole class and returns it to the pool. A second Release
// panics: somebody else may have the memory by then.
func (b *Buffer) Release() {
	if b.at == nil {
		panic("securemem: buffer released twice")
	}
	whole := unsafe.Slice((*byte)(b.at), leafBytes<<b.order)
	clear(whole)
	leaf := (uintptr(b.at) - b.pool.mem.addr()) / leafBytes
	b.at = nil
	b.pool.give(int32(leaf), b.order, b.first)
}
