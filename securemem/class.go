package securemem

import "math/bits"

// Size classes of slots:
//
//	1 … 16        one class of 16 bytes
//	17 … 512      one class for each size: no waste
//	513 … 28 KiB  8 classes for each doubling: at most 12.5 % waste
//	… 72 KiB      whole pages of 4 KiB, of which waste is less than 12.5 %
const (
	minSlot     = 16
	exactSlots  = 512
	sharedSlots = 28 << 10 // largest slot that shares its chunk with others of its class
	// MaxSlot is the largest slot in bytes: a subject's 64 KiB and room for headers.
	MaxSlot = 72 << 10

	exactClasses = exactSlots - minSlot + 1
	// 8 classes each for the five doublings up to 16 KiB, then 18, 20 … 28 KiB.
	classes = exactClasses + 5*8 + 6
)

// classOf returns the class for n bytes, 1 to sharedSlots, and its slot size.
func classOf(n int) (class, size int) {
	if n <= minSlot {
		return 0, minSlot
	}
	if n <= exactSlots {
		return n - minSlot, n
	}
	// shift makes the top 4 bits of n-1 the class within its doubling.
	shift := bits.Len(uint(n-1)) - 4
	step := (n-1)>>shift + 1 // 9 … 16 eighths of the doubling
	return exactClasses + (shift-6)*8 + step - 9, step << shift
}
