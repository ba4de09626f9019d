package cluster

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wal"
)

// member is one life of a local replica, with its state. What finds it in its
// group under Cluster.reading may use the state until it gives that up.
type member struct {
	self       replica.Identity
	generation uint32 // of its group
	id         []byte // of self, for the wire
	replica    *replica.Replica
	machine    Machine            // of a shard; nil for the directory
	ledger     *directory.Machine // of the directory; nil for a shard
	state      io.Closer          // gives the state's memory back; nil: nothing to give
	stream     io.Closer          // nil: reaches nobody
	store      *wal.Store         // of the directory's log; nil: in memory

	broken atomic.Bool                // for tests: a machine of the directory that fails
	voters atomic.Pointer[electorate] // of its group while it leads

	// written is the index of the last entry applied, the last time apart; 0
	// after a snapshot was taken over. See granted.
	written atomic.Uint64

	table   lease.Table  // what it granted while it led
	lease   lease.Holder // until when it may answer reads
	holding atomic.Int32 // grants that wait for their index
	// Of renewLeases: whom it asked last for a lease, and when.
	leader string
	asked  time.Duration
}

// startMember starts a replica. It founds its group, or waits to be contacted
// by the group's leader. It is not put into the group yet.
//
// No identity is started twice: the second replica has an empty log, and would
// forget what the first has voted for and stored.
func (c *Cluster) startMember(g *group, self replica.Identity, found bool) (m *member, err error) {
	if !c.spend(self.ID) {
		return nil, fmt.Errorf("start replica of %s: its identity was used before: %w", g.id, cloakroom.ErrConflict)
	}
	defer func() {
		if err != nil {
			c.unspent(self.ID) // it never ran
		}
	}()
	m = &member{self: self, generation: g.generation.Load(), id: []byte(self.ID)}
	machine, err := c.machineFor(g, m)
	if err != nil {
		return nil, fmt.Errorf("make state of %s: %w", g.id, err)
	}
	conf := replica.Config{
		Group: g.id.String(), Generation: m.generation, Identity: self, Found: found, Machine: machine,
		MapLog: c.cfg.MapLog, UnmapLog: c.cfg.UnmapLog, LogBudget: c.cfg.LogBudget, Logger: c.cfg.Logger,
		SealSnapshot: c.cfg.SealSnapshot, OpenSnapshot: c.cfg.OpenSnapshot, SnapshotSize: c.cfg.SnapshotSize,
		Hazards: c.cfg.hazards.replica,
	}
	if g.id == directory.DirectoryGroup {
		conf.LogBudget = c.cfg.DirectoryLogBudget
		if c.cfg.Disk != nil {
			if m.store, err = c.store(g, self); err != nil {
				m.release()
				return nil, err
			}
			conf.Store = m.store
		}
	}
	if err := c.connect(g, m, &conf); err != nil {
		m.release()
		return nil, err
	}
	if m.replica, err = replica.New(conf); err != nil {
		m.release()
		return nil, err
	}
	return m, nil
}

// spend marks an identity as used. It returns false if it was before.
func (c *Cluster) spend(id string) bool {
	c.spent.Lock()
	defer c.spent.Unlock()
	if c.spent.ids[id] {
		return false
	}
	c.spent.ids[id] = true
	return true
}

func (c *Cluster) unspent(id string) {
	c.spent.Lock()
	defer c.spent.Unlock()
	delete(c.spent.ids, id)
}

// isSpent reports whether a replica of that identity was started in this
// process.
func (c *Cluster) isSpent(id string) bool {
	c.spent.Lock()
	defer c.spent.Unlock()
	return c.spent.ids[id]
}

// serves reports whether the replica is in service: not parked, not closed.
func (m *member) serves() bool {
	_, _, err := m.replica.Members()
	return err == nil
}

// connect gives a replica its way to the others, if there are any.
func (c *Cluster) connect(g *group, m *member, conf *replica.Config) error {
	if c.net == nil {
		return nil
	}
	stream, err := c.net.stream(g, m.self)
	if err != nil {
		return fmt.Errorf("open stream of %s: %w", g.id, err)
	}
	m.stream, conf.Stream = stream, stream
	return nil
}

// machineFor makes the state machine of a member.
func (c *Cluster) machineFor(g *group, m *member) (replica.Machine, error) {
	shard, ok := g.id.Shard()
	if !ok {
		m.ledger = directory.New()
		return &directoryMachine{Machine: m.ledger, publish: c.publish, open: c.openDirectory, broken: &m.broken}, nil
	}
	machine, err := c.cfg.Machine(shard)
	if err != nil {
		return nil, err
	}
	m.machine = machine
	m.state, _ = machine.(io.Closer)
	return &sealedMachine{Machine: machine, open: c.cfg.OpenBatch, group: uint32(shard), generation: m.generation, written: &m.written}, nil
}

// release gives back what a member holds beside its replica.
func (m *member) release() error {
	var faults []error
	for _, part := range []io.Closer{m.stream, m.state} {
		if part != nil {
			faults = append(faults, part.Close())
		}
	}
	if m.store != nil {
		faults = append(faults, m.store.Close())
	}
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}

// seat makes m the group's member.
func (c *Cluster) seat(g *group, m *member) {
	g.member.Store(m)
	g.changed.Ring()
}

// retire takes the member out of its group, waits for its readers, stops it
// and gives back what it held.
func (c *Cluster) retire(g *group) {
	c.reading.Lock()
	m := g.member.Swap(nil)
	c.reading.Unlock()
	if m == nil {
		return
	}
	g.changed.Ring()
	err := m.replica.Close()
	if other := m.release(); err == nil {
		err = other
	}
	if err != nil {
		c.cfg.Logger.Warn("replica did not close", "group", g.id.String(), "error", err)
	}
}
