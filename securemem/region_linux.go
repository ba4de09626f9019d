package securemem

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	mapNoReserve = unix.MAP_NORESERVE
	mlockOnFault = 1 // MLOCK_ONFAULT, which x/sys does not name
)

// mapSecret maps n bytes of memfd_secret(2) at p. The descriptor is closed at
// once: an open one could be taken with pidfd_getfd(2) and mapped by another.
func mapSecret(p unsafe.Pointer, n int) error {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_secret: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		return fmt.Errorf("size memfd_secret: %w", err)
	}
	// MAP_SHARED is the only kind memfd_secret knows; MADV_DONTFORK keeps it
	// from children.
	_, err = unix.MmapPtr(fd, 0, p, uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED|unix.MAP_SHARED)
	return err
}

// lockOnFault locks pages as they are touched, so that a reserved arena does
// not cost RAM that it does not use yet.
func lockOnFault(mem []byte) error {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, at, uintptr(len(mem)), mlockOnFault); errno != 0 {
		return fmt.Errorf("mlock2: %w", errno)
	}
	return nil
}

// advise keeps mem out of core dumps and of forked children.
func advise(mem []byte, how protection) error {
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("madvise MADV_DONTDUMP: %w", err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		return fmt.Errorf("madvise MADV_DONTFORK: %w", err)
	}
	if how == hugePages || how == lockedPages {
		// Dependent random reads were 15 % faster (DESIGN.md). A kernel without transparent huge pages answers EINVAL: slower, not wrong.
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	}
	return nil
}

// discard gives the pages of mem, which is wiped, back to the kernel. Where a
// kernel cannot (locked pages: before Linux 5.18), they stay, and stay zero.
func discard(mem []byte, how protection) {
	advice := unix.MADV_DONTNEED
	if how == lockedPages {
		advice = unix.MADV_DONTNEED_LOCKED
	}
	_ = unix.Madvise(mem, advice)
}

// haveSecretmem reports whether the kernel offers memfd_secret(2): Linux 5.14,
// and not switched off with secretmem.enable=0.
func haveSecretmem() bool {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
