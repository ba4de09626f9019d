package replica

import (
	"fmt"
	"testing"

	"cloakroom/cluster/disk/disktest"
	"cloakroom/cluster/wal"
)

// durable is a group whose replicas keep their logs on disks of their own.
type durable struct {
	*group
	disks map[string]*disktest.FS
	boots map[string]uint64
	store map[string]*wal.Store
}

func newDurable(t testing.TB, change func(*Config), names ...string) *durable {
	d := &durable{disks: map[string]*disktest.FS{}, boots: map[string]uint64{}, store: map[string]*wal.Store{}}
	t.Cleanup(func() { // after the replicas are closed
		for _, s := range d.store {
			s.Close()
		}
	})
	d.group = newGroup(t, func(c *Config) {
		name := c.Identity.ID[len("r-"):]
		c.Store = d.open(t, name, c.Identity)
		if change != nil {
			change(c)
		}
	}, names...)
	return d
}

// open opens the folder of a replica, or makes it.
func (d *durable) open(t testing.TB, name string, id Identity) *wal.Store {
	t.Helper()
	d.boots[name]++
	conf := wal.Config{FS: d.disks[name], Dir: "/replica", Boot: d.boots[name], SegmentSize: 16 << 10,
		Identity: wal.Identity{Group: "test", Generation: 1, ID: id.ID, Addr: id.Addr}}
	open := wal.Open
	if d.disks[name] == nil {
		d.disks[name] = disktest.New()
		conf.FS, open = d.disks[name], wal.Create
	}
	s, err := open(conf)
	if err != nil {
		t.Fatalf("store of %s: %v", name, err)
	}
	d.store[name] = s
	return s
}

// kill ends a replica as kill -9 does: what is on its disk stays as it is.
func (d *durable) kill(name string) {
	d.t.Helper()
	left := d.disks[name].Clone()
	d.group.kill(name)
	d.store[name].Close()
	d.disks[name] = left
	for _, other := range d.peers {
		d.net.heal("at-"+name, other.self.Addr)
	}
}

func TestAReplicaAloneGoesOnFromItsDisk(t *testing.T) {
	d := newDurable(t, nil, "a")
	for range 5 {
		for range 200 {
			d.write(d.peers["a"], 100)
		}
		d.kill("a")
		d.start("a", func(c *Config) { c.Found = true }) // it does not found again
		d.await("it leads", d.peers["a"].Leads)
		d.same("a")
	}
	if term := d.peers["a"].Term(); term < 6 {
		t.Errorf("term %d after six elections", term)
	}
}

func TestRestartsLoseNothingAcknowledged(t *testing.T) {
	names := []string{"a", "b", "c"}
	d := newDurable(t, func(c *Config) { c.LogBudget = 64 << 10 }, names...)
	for round := range 4 {
		for range 150 {
			d.write(d.leader(), 700) // more than the budget: snapshots are taken
		}
		victim := names[round%3]
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			d.kill(victim)
			d.write(d.leader(), 10)
			d.start(victim, nil)
		})
		d.same(names...)
	}
	for _, name := range names { // all at once
		d.kill(name)
	}
	for _, name := range names {
		d.start(name, nil)
	}
	d.write(d.leader(), 10)
	d.same(names...)
}
