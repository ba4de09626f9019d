// Package disktest is a file system in memory for tests: it records what is
// done, fails or stalls what it is told to, and materialises what a crash at
// any moment may leave behind.
//
// What was written reads back at once, as from a page cache. What a power cut
// keeps is decided by the record alone: see [FS.Crash].
package disktest

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"cloakroom/cluster/disk"
)

// Kind is what an operation does.
type Kind string

const (
	Create   Kind = "create"
	Read     Kind = "read" // of a file's content; not recorded
	Write    Kind = "write"
	Truncate Kind = "truncate" // Allocate too, which only lengthens
	Sync     Kind = "sync"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Mkdir    Kind = "mkdir"
	SyncDir  Kind = "syncdir"
)

// Op is one operation.
type Op struct {
	Kind Kind
	Path string // the name the file was opened by
	To   string // of a Rename
	Off  int64  // of a Write
	Data []byte // of a Write
	Size int64  // of a Truncate; how many bytes a Read asks for

	file   int  // which file, whatever its name
	failed bool // a Sync that did not come to its end
}

// FS is the file system. It implements [disk.FS] and is safe for concurrent use.
type FS struct {
	mu     sync.Mutex
	before func(Op) error
	free   uint64
	ops    []Op
	serial int
	files  map[string]*inode // by clean path
	dirs   map[string]bool
	locked map[string]bool
}

// inode is a file, whatever its name.
type inode struct {
	id   int
	data []byte
}

// New returns an empty file system with folders at "/" and ".".
func New() *FS {
	return &FS{free: 1 << 40, files: map[string]*inode{},
		dirs: map[string]bool{"/": true, ".": true}, locked: map[string]bool{}}
}

// Before has f called before every operation, reads included. An error makes
// the operation fail with it and do nothing; a [Short] makes a write do a part.
// f may wait, which stalls the operation, and nothing else.
//
// After a Sync that failed, what it should have made durable reads back all the
// same, and no later Sync makes it durable: so Linux does it.
func (f *FS) Before(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = hook
}

// Short makes a write stop after N bytes.
type Short struct {
	N   int
	Err error
}

func (s Short) Error() string { return s.Err.Error() }
func (s Short) Unwrap() error { return s.Err }

// SetFree sets what Free answers.
func (f *FS) SetFree(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = n
}

// Ops returns what was done so far, reads left out.
func (f *FS) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ops)
}

// Files returns the names of all files, sorted.
func (f *FS) Files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := make([]string, 0, len(f.files))
	for name := range f.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Clone returns a copy that goes its own way, with nothing locked and without
// what Before set: the file system after a process was killed.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := New()
	c.free, c.serial, c.ops = f.free, f.serial, slices.Clone(f.ops)
	for name, node := range f.files {
		c.files[name] = &inode{id: node.id, data: slices.Clone(node.data)}
	}
	for name := range f.dirs {
		c.dirs[name] = true
	}
	return c
}

// do runs one operation: the hook first, without the lock.
func (f *FS) do(op Op, act func(*Op) error) error {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	var fault error
	if before != nil {
		fault = before(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if short, ok := fault.(Short); ok && op.Kind == Write && short.N < len(op.Data) {
		op.Data = op.Data[:short.N]
	} else if fault != nil {
		if op.Kind == Sync {
			op.failed = true
			f.ops = append(f.ops, op)
		}
		return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: fault}
	}
	if err := act(&op); err != nil {
		return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: err}
	}
	if op.Kind != Read {
		f.ops = append(f.ops, op)
	}
	if fault != nil {
		return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: fault}
	}
	return nil
}

