// Package disk is the one way to files for what outlives a process: logs,
// snapshots, a node's folder. It owns the small interface [FS] and the order of
// calls that makes a change durable; it knows nothing of what is written.
//
// Files are made 0600 and folders 0700. An [FS] is safe for concurrent use, a
// [File] for concurrent ReadAt and WriteAt. disktest has one in memory that
// injects faults and materialises what a crash may leave behind.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// FS is a file system. Names are paths as the os package takes them; errors
// answer errors.Is for fs.ErrExist, fs.ErrNotExist, and syscall.EIO or ENOSPC.
//
// What was written is durable after [File.Sync]; that a name exists, is gone or
// stands for another file, after SyncDir of its folder.
type FS interface {
	// Create makes a new file to read and write. One of that name must not exist.
	Create(name string) (File, error)
	// Open opens a file to read.
	Open(name string) (File, error)
	// Edit opens a file that exists to read and write.
	Edit(name string) (File, error)
	ReadFile(name string) ([]byte, error)
	// Rename replaces to if it exists. Both stand in the same folder.
	Rename(from, to string) error
	Remove(name string) error
	// RemoveAll removes a folder and all below it; nothing there is no error.
	RemoveAll(name string) error
	// MkdirAll makes a folder and those above it.
	MkdirAll(name string) error
	// ReadDir returns what is in a folder, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	SyncDir(name string) error
	// Lock takes a file, made if need be, for this process alone until it is
	// closed or the process ends. It answers ErrLocked if another one has it.
	Lock(name string) (io.Closer, error)
	// Free returns how many bytes may still be written below name.
	Free(name string) (uint64, error)
}

// File is an open file.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Allocate makes the file at least size bytes long, zeros at the end, and
	// has the disk set that much aside where it can.
	Allocate(size int64) error
	Truncate(size int64) error
	// Sync returns when what was written is durable. After an error nobody
	// knows what is: the kernel may have dropped it and call it written.
	Sync() error
	Stat() (fs.FileInfo, error)
}

// ErrLocked is the answer of FS.Lock while somebody else has the file.
var ErrLocked = errors.New("locked by another process")

// Replace makes data the content of the file at name, all of it or, after an
// error or a crash, none: written beside it, made durable, then renamed. It
// returns when the change is durable. The folder must exist.
func Replace(fsys FS, name string, data []byte) error {
	return ReplaceBy(fsys, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// TempSuffix ends the name of a file that Replace has not finished. One that a
// crash left behind is overwritten by the next Replace, and means nothing.
const TempSuffix = ".tmp"

// ReplaceBy is Replace for content that write writes.
func ReplaceBy(fsys FS, name string, write func(io.Writer) error) error {
	temp := name + TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	err := writeNew(fsys, temp, write)
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		fsys.Remove(temp) // as well as may be: it means nothing
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}

// writeNew makes a file with what write writes, durable but for its name.
func writeNew(fsys FS, name string, write func(io.Writer) error) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
