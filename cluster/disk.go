package cluster

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/disk"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wal"
)

// Disk is where this node's replica of the directory keeps its log. The logs
// of shards are in memory.
type Disk struct {
	FS  disk.FS
	Dir string // a folder for each replica; made if need be
	// Boot is the number of this start of the node's folder, from 1. It is on
	// disk already, and higher than in every start before.
	Boot uint64
	// Raise has the folder count on from a start that the cluster knows of and
	// the folder does not, and returns the number of this one.
	Raise func(registered uint64) (boot uint64, err error)
	// Seen is the latest boot that Opened was told, in an earlier start: a log
	// that knows only earlier ones was put back from a copy, and is damaged. 0:
	// none. Opened notes that the log was opened, durably.
	Seen   uint64
	Opened func(boot uint64) error
	// Returning: the node belongs to the cluster. It never founds one.
	Returning bool
}

// check returns the faults of a disk.
func (d *Disk) check() (faults []error) {
	if d.FS == nil || d.Dir == "" || d.Boot == 0 || d.Raise == nil || d.Opened == nil {
		faults = append(faults, errors.New("cluster: Disk.FS, Dir, Boot, Raise and Opened are needed"))
	}
	return faults
}

// ErrDamaged says that this node's log of the directory can't be trusted, and
// that no other node is known that has it.
var ErrDamaged = errors.New("this node's log of the directory is damaged, and it knows no other node that has it")

// asideMark is in the name of a folder that was set aside.
const asideMark = ".aside-"

// founds reports whether this node is to found the cluster.
func (c *Cluster) founds() bool {
	if c.cfg.Disk != nil {
		return !c.cfg.Disk.Returning
	}
	return c.net == nil || len(c.cfg.Network.Seeds) == 0
}

// own returns the identity of this node's replica of the directory: the one
// whose log is on disk (kept), or a new one.
func (c *Cluster) own() (self replica.Identity, kept bool, err error) {
	if c.cfg.Disk != nil {
		if self, kept, err = c.kept(); kept || err != nil {
			return self, kept, err
		}
	}
	self, err = newIdentity(c.cfg.Rand)
	return self, false, err
}

// kept returns the replica whose folder is here. What is no replica, or was
// one of a founding that did not come to its end, is taken away; a damaged one
// is set aside, if others may have the directory.
func (c *Cluster) kept() (self replica.Identity, found bool, err error) {
	d := c.cfg.Disk
	if !d.Returning {
		if err := d.FS.RemoveAll(d.Dir); err != nil {
			return self, false, fmt.Errorf("clear folder of the directory: %w", err)
		}
	}
	if err := d.FS.MkdirAll(d.Dir); err != nil {
		return self, false, fmt.Errorf("make folder of the directory: %w", err)
	}
	entries, err := d.FS.ReadDir(d.Dir)
	if err != nil {
		return self, false, fmt.Errorf("read folder of the directory: %w", err)
	}
	newest := uint64(0)
	for _, entry := range entries {
		if strings.Contains(entry.Name(), asideMark) {
			continue
		}
		id, boot, err := wal.Look(d.FS, filepath.Join(d.Dir, entry.Name()))
		switch {
		case errors.Is(err, wal.ErrNone):
			err = d.FS.RemoveAll(filepath.Join(d.Dir, entry.Name()))
		case errors.Is(err, wal.ErrDamaged):
			err = c.setAside(entry.Name(), err)
		case err == nil && boot > newest:
			self, newest, found = replica.Identity{ID: id.ID, Addr: id.Addr}, boot, true
		}
		if err != nil {
			return self, false, err
		}
	}
	return self, found, nil
}

// setAside takes the folder of a replica that is damaged or done with out of
// the way.
func (c *Cluster) setAside(id string, reason error) error {
	d := c.cfg.Disk
	if errors.Is(reason, wal.ErrDamaged) && len(c.cfg.Network.Seeds) == 0 {
		return fmt.Errorf("%w: %w", ErrDamaged, reason)
	}
	c.cfg.Logger.Error("replica of the directory set aside", "replica", id, "error", reason)
	return wal.SetAside(d.FS, filepath.Join(d.Dir, id), c.boot())
}

// startOther sets the kept replica's folder aside, which was found damaged, and
// starts another one, whose identity is in self then.
func (c *Cluster) startOther(self *replica.Identity, reason error) (m *member, err error) {
	if err := c.setAside(self.ID, reason); err != nil {
		return nil, err
	}
	if *self, err = newIdentity(c.cfg.Rand); err != nil {
		return nil, err
	}
	return c.startMember(&c.desk.group, *self, false)
}

