//go:build !linux

package securemem

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const mapNoReserve = 0

func mapSecret(unsafe.Pointer, int) error { return errors.ErrUnsupported }

func lockOnFault(mem []byte) error { return unix.Mlock(mem) }

// advise does nothing: MADV_DONTDUMP and MADV_DONTFORK are Linux's.
func advise([]byte, protection) error { return nil }

// discard does nothing: only Linux promises zeros afterwards.
func discard([]byte, protection) {}

func haveSecretmem() bool { return false }
