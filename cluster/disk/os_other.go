//go:build !linux

package disk

import (
	"errors"
	"io"
	"math"
	"os"
)

// Allocate implements File.
func (f osFile) Allocate(size int64) error { return f.lengthen(size) }

// Lock implements FS: a node runs on Linux only.
func (osFS) Lock(name string) (io.Closer, error) {
	return nil, &os.PathError{Op: "lock", Path: name, Err: errors.ErrUnsupported}
}

// Free implements FS. Nobody has asked this system.
func (osFS) Free(string) (uint64, error) { return math.MaxUint64, nil }
