package securemem

import "math/bits"

// leafBytes is the smallest buffer.
const leafBytes = 4 << 10

// buddy divides memory of whole largest blocks into blocks of 4 KiB × 2^order
// (Knuth, TAOCP 1, 2.5). The block freed last is given out first: its lines
// are still in the cache. Its bookkeeping lies on the Go heap.
//
// The caller provides the locking.
type buddy struct {
	heads []int32 // :: order → first free leaf, -1: none
	next  []int32 // :: leaf → next free block of its order
	prev  []int32
	state []int8 // :: leaf → order of the free block that starts there; else -1
}

const (
	none    = -1
	notFree = -1
)

// newBuddy divides leaves, a multiple of 1<<top, into free blocks of order top.
func newBuddy(leaves, top int) *buddy {
	b := &buddy{
		heads: make([]int32, top+1), next: make([]int32, leaves),
		prev: make([]int32, leaves), state: make([]int8, leaves),
	}
	for i := range b.heads {
		b.heads[i] = none
	}
	for i := range b.state {
		b.state[i] = notFree
	}
	for at := leaves - 1<<top; at >= 0; at -= 1 << top {
		b.push(int32(at), top)
	}
	return b
}

// orderFor is the order of the smallest block that holds n bytes.
func orderFor(n int) int {
	return bits.Len(uint(max(n, 1)-1) / leafBytes)
}

// take returns the first leaf of a block of that order.
func (b *buddy) take(order int) (leaf int32, ok bool) {
	from := order
	for from < len(b.heads) && b.heads[from] == none {
		from++
	}
	if from == len(b.heads) {
		return 0, false
	}
	leaf = b.heads[from]
	b.remove(leaf, from)
	for from > order {
		from--
		b.push(leaf+1<<from, from)
	}
	return leaf, true
}

// give takes a block back and joins it with its free neighbours.
func (b *buddy) give(leaf int32, order int) {
	for order < len(b.heads)-1 {
		neighbour := leaf ^ 1<<order
		if b.state[neighbour] != int8(order) {
			break
		}
		b.remove(neighbour, order)
		leaf &^= 1 << order
		order++
	}
	b.push(leaf, order)
}

func (b *buddy) push(leaf int32, order int) {
	first := b.heads[order]
	b.next[leaf], b.prev[leaf], b.state[leaf] = first, none, int8(order)
	if first != none {
		b.prev[first] = leaf
	}
	b.heads[order] = leaf
}

func (b *buddy) remove(leaf int32, order int) {
	next, prev := b.next[leaf], b.prev[leaf]
	if prev == none {
		b.heads[order] = next
	} else {
		b.next[prev] = next
	}
	if next != none {
		b.prev[next] = prev
	}
	b.state[leaf] = notFree
}
