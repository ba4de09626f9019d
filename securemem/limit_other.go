//go:build !linux

package securemem

import "math"

// lockable returns how many bytes one of share Memories may lock. Systems other
// than Linux have no portable way to ask; mapping tells.
func lockable(int) int64 { return math.MaxInt64 }
