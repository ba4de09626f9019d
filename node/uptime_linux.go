package node

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// newUptime returns the clock of [uptime].
func newUptime() func() time.Duration { return uptime }

// uptime returns the time since the machine was started. Unlike Go's monotonic
// clock it goes on while the machine sleeps: a node that slept must not take
// its read leases for fresh.
func uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // every kernel since 2.6.39 has it
	}
	return time.Duration(now.Nano())
}
