package securemem

import (
	"math/bits"
	"math/rand/v2"
)

// newSlots returns the bookkeeping of n free slots in a chunk of some bytes.
func newSlots(n uint32, class uint16, bytes int) slots {
	used := make([]uint64, (n+63)/64)
	if rest := n % 64; rest != 0 {
		used[len(used)-1] = ^uint64(0) << rest
	}
	return slots{used: used, free: n, class: class, pages: uint8(bytes / pageBytes), at: -1}
}

// takeRandom takes one of the free slots, each with the same probability. The
// generator is the runtime's ChaCha8, seeded by the system: who sees some
// places cannot tell the next.
func (s *slots) takeRandom() uint32 {
	skip := rand.IntN(int(s.free))
	for i, word := range s.used {
		free := bits.OnesCount64(^word)
		if skip >= free {
			skip -= free
			continue
		}
		word = ^word
		for range skip {
			word &= word - 1
		}
		bit := bits.TrailingZeros64(word)
		s.used[i] |= 1 << bit
		s.free--
		return uint32(i*64 + bit)
	}
	panic("securemem: free slots are miscounted")
}

func (s *slots) give(slot uint32) {
	s.used[slot/64] &^= 1 << (slot % 64)
	s.free++
}

func (s *slots) taken(slot uint32) bool {
	return int(slot/64) < len(s.used) && s.used[slot/64]&(1<<(slot%64)) != 0
}

// popcount counts the bits that are set.
func popcount(words []uint64) int {
	n := 0
	for _, word := range words {
		n += bits.OnesCount64(word)
	}
	return n
}
