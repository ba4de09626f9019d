//go:build linux

package securemem

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"cloakroom"
)

// rlimitMemlock is RLIMIT_MEMLOCK on Linux, which package syscall lacks.
const rlimitMemlock = 8

// withLimit lowers RLIMIT_MEMLOCK of a child.
func withLimit(n uint64) error {
	return syscall.Setrlimit(rlimitMemlock, &syscall.Rlimit{Cur: n, Max: n})
}

// TestEightMiB is the case of a process without privileges on a system with
// the usual limit.
func TestEightMiB(t *testing.T) {
	t.Run("secretmem", func(t *testing.T) {
		if !haveSecretmem() {
			t.Skip("the kernel has no memfd_secret")
		}
		runChild(t, "small limit", true)
	})
	t.Run("namespace", func(t *testing.T) {
		// As in a rootless container: all capabilities, honoured by nobody.
		cmd := childCommand(t, "small limit", false)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Skipf("user namespaces cannot be had here: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, out.String())
		}
	})
	t.Run("memguard", func(t *testing.T) { runChild(t, "small limit, guard", true) })
	t.Run("three in one", func(t *testing.T) {
		if !haveSecretmem() {
			t.Skip("the kernel has no memfd_secret")
		}
		runChild(t, "three in one", true)
	})
	t.Run("tiny", func(t *testing.T) { runChild(t, "tiny limit", true) })
	t.Run("exhausted", func(t *testing.T) { runChild(t, "exhausted limit", true) })
}

func childSmallLimit() error         { return smallLimit(BackendSecretmem) }
func childSmallLimitMemguard() error { return smallLimit(BackendMemguard) }

func smallLimit(backend string) error {
	if err := withLimit(8 << 20); err != nil {
		return err
	}
	_, err := Open(Config{Lock: LockRequired, Backend: backend})
	if err := wantText(err, "RLIMIT_MEMLOCK", "8192 KiB", "LimitMEMLOCK=", "CAP_IPC_LOCK"); err != nil {
		return err
	}
	var log bytes.Buffer
	m, err := Open(Config{Backend: backend, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return err
	}
	s := m.Status()
	if s.Backend != backend || s.ArenaLocked || s.Lockable != 8<<20 {
		return fmt.Errorf("status %+v", s)
	}
	if s.Locked[purposeKeys] != 512<<10 || s.Locked[purposePool] != 2<<20 || s.Locked[purposeArena] != 0 {
		return fmt.Errorf("locked %v", s.Locked)
	}
	if got := m.Pool().MaxBuffer(); got != 512<<10 {
		return fmt.Errorf("largest buffer is %d", got)
	}
	if !strings.Contains(log.String(), "record arena is not locked") {
		return fmt.Errorf("log says nothing: %s", log.String())
	}
	if err := m.Close(); err != nil {
		return err
	}
	// A small arena fits and is locked, under required as well.
	m, err = Open(Config{Lock: LockRequired, Backend: backend, Limit: 4 << 20})
	if err != nil {
		return err
	}
	if s := m.Status(); !s.ArenaLocked || s.Locked[purposeArena] != 4<<20 {
		return fmt.Errorf("small arena: status %+v", s)
	}
	return m.Close()
}

func childTinyLimit() error {
	if err := withLimit(512 << 10); err != nil {
		return err
	}
	if _, err := Open(Config{}); err != nil {
		if err := wantText(err, "RLIMIT_MEMLOCK", "512 KiB", "keys and buffers need 768 KiB"); err != nil {
			return err
		}
	} else {
		return errors.New("opened with too little to lock")
	}
	m, err := Open(Config{Lock: LockOff})
	if err != nil {
		return err
	}
	if s := m.Status(); s.Backend != BackendPlain || len(s.Locked) != 0 || s.ArenaLocked {
		return fmt.Errorf("status %+v", s)
	}
	return m.Close()
}

// childThreeInOne opens three Memories where one process may lock 8 MiB, and a
// fourth in the place of one that was closed.
func childThreeInOne() error {
	if err := withLimit(8 << 20); err != nil {
		return err
	}
	var all [3]*Memory
	open := func(i int) (err error) {
		all[i], err = Open(Config{Share: len(all)})
		if err != nil {
			return fmt.Errorf("number %d: %w", i, err)
		}
		s := all[i].Status()
		if s.Lockable != 8<<20/3 || s.Locked[purposeKeys] != 512<<10 || s.Locked[purposePool] != 1<<20 {
			return fmt.Errorf("number %d: status %+v", i, s)
		}
		for _, c := range all[i].Harden() {
			if (c.Name == "regions" || c.Name == "dumpable" || c.Name == "self_read") && !c.OK {
				return fmt.Errorf("number %d: %+v", i, c)
			}
		}
		return nil
	}
	for i := range all {
		if err := open(i); err != nil {
			return err
		}
	}
	if err := all[1].Close(); err != nil {
		return err
	}
	if err := open(1); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	var faults []error
	for _, m := range all {
		faults = append(faults, m.Close())
	}
	return errors.Join(faults...)
}

// childExhaustedLimit loses the room to lock after Open has planned with it.
func childExhaustedLimit() error {
	open := func(mode LockMode) (*Memory, *Slab, error) {
		if err := withLimit(8 << 20); err != nil {
			return nil, nil, err
		}
		m, err := Open(Config{Lock: mode, Limit: 4 << 20})
		if err != nil {
			return nil, nil, err
		}
		m.arena.limit = 128 << 20 // as if more had been planned
		return m, m.Arena().NewSlab("test"), nil
	}
	fillUp := func(s *Slab) error {
		for range 64 {
			if _, err := s.AllocPages(chunkBytes); err != nil {
				return err
			}
		}
		return nil
	}
	m, s, err := open(LockAuto)
	if err != nil {
		return err
	}
	if err := fillUp(s); err != nil {
		return fmt.Errorf("auto does not fall back: %w", err)
	}
	if m.Status().ArenaLocked {
		return errors.New("auto: status says that the arena is locked")
	}
	if err := m.Close(); err != nil {
		return err
	}
	m, s, err = open(LockRequired)
	if err != nil {
		return err
	}
	if err := fillUp(s); !errors.Is(err, cloakroom.ErrMemoryFull) {
		return fmt.Errorf("required: got %v, want ErrMemoryFull", err)
	}
	return m.Close()
}

func TestPoolSize(t *testing.T) {
	for _, c := range []struct{ lockable, pool, buffer int64 }{
		{8 << 20, 2 << 20, 512 << 10},
		{8<<20 - 64<<10, 1792 << 10, 256 << 10},
		{8 << 20 / 3, 1 << 20, 256 << 10},
		{1 << 20, 512 << 10, 128 << 10},
		{1 << 30, 64 << 20, 16 << 20},
		{1 << 62, 64 << 20, 16 << 20},
	} {
		n := poolSize(c.lockable)
		if int64(n) != c.pool || int64(largestBlock(n)) != c.buffer {
			t.Errorf("%d lockable: pool %d with buffers of %d, want %d and %d", c.lockable, n, largestBlock(n), c.pool, c.buffer)
		}
	}
}
