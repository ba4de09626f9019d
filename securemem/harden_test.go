//go:build linux

package securemem

import (
	"fmt"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestHarden(t *testing.T) {
	if !haveSecretmem() {
		t.Skip("the kernel has no memfd_secret")
	}
	t.Run("root", func(t *testing.T) { runChild(t, "harden", false) })
	t.Run("nobody", func(t *testing.T) { runChild(t, "harden", true) })
	t.Run("memguard", func(t *testing.T) { runChild(t, "harden, memguard", false) })
}

// hardened opens, hardens and returns the checks by name.
func hardened(cfg Config) (*Memory, map[string]Check, error) {
	m, err := Open(cfg)
	if err != nil {
		return nil, nil, err
	}
	if _, err := m.MapPlain("log", 1<<20); err != nil {
		return nil, nil, err
	}
	checks := map[string]Check{}
	for _, c := range m.Harden() {
		checks[c.Name] = c
	}
	if len(checks) != 6 || len(m.Status().Hardening) != 6 || len(m.Harden()) != 6 {
		return nil, nil, fmt.Errorf("checks %v", checks)
	}
	for _, name := range []string{"core_limit", "regions", "dumpable"} {
		if !checks[name].OK {
			return nil, nil, fmt.Errorf("check %+v", checks[name])
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		return nil, nil, fmt.Errorf("RLIMIT_CORE %+v, %v", limit, err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		return nil, nil, fmt.Errorf("dumpable is %d, %v", dumpable, err)
	}
	return m, checks, nil
}

func childHarden() error {
	m, checks, err := hardened(Config{Backend: BackendSecretmem})
	if err != nil {
		return err
	}
	if !checks["self_read"].OK {
		return fmt.Errorf("check %+v", checks["self_read"])
	}
	return m.Close()
}

func childHardenMemguard() error {
	m, checks, err := hardened(Config{Backend: BackendMemguard, Limit: 1 << 20})
	if err != nil {
		return err
	}
	if checks["self_read"].OK {
		return fmt.Errorf("memguard cannot pass %+v", checks["self_read"])
	}
	return m.Close()
}

// TestKernelCannotReadSecretmem reads regions the way root would; the plain
// one shows that the test can fail.
func TestKernelCannotReadSecretmem(t *testing.T) {
	if !haveSecretmem() {
		t.Skip("the kernel has no memfd_secret")
	}
	for _, c := range []struct {
		how      protection
		readable bool
	}{{secretPages, false}, {plainPages, true}, {lockedPages, true}} {
		reg, err := mapRegion("test", 1<<16, 1<<12, c.how)
		if err != nil {
			t.Fatal(err)
		}
		copy(reg.mem.bytes(), "some content that makes the page present")
		n, err := readThroughKernel(reg)
		if (n > 0) != c.readable {
			t.Errorf("protection %d: read %d bytes, %v", c.how, n, err)
		}
		if err := reg.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMissingFlagIsFound makes the check of regions fail.
func TestMissingFlagIsFound(t *testing.T) {
	reg, err := mapRegion("test", 1<<16, 1<<12, plainPages)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.close() }()
	ask := func(flags ...string) string {
		all, err := readMappings()
		if err != nil {
			t.Fatal(err)
		}
		return all.missing(reg, flags)
	}
	if got := ask("dd", "dc"); got != "" {
		t.Errorf("region %s", got)
	}
	if ask("dd", "lo") == "" {
		t.Error("an unlocked region passes as locked")
	}
	if err := unix.Madvise(reg.mem.bytes()[1<<12:1<<13], unix.MADV_DODUMP); err != nil {
		t.Fatal(err)
	}
	if ask("dd") == "" {
		t.Error("a region with a dumped page in its middle passes")
	}
}

// TestGuardPages runs over both ends of regions.
func TestGuardPages(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, how := range []protection{plainPages, hugePages, lockedPages, secretPages, memguardPages} {
		if how == secretPages && !haveSecretmem() {
			continue
		}
		reg, err := mapRegion("test", 1<<16, 1<<12, how)
		if err != nil {
			t.Fatal(err)
		}
		first := reg.mem.at
		if !faults(unsafe.Add(first, -1)) || !faults(unsafe.Add(first, reg.mem.n)) {
			t.Errorf("protection %d: no guard page", how)
		}
		if faults(first) || faults(unsafe.Add(first, reg.mem.n-1)) {
			t.Errorf("protection %d: the region itself faults", how)
		}
		if err := reg.close(); err != nil {
			t.Error(err)
		}
	}
}

// faults writes a byte and reports whether that faulted.
func faults(p unsafe.Pointer) (faulted bool) {
	defer func() { faulted = recover() != nil }()
	*(*byte)(p) = 1
	return false
}
