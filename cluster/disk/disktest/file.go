package disktest

import (
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// file is an open file.
type file struct {
	fs       *FS
	node     *inode
	name     string
	writable bool

	mu     sync.Mutex
	at     int64 // of Read and Write
	closed bool
}

// do runs one operation on the file.
func (f *file) do(op Op, act func(*Op) error) error {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	switch {
	case closed:
		return &fs.PathError{Op: string(op.Kind), Path: f.name, Err: fs.ErrClosed}
	case op.Kind != Read && op.Kind != Sync && !f.writable:
		return &fs.PathError{Op: string(op.Kind), Path: f.name, Err: fs.ErrPermission}
	}
	op.Path, op.file = f.name, f.node.id
	return f.fs.do(op, act)
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	end := false
	err = f.do(Op{Kind: Read, Off: off, Size: int64(len(p))}, func(*Op) error {
		if off < int64(len(f.node.data)) {
			n = copy(p, f.node.data[off:])
		}
		end = n < len(p)
		return nil
	})
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.do(Op{Kind: Write, Off: off, Data: slices.Clone(p)}, func(op *Op) error {
		n = len(op.Data) // a short write has less
		f.node.data = writeAt(f.node.data, op.Data, op.Off)
		return nil
	})
	return n, err
}

// Allocate implements disk.File.
func (f *file) Allocate(size int64) error {
	f.fs.mu.Lock()
	long := int64(len(f.node.data)) >= size
	f.fs.mu.Unlock()
	if long {
		return nil
	}
	return f.Truncate(size)
}

// Truncate implements disk.File.
func (f *file) Truncate(size int64) error {
	return f.do(Op{Kind: Truncate, Size: size}, func(*Op) error {
		f.node.data = resize(f.node.data, size)
		return nil
	})
}

// Sync implements disk.File.
func (f *file) Sync() error {
	return f.do(Op{Kind: Sync}, func(*Op) error { return nil })
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return info{name: f.name, size: int64(len(f.node.data))}, nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

func writeAt(data, p []byte, off int64) []byte {
	if end := off + int64(len(p)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[off:], p)
	return data
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// info tells of a file or a folder.
type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) IsDir() bool                { return i.dir }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
