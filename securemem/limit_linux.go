package securemem

import (
	"bytes"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lockable returns how many bytes the process may still lock, MaxInt64 for no
// limit. A soft limit below the hard one is raised first: the hard limit is
// what the administrator allowed.
func lockable() int64 {
	if mayLockAnything() {
		return math.MaxInt64
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil {
		return 0
	}
	if limit.Cur < limit.Max {
		raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &raised) == nil {
			limit = raised
		}
	}
	if limit.Cur >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(0, int64(limit.Cur)-lockedNow())
}

// mayLockAnything reports whether the process has CAP_IPC_LOCK. In a user
// namespace the capability is worth nothing to mlock; [Open] finds that out
// when it maps, and falls back.
func mayLockAnything() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// lockedNow is the VmLck line of /proc/self/status in bytes, 0 if unreadable.
func lockedNow() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmLck:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
