package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil waits more finely than the runtime's timers, which may round up
// to a millisecond.
func sleepUntil(t time.Time) {
	for wait := time.Until(t); wait > 0; wait = time.Until(t) {
		ts := unix.NsecToTimespec(int64(wait))
		unix.Nanosleep(&ts, nil)
	}
}

// steadyThread keeps the caller on one thread whose timers fire on time: the
// default slack of 50 µs would be measured as latency. Call what it returns
// when done; the thread goes on to do other work, no worse for it.
func steadyThread() (release func()) {
	runtime.LockOSThread()
	// Where prctl is refused, latencies come out larger, never smaller.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return runtime.UnlockOSThread
}
