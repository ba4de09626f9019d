package securemem

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// protection is how a region's pages are kept from being seen.
type protection uint8

const (
	// plainPages are ordinary anonymous memory, kept out of core dumps.
	plainPages protection = iota
	// hugePages are plainPages for which the kernel is asked for 2 MiB pages.
	hugePages
	// lockedPages are hugePages locked into RAM as they are touched.
	lockedPages
	// secretPages are memfd_secret(2) pages: locked, and outside the kernel's
	// direct map, so that not even root reads them from outside.
	secretPages
	// memguardPages are one memguard LockedBuffer.
	memguardPages
)

// locked reports whether such pages count against RLIMIT_MEMLOCK.
func (p protection) locked() bool { return p >= lockedPages }

// region is one mapping with a guard page before and after it.
//
//	PROT_NONE page | (alignment) | mem | (rest) | PROT_NONE page
type region struct {
	mem     span
	purpose string
	how     protection
	release func() error // unmaps; mem is wiped before
}

// close wipes and unmaps the region. Any pointer into it faults from now on.
func (r *region) close() error {
	clear(r.mem.bytes())
	r.mem = span{}
	return r.release()
}

// mapRegion maps n bytes (whole pages) at a multiple of align (a power of
// two). It fails when the kernel refuses the protection; it never falls back.
func mapRegion(purpose string, n, align int, how protection) (*region, error) {
	if how == memguardPages {
		return mapMemguard(purpose, n)
	}
	page := os.Getpagesize()
	outer := n + align + 2*page
	start, err := unix.MmapPtr(-1, 0, nil, uintptr(outer), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes for %s: %w", outer, purpose, err)
	}
	unmap := func() error { return unix.MunmapPtr(start, uintptr(outer)) }
	first := (uintptr(start) + uintptr(page) + uintptr(align) - 1) &^ (uintptr(align) - 1)
	at := unsafe.Add(start, first-uintptr(start))
	if err := fillRegion(at, n, how); err != nil {
		_ = unmap()
		return nil, fmt.Errorf("map %d bytes for %s: %w", n, purpose, err)
	}
	return &region{mem: span{at: at, n: n}, purpose: purpose, how: how, release: unmap}, nil
}

// fillRegion maps readable pages over the reservation at p and advises the
// kernel about them.
func fillRegion(p unsafe.Pointer, n int, how protection) error {
	const rw = unix.PROT_READ | unix.PROT_WRITE
	if how == secretPages {
		if err := mapSecret(p, n); err != nil {
			return err
		}
	} else if _, err := unix.MmapPtr(-1, 0, p, uintptr(n), rw, unix.MAP_FIXED|unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return err
	}
	mem := unsafe.Slice((*byte)(p), n)
	if how == lockedPages {
		if err := lockOnFault(mem); err != nil {
			return err
		}
	}
	return advise(mem, how)
}