// Create implements disk.FS.
func (f *FS) Create(name string) (disk.File, error) {
	name = path.Clean(name)
	var node *inode
	err := f.do(Op{Kind: Create, Path: name}, func(op *Op) error {
		if f.files[name] != nil || f.dirs[name] {
			return fs.ErrExist
		}
		if !f.dirs[path.Dir(name)] {
			return fs.ErrNotExist
		}
		f.serial++
		op.file = f.serial
		node = &inode{id: op.file}
		f.files[name] = node
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: node, name: name, writable: true}, nil
}

// Open implements disk.FS.
func (f *FS) Open(name string) (disk.File, error) { return f.open(name, false) }

// Edit implements disk.FS.
func (f *FS) Edit(name string) (disk.File, error) { return f.open(name, true) }

func (f *FS) open(name string, writable bool) (disk.File, error) {
	name = path.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.files[name]
	if node == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{fs: f, node: node, name: name, writable: writable}, nil
}

// ReadFile implements disk.FS.
func (f *FS) ReadFile(name string) ([]byte, error) {
	from, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(from)
}

// Rename implements disk.FS.
func (f *FS) Rename(from, to string) error {
	from, to = path.Clean(from), path.Clean(to)
	return f.do(Op{Kind: Rename, Path: from, To: to}, func(*Op) error {
		if path.Dir(from) != path.Dir(to) {
			return fs.ErrInvalid
		}
		if f.dirs[from] {
			return f.renameDir(from, to)
		}
		if f.files[from] == nil {
			return fs.ErrNotExist
		}
		f.files[to] = f.files[from]
		delete(f.files, from)
		return nil
	})
}

// renameDir moves a folder and all below it.
func (f *FS) renameDir(from, to string) error {
	if f.dirs[to] || f.files[to] != nil {
		return fs.ErrExist
	}
	renameTree(f.files, f.dirs, from, to)
	return nil
}

func renameTree(files map[string]*inode, dirs map[string]bool, from, to string) {
	for name, node := range files {
		if rest, below := strings.CutPrefix(name, from+"/"); below {
			delete(files, name)
			files[to+"/"+rest] = node
		}
	}
	for name := range dirs {
		if rest, below := strings.CutPrefix(name+"/", from+"/"); below {
			delete(dirs, name)
			dirs[path.Clean(to+"/"+rest)] = true
		}
	}
}

// Remove implements disk.FS.
func (f *FS) Remove(name string) error {
	name = path.Clean(name)
	return f.do(Op{Kind: Remove, Path: name}, func(*Op) error {
		switch {
		case f.dirs[name] && len(f.below(name)) > 0:
			return fs.ErrExist
		case !f.dirs[name] && f.files[name] == nil:
			return fs.ErrNotExist
		}
		delete(f.dirs, name)
		delete(f.files, name)
		return nil
	})
}

// RemoveAll implements disk.FS, file by file.
func (f *FS) RemoveAll(name string) error {
	name = path.Clean(name)
	f.mu.Lock()
	all := f.below(name)
	if f.files[name] != nil || f.dirs[name] {
		all = append(all, name)
	}
	f.mu.Unlock()
	for _, each := range all {
		if err := f.Remove(each); err != nil {
			return err
		}
	}
	return nil
}

// below returns everything in a folder, what is deepest first. The caller
// holds mu.
func (f *FS) below(name string) []string {
	var all []string
	for each := range f.files {
		if strings.HasPrefix(each, name+"/") {
			all = append(all, each)
		}
	}
	for each := range f.dirs {
		if strings.HasPrefix(each, name+"/") {
			all = append(all, each)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(b, a) })
	return all
}

// MkdirAll implements disk.FS.
func (f *FS) MkdirAll(name string) error {
	name = path.Clean(name)
	f.mu.Lock()
	there, file := f.dirs[name], f.files[name] != nil
	f.mu.Unlock()
	if there {
		return nil
	}
	if file {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	if err := f.MkdirAll(path.Dir(name)); err != nil {
		return err
	}
	return f.do(Op{Kind: Mkdir, Path: name}, func(*Op) error {
		f.dirs[name] = true
		return nil
	})
}

// ReadDir implements disk.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	name = path.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirs[name] {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var entries []fs.DirEntry
	for each, node := range f.files {
		if path.Dir(each) == name {
			entries = append(entries, info{name: path.Base(each), size: int64(len(node.data))})
		}
	}
	for each := range f.dirs {
		if path.Dir(each) == name && each != name {
			entries = append(entries, info{name: path.Base(each), dir: true})
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Stat implements disk.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	name = path.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if node := f.files[name]; node != nil {
		return info{name: path.Base(name), size: int64(len(node.data))}, nil
	}
	if f.dirs[name] {
		return info{name: path.Base(name), dir: true}, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// SyncDir implements disk.FS.
func (f *FS) SyncDir(name string) error {
	name = path.Clean(name)
	return f.do(Op{Kind: SyncDir, Path: name}, func(*Op) error {
		if !f.dirs[name] {
			return fs.ErrNotExist
		}
		return nil
	})
}

// Lock implements disk.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	name = path.Clean(name)
	held, err := f.Edit(name)
	if err != nil {
		if held, err = f.Create(name); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked[name] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: disk.ErrLocked}
	}
	f.locked[name] = true
	return &lock{File: held, fs: f, name: name}, nil
}

type lock struct {
	disk.File
	fs   *FS
	name string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locked, l.name)
	return nil
}

// Free implements disk.FS.
func (f *FS) Free(string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.free, nil
}

// Drop removes a file behind everybody's back.
func (f *FS) Drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, path.Clean(name))
}

// Peek returns the bytes of a file as they are.
func (f *FS) Peek(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.files[path.Clean(name)].data)
}

// Poke puts bytes into a file behind everybody's back, in the place of what is
// there; a nil cuts it off at off.
func (f *FS) Poke(name string, off int64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node := f.files[path.Clean(name)]
	if data == nil {
		node.data = node.data[:off:off]
		return
	}
	copy(node.data[off:], data)
}

// Image returns a copy of what is there whose record is short: it is durable.
func (f *FS) Image() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := New()
	c.free, c.serial = f.free, f.serial
	for dir := range f.dirs {
		c.dirs[dir] = true
	}
	for name, node := range f.files {
		c.files[name] = &inode{id: node.id, data: node.data}
	}
	c.begin(func(node *inode) []byte { return slices.Clone(node.data) })
	return c
}
