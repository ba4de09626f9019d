package securemem

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"unsafe"

	"cloakroom"
)

// granule is the unit of the key region: one cache line, so that two cipher
// states never share one.
const granule = 64

// keyHeap carves keys and cipher states out of one small region. Its own
// bookkeeping, one bit a granule, lies on the Go heap and holds nothing secret.
// It is safe for concurrent use.
type keyHeap struct {
	mem span

	mu     sync.Mutex
	used   []uint64 // bit set: granule taken
	closed bool
}

func newKeyHeap(mem []byte) *keyHeap {
	return &keyHeap{mem: spanOf(mem), used: make([]uint64, (len(mem)/granule+63)/64)}
}

// take returns n zeroed bytes at a multiple of 64, from a random position on.
func (h *keyHeap) take(n int) ([]byte, error) {
	want := (n + granule - 1) / granule
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	all := h.mem.n / granule
	start := rand.IntN(all)
	at, ok := h.findRun(start, all, want)
	if !ok {
		at, ok = h.findRun(0, min(all, start+want), want)
	}
	if !ok {
		return nil, fmt.Errorf("key memory of %d bytes has no room for %d more: %w", h.mem.n, n, cloakroom.ErrMemoryFull)
	}
	h.mark(at, want, true)
	return h.mem.bytes()[at*granule : at*granule+n : at*granule+n], nil
}

// give wipes what take returned and takes it back. After close it does
// nothing: keys may be destroyed in any order at the end.
func (h *keyHeap) give(b []byte) {
	at := int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))-h.mem.addr()) / granule
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	clear(b)
	h.mark(at, (len(b)+granule-1)/granule, false)
}

// close keeps the heap from touching its memory, which is unmapped next.
func (h *keyHeap) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// findRun looks for want free granules in [from, to).
func (h *keyHeap) findRun(from, to, want int) (int, bool) {
	run := 0
	for i := from; i < to; i++ {
		if h.used[i/64]&(1<<(i%64)) != 0 {
			run = 0
			continue
		}
		if run++; run == want {
			return i - want + 1, true
		}
	}
	return 0, false
}

func (h *keyHeap) mark(at, n int, taken bool) {
	for i := at; i < at+n; i++ {
		bit := uint64(1) << (i % 64)
		if (h.used[i/64]&bit != 0) == taken {
			panic("securemem: key memory is marked twice")
		}
		h.used[i/64] ^= bit
	}
}

// inUse is the number of bytes taken.
func (h *keyHeap) inUse() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return popcount(h.used) * granule
}
