//go:build unix

package api

import "syscall"

const canPull = true

// pull reads what is there. again means that nothing is there yet.
func pull(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err == syscall.EAGAIN, err
		}
	}
}