// store opens the folder of a replica of the directory, or makes it.
func (c *Cluster) store(g *group, self replica.Identity) (*wal.Store, error) {
	d := c.cfg.Disk
	past := &recall{c: c, machine: directory.New()}
	conf := wal.Config{
		FS: d.FS, Dir: filepath.Join(d.Dir, self.ID), Boot: c.boot(), Logger: c.cfg.Logger,
		Identity: wal.Identity{Group: g.id.String(), Generation: g.generation.Load(), ID: self.ID, Addr: self.Addr},
		Check:    past.entry, CheckSnapshot: past.snapshot,
	}
	_, _, err := wal.Look(d.FS, conf.Dir)
	open := wal.Create
	switch {
	case err == nil:
		conf.Seen, open = d.Seen, wal.Open
	case !errors.Is(err, wal.ErrNone):
		return nil, err
	}
	store, err := open(conf)
	if err != nil {
		return nil, err
	}
	if err := d.Opened(conf.Boot); err != nil {
		return nil, errors.Join(fmt.Errorf("note that the log was opened: %w", err), store.Close())
	}
	past.end()
	return store, nil
}

// recall is the directory as the log on disk has it, committed or not: who
// the others are and where, until the group itself can say.
type recall struct {
	c       *Cluster
	machine *directory.Machine
	index   uint64      // up to which machine has it
	over    atomic.Bool // the log was read
}

// end shows what was read.
func (r *recall) end() {
	r.over.Store(true)
	if view := r.machine.Load(); view.Epoch > 0 {
		r.c.recalled.Store(view)
	}
	r.machine = nil // the store keeps the recall, to check what it writes later
}

// entry opens an entry of the log. The log of a directory that can't be opened
// is not the cluster's, or damaged.
func (r *recall) entry(index uint64, sealed []byte) error {
	data, err := r.c.openDirectory(nil, sealed)
	if err != nil {
		return err
	}
	if !r.over.Load() && index > r.index { // the log begins before the snapshot ends
		r.machine.Apply(index, data)
		r.index = index
	}
	return nil
}

// snapshot reads a snapshot to its end.
func (r *recall) snapshot(from io.Reader, of wal.Snapshot) error {
	opened, err := from, error(nil)
	if r.c.cfg.OpenSnapshot != nil {
		opened, err = r.c.cfg.OpenSnapshot(from, SnapshotInfo{Group: directory.DirectoryGroup.String(),
			Generation: r.c.desk.generation.Load(), Index: of.Index, Term: of.Term})
		if err != nil {
			return err
		}
	}
	machine := directory.New()
	if err := machine.Restore(opened); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, opened); err != nil {
		return err
	}
	if !r.over.Load() {
		r.machine, r.index = machine, of.Index
	}
	return nil
}

// known is the newest this node knows of the directory: its view, or before it
// has one what the log on disk recalls.
func (c *Cluster) known() *directory.View {
	view := c.Directory()
	if recalled := c.recalled.Load(); recalled != nil && recalled.Epoch > view.Epoch {
		return recalled
	}
	return view
}

// Known returns the newest this node knows of the directory, which before it
// has come back is what its log on disk recalls: enough to tell who may speak
// to it, and nothing to decide a request by.
func (c *Cluster) Known() *directory.View { return c.known() }

// boot is the number of this start, 0 without a folder.
func (c *Cluster) boot() uint64 { return c.started.Load() }

// sealDirectory and openDirectory stand between commands of the directory and
// its log.
func (c *Cluster) sealDirectory(dst, data []byte) ([]byte, error) {
	if c.cfg.SealDirectory == nil {
		return append(dst, data...), nil
	}
	return c.cfg.SealDirectory(dst, uint32(directory.DirectoryGroup), c.desk.generation.Load(), data)
}

func (c *Cluster) openDirectory(dst, sealed []byte) ([]byte, error) {
	if c.cfg.OpenDirectory == nil {
		return append(dst, sealed...), nil
	}
	return c.cfg.OpenDirectory(dst, uint32(directory.DirectoryGroup), c.desk.generation.Load(), sealed)
}

// dismiss ends the group's member for good: its folder, if it has one, is set
// aside, and its identity is not used again.
func (c *Cluster) dismiss(g *group, reason string) {
	m := g.member.Load()
	c.retire(g)
	if m == nil || m.store == nil {
		return
	}
	if err := c.setAside(m.self.ID, errors.New(reason)); err != nil {
		c.cfg.Logger.Error("replica of the directory not set aside", "replica", m.self.ID, "error", err)
	}
}
