//go:build !linux

package node

import "time"

// newUptime returns a clock that counts from now and is never set. Where
// monotonic time stands still while the machine sleeps, a node that slept may
// answer from a lease that is over: Cloakroom is served on Linux, elsewhere it
// is for trying out.
func newUptime() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}
