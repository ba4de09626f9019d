//go:build !linux

package securemem

import "math"

// lockable returns how many bytes the process may lock. Systems other than
// Linux have no portable way to ask; mapping tells.
func lockable() int64 { return math.MaxInt64 }
