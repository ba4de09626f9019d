package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
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

// stalled is an fsync of a second: a disk under load, or a paused one.
const stalled = time.Second

// stall makes every fsync of a disk take that long until lift is called.
func stall(fsys *disktest.FS) (lift func()) {
	over := make(chan struct{})
	fsys.Before(func(op disktest.Op) error {
		if op.Kind == disktest.Sync {
			select {
			case <-time.After(stalled):
			case <-over:
			}
		}
		return nil
	})
	return func() { fsys.Before(nil); close(over) }
}

// A disk that stalls holds its writes up, and nothing else: the leader leads
// on, its own or a follower's disk.
func TestAStalledDiskCostsNoLead(t *testing.T) {
	for _, slow := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDurable(t, nil, "a", "b", "c")
			a := d.peers["a"]
			d.write(a, 50)
			term := a.Term()
			lift := stall(d.disks[slow])
			begin := time.Now()
			for range 5 {
				d.write(a, 50)
			}
			took := time.Since(begin)
			if slow == "a" && took < 2*stalled || slow == "b" && took > stalled {
				t.Errorf("disk of %s stalls: five writes took %v", slow, took)
			}
			<-time.After(5 * time.Second)
			lift()
			if !a.Leads() || a.Term() != term {
				t.Errorf("disk of %s stalls: the lead went over, in term %d after %d", slow, a.Term(), term)
			}
			d.same("a", "b", "c")
		})
	}
}

// fail makes what which accepts fail on a disk.
func fail(fsys *disktest.FS, kind disktest.Kind, err error) {
	fsys.Before(func(op disktest.Op) error {
		if op.Kind == kind {
			return err
		}
		return nil
	})
}

// A disk that fails retires its replica, follower or leader; the others go on
// with everything acknowledged. A new one takes its place.
func TestADiskThatFailsRetiresItsReplica(t *testing.T) {
	for _, broken := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDurable(t, nil, "a", "b", "c")
			a, victim := d.peers["a"], d.peers[broken]
			for range 10 {
				d.write(a, 50)
			}
			fail(d.disks[broken], disktest.Sync, syscall.EIO)
			if _, _, err := a.Apply(d.entry(50)); broken == "a" && !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Errorf("the leader's disk: got %v, want outcome unknown", err)
			}
			d.await("it parks", func() bool { return victim.Status().Parked != "" })
			if reason := victim.Retired(); !errors.Is(reason, wal.ErrDamaged) {
				t.Errorf("retired: got %v", reason)
			}
			d.await("another one leads", func() bool { return d.leader() != victim })
			lead := d.leader()
			d.write(lead, 50)
			d.remove("r-" + broken)
			d.group.kill(broken)
			d.join("d")
			lead.Nudge()
			d.same("d", lead.name)
		})
	}
}

// A full disk refuses entries and passes: nobody is parked.
func TestAFullDiskPasses(t *testing.T) {
	for _, full := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			d := newDurable(t, nil, "a", "b", "c")
			d.write(d.peers["a"], 50)
			d.disks[full].Before(func(op disktest.Op) error {
				// What was written in full when it was made needs no room.
				if op.Kind == disktest.Write && op.Path != "/replica/term" && op.Path != "/replica/mark" {
					return syscall.ENOSPC
				}
				return nil
			})
			for range 3 {
				lead := d.leader()
				if _, _, err := lead.Apply(d.entry(50)); err == nil {
					d.acked = append(d.acked, d.next)
				} else if lead.name != full {
					t.Errorf("disk of %s is full: write at %s: %v", full, lead.name, err)
				}
			}
			d.disks[full].Before(nil)
			d.write(d.leader(), 50)
			d.leader().Nudge()
			d.same("a", "b", "c")
			for _, p := range d.peers {
				if parked := p.Status().Parked; parked != "" || p.Retired() != nil {
					t.Errorf("disk of %s is full: %s is parked: %s", full, p.name, parked)
				}
			}
		})
	}
}

// A follower that was away too long is sent the state, and goes on from that
// after a restart. What stands on its disk is sealed.
func TestAnInstalledSnapshotOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDurable(t, func(c *Config) {
			c.LogBudget = 64 << 10
			c.SealSnapshot, c.OpenSnapshot = invert, uninvert
		}, "a", "b", "c")
		d.kill("c")
		for range 400 {
			d.write(d.leader(), 700)
		}
		d.start("c", nil)
		d.leader().Nudge()
		d.same("a", "b", "c")
		if d.peers["c"].ledger.loads == 0 {
			t.Fatal("it was sent no snapshot: the test shows nothing")
		}
		d.kill("c")
		d.start("c", nil)
		d.leader().Nudge()
		d.same("a", "b", "c")
		if d.peers["c"].ledger.loads == 0 {
			t.Error("it did not go on from the snapshot")
		}
		for _, p := range []string{"a", "c"} {
			for _, name := range d.disks[p].Files() {
				if path.Ext(name) == ".snap" && bytes.Contains(d.disks[p].Peek(name), binary.BigEndian.AppendUint64(nil, 100)) {
					t.Errorf("%s: %s is not sealed", p, name)
				}
			}
		}
	})
}

// inverted seals by inverting every bit.
type inverted struct{ w io.Writer }

func (i inverted) Write(p []byte) (int, error) {
	q := make([]byte, len(p))
	for k, b := range p {
		q[k] = ^b
	}
	return i.w.Write(q)
}
func (inverted) Close() error { return nil }

func invert(w io.Writer, _ SnapshotInfo) (io.WriteCloser, error) { return inverted{w}, nil }

func uninvert(r io.Reader, _ SnapshotInfo) (io.Reader, error) {
	sealed, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	_, err = inverted{&plain}.Write(sealed)
	return &plain, err
}

// A crash while a group is founded: it is founded again, or goes on.
func TestACrashWhileFoundingIsNoHarm(t *testing.T) {
	d := newDurable(t, nil, "a")
	d.write(d.peers["a"], 10)
	fsys := d.disks["a"]
	ops := len(fsys.Ops())
	d.group.kill("a")
	for n := 0; n <= ops; n++ {
		d.store["a"].Close()
		d.disks["a"] = fsys.Crash(n, disktest.Nothing())
		self := Identity{ID: "r-a", Addr: "at-a"}
		d.boots["a"] = 5
		if _, _, err := wal.Look(d.disks["a"], "/replica"); errors.Is(err, wal.ErrNone) {
			s, err := wal.Create(wal.Config{FS: d.disks["a"], Dir: "/replica", Boot: 1,
				Identity: wal.Identity{Group: "test", Generation: 1, ID: self.ID, Addr: self.Addr}})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		p := d.start("a", func(c *Config) { c.Found = true })
		d.await("it leads", p.Leads)
		if _, members, err := p.Members(); err != nil || len(members) != 1 {
			t.Fatalf("after %d of %d operations: members %v, %v", n, ops, members, err)
		}
		d.write(p, 10)
		d.group.kill("a")
	}
}

// A state that is not sealed is not written down.
func TestAStoreRefusesAStateInClear(t *testing.T) {
	d := newDurable(t, nil, "a")
	if err := d.peers["a"].Restore(bytes.NewReader(make([]byte, 80)), 10, 80); err == nil {
		t.Error("restored")
	}
}
