package securemem

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// harden runs the steps in their order. The self-tests come before
// PR_SET_DUMPABLE 0, which makes /proc/self/* root's. m.mu is held.
func (m *Memory) harden() []Check {
	return []Check{
		checkCoreLimit(),
		m.checkRegions(),
		m.checkSelfRead(),
		checkDumpable(),
		checkPtraceScope(),
		m.checkSwap(),
	}
}

func checkCoreLimit() Check {
	c := Check{Name: "core_limit", OK: true, Detail: "RLIMIT_CORE is 0"}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("set RLIMIT_CORE: %v", err)
	}
	return c
}

// checkRegions reads the flags of every region back from the kernel.
func (m *Memory) checkRegions() Check {
	c := Check{Name: "regions"}
	maps, err := readMappings()
	if err != nil {
		c.Detail = fmt.Sprintf("read /proc/self/smaps: %v", err)
		return c
	}
	for reg := range m.regions {
		want := []string{"dd", "dc"} // not dumped, not copied on fork
		if reg.how.locked() {
			want = append(want, "lo")
		}
		if missing := maps.missing(reg, want); missing != "" {
			c.Detail = fmt.Sprintf("region of %s: %s", reg.purpose, missing)
			return c
		}
	}
	c.OK, c.Detail = true, fmt.Sprintf("%d regions out of core dumps and of children", len(m.regions))
	return c
}

// mapping is one entry of /proc/self/smaps.
type mapping struct {
	from, to uintptr
	flags    []string // two letters each: proc(5), VmFlags
}

type mappings []mapping

func readMappings() (mappings, error) {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var all mappings
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && len(all) > 0 {
			all[len(all)-1].flags = strings.Fields(flags)
			continue
		}
		var m mapping
		if n, _ := fmt.Sscanf(line, "%x-%x ", &m.from, &m.to); n == 2 {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

// missing names what the kernel does not say about a region, "" if nothing.
func (all mappings) missing(reg *region, want []string) string {
	at, end := reg.mem.addr(), reg.mem.addr()+uintptr(reg.mem.n)
	for _, m := range all { // in order of address
		if m.to <= at || m.from >= end {
			continue
		}
		if m.from > at {
			break
		}
		for _, flag := range want {
			if !slices.Contains(m.flags, flag) {
				return fmt.Sprintf("flag %q is missing", flag)
			}
		}
		if at = m.to; at >= end {
			return ""
		}
	}
	return "not found in /proc/self/smaps"
}

// checkSelfRead reads keys and buffers the way an attacker would. It must fail.
func (m *Memory) checkSelfRead() Check {
	c := Check{Name: "self_read", OK: true, Detail: "the kernel refuses to read keys and buffers through /proc/PID/mem"}
	for reg := range m.regions {
		if reg.purpose != purposeKeys && reg.purpose != purposePool {
			continue
		}
		switch n, err := readThroughKernel(reg); {
		case n > 0:
			return Check{Name: c.Name, Detail: fmt.Sprintf("backend %s: root can read %s through /proc/PID/mem", m.backend, reg.purpose)}
		case reg.how != secretPages:
			return Check{Name: c.Name, Detail: fmt.Sprintf("backend %s: reading %s could not be tested: %v", m.backend, reg.purpose, err)}
		}
	}
	return c
}

// readThroughKernel reads the first page of a region through /proc/self/mem
// and returns how many bytes came back.
func readThroughKernel(reg *region) (int, error) {
	file, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	scratch := make([]byte, 64)
	defer clear(scratch)
	return file.ReadAt(scratch, int64(reg.mem.addr()))
}

func checkDumpable() Check {
	c := Check{Name: "dumpable", OK: true, Detail: "PR_SET_DUMPABLE is 0"}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("set PR_SET_DUMPABLE: %v", err)
	}
	return c
}

func checkPtraceScope() Check {
	c := Check{Name: "ptrace_scope", Detail: "root can attach: kernel.yama.ptrace_scope is not 3"}
	text, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case err != nil:
		c.Detail = "root can attach: the kernel has no kernel.yama.ptrace_scope"
	case strings.TrimSpace(string(text)) == "3":
		c.OK, c.Detail = true, "nobody can attach: kernel.yama.ptrace_scope is 3"
	}
	return c
}

// checkSwap is content when there is no swap. Keys and buffers are locked in
// any case unless memory.lock is off; sealed records and the rest of the
// process may be swapped out.
func (m *Memory) checkSwap() Check {
	c := Check{Name: "swap"}
	text, err := os.ReadFile("/proc/swaps")
	switch {
	case err != nil:
		c.Detail = fmt.Sprintf("read /proc/swaps: %v", err)
	case strings.Count(strings.TrimSpace(string(text)), "\n") == 0:
		c.OK, c.Detail = true, "no swap"
	case m.mode == LockOff:
		c.Detail = "swap is on and memory is not locked"
	default:
		c.Detail = "swap is on: keys and buffers are locked, the rest of the process is not"
	}
	return c
}
