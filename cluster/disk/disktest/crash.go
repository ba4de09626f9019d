package disktest

import (
	"maps"
	"path"
	"slices"
)

// Keep decides what of the things that were under way a crash keeps.
type Keep struct {
	pick func(n int) int // nil: all or nothing
	all  bool
}

// Nothing keeps what was made durable, and nothing else.
func Nothing() Keep { return Keep{} }

// Everything keeps all that was done: a process killed, not a power cut.
func Everything() Keep { return Keep{all: true} }

// Some keeps what pick chooses, which returns a number from 0 to n-1: of writes
// to a file any of their 512-byte sectors, in any order; of what was done in a
// folder a beginning.
func Some(pick func(n int) int) Keep { return Keep{pick: pick} }

func (k Keep) yes() bool { return k.first(1) == 1 }

// first returns how many of n things done one after the other are kept.
func (k Keep) first(n int) int {
	switch {
	case k.pick != nil:
		return k.pick(n + 1)
	case k.all:
		return n
	}
	return 0
}

// Crash returns what is there after a power cut that followed the first n
// operations: all that was made durable, and what keep says of the rest. A file
// whose name was not made durable is not there, however durable its content.
// The new file system has this state for its beginning.
func (f *FS) Crash(n int, keep Keep) *FS {
	f.mu.Lock()
	ops := slices.Clone(f.ops[:n])
	serial, free := f.serial, f.free
	f.mu.Unlock()
	c := &crash{keep: keep, names: New(), content: map[int]*content{}, folders: map[string][]Op{}}
	for _, op := range ops {
		c.replay(op)
	}
	after := c.end()
	after.serial, after.free = serial, free
	return after
}

// crash replays a record: what is durable, and what is under way.
type crash struct {
	keep    Keep
	names   *FS // durable names; the content of its files is not used
	content map[int]*content
	folders map[string][]Op // what was done to names, by folder, not durable yet
}

// content is a file's bytes.
type content struct {
	durable []byte
	pending []Op // of this file, not durable yet
	adrift  []Op // of before a Sync that failed: nobody makes them durable any more
}

func (c *crash) replay(op Op) {
	switch op.Kind {
	case Create:
		c.content[op.file] = &content{}
		c.note(op)
	case Mkdir, Remove, Rename:
		c.note(op)
	case Write, Truncate:
		c.content[op.file].pending = append(c.content[op.file].pending, op)
	case Sync:
		file := c.content[op.file]
		if op.failed {
			file.adrift = append(file.adrift, file.pending...)
		} else {
			for _, each := range file.pending {
				file.apply(each)
			}
		}
		file.pending = nil
	case SyncDir:
		for _, each := range c.folders[op.Path] {
			c.names.name(each)
		}
		delete(c.folders, op.Path)
	}
}

func (c *crash) note(op Op) {
	dir := path.Dir(op.Path)
	c.folders[dir] = append(c.folders[dir], op)
}

// end decides what is kept of what is under way.
func (c *crash) end() *FS {
	for _, dir := range slices.Sorted(maps.Keys(c.folders)) { // a seed decides the same every time
		under := c.folders[dir]
		for _, op := range under[:c.keep.first(len(under))] {
			c.names.name(op)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.content)) {
		file := c.content[id]
		for _, op := range append(file.adrift, file.pending...) {
			file.applySome(op, c.keep)
		}
	}
	c.names.begin(func(node *inode) []byte { return slices.Clone(c.content[node.id].durable) })
	return c.names
}

// begin drops what lost its folder, and records the rest as durable.
func (f *FS) begin(content func(*inode) []byte) {
	for _, dir := range slices.Sorted(maps.Keys(f.dirs)) { // a folder comes before those in it
		if parent := path.Dir(dir); parent != dir && !f.dirs[parent] {
			delete(f.dirs, dir)
			continue
		}
		f.ops = append(f.ops, Op{Kind: Mkdir, Path: dir}, Op{Kind: SyncDir, Path: path.Dir(dir)})
	}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		node := f.files[name]
		if !f.dirs[path.Dir(name)] {
			delete(f.files, name)
			continue
		}
		node.data = content(node)
		f.ops = append(f.ops,
			Op{Kind: Create, Path: name, file: node.id},
			Op{Kind: Write, Path: name, Data: slices.Clone(node.data), file: node.id},
			Op{Kind: Sync, Path: name, file: node.id},
			Op{Kind: SyncDir, Path: path.Dir(name)})
	}
}

// name carries out an operation on names.
func (f *FS) name(op Op) {
	switch op.Kind {
	case Create:
		f.files[op.Path] = &inode{id: op.file}
	case Mkdir:
		f.dirs[op.Path] = true
	case Remove:
		delete(f.files, op.Path)
		delete(f.dirs, op.Path)
	case Rename:
		if node := f.files[op.Path]; node != nil {
			f.files[op.To] = node
			delete(f.files, op.Path)
		} else if f.dirs[op.Path] {
			renameTree(f.files, f.dirs, op.Path, op.To)
		}
	}
}

func (c *content) apply(op Op) {
	if op.Kind == Truncate {
		c.durable = resize(slices.Clone(c.durable), op.Size)
		return
	}
	c.durable = writeAt(c.durable, op.Data, op.Off)
}

// sector is what a disk writes all of or nothing.
const sector = 512

// applySome carries out a part of op.
func (c *content) applySome(op Op, keep Keep) {
	if op.Kind == Truncate {
		if keep.yes() {
			c.apply(op)
		}
		return
	}
	for len(op.Data) > 0 {
		n := min(len(op.Data), int(sector-op.Off%sector))
		if keep.yes() {
			c.apply(Op{Kind: Write, Off: op.Off, Data: op.Data[:n]})
		}
		op.Off, op.Data = op.Off+int64(n), op.Data[n:]
	}
}
