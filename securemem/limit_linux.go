package securemem

import (
	"bytes"
	"math"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lockable returns how many bytes one of share Memories may still lock,
// MaxInt64 for no limit. A soft limit below the hard one is raised first: the
// hard limit is what the administrator allowed.
func lockable(share int) int64 {
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
	if limit.Cur >= maxLimit || mayExceed(int(limit.Cur)) {
		return math.MaxInt64
	}
	left := max(0, int64(limit.Cur)-lockedNow())
	return min(left, int64(limit.Cur)/int64(share))
}

// mayExceed reports whether the process can lock more than the limit of that
// many bytes. It has the right with CAP_IPC_LOCK, but the flag alone proves
// nothing: in a user namespace (rootless containers) it is set and the kernel
// does not honour it. So it tries, on pages that nobody touches.
func mayExceed(limit int) bool {
	const more = 1 << 20
	n := uintptr(limit + more)
	p, err := unix.MmapPtr(-1, 0, nil, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return false
	}
	defer func() { _ = unix.MunmapPtr(p, n) }()
	return lockOnFault(unsafe.Slice((*byte)(p), n)) == nil
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
