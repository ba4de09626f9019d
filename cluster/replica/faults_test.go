package replica

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// An allocation that fails on one follower parks that one. The others go on,
// and it is rebuilt as another replica.
func TestApplyFailsOnAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a, b := g.peers["a"], g.peers["b"]
		g.write(a, 50)
		b.ledger.fail.Store(true)
		g.write(a, 50)
		a.Nudge()
		g.await("it parks", func() bool { return b.Status().Parked != "" })
		b.ledger.fail.Store(false)
		for range 20 {
			g.write(a, 50)
		}
		<-time.After(5 * time.Second)
		if !a.Leads() || a.Status().Parked != "" || g.peers["c"].Status().Parked != "" {
			t.Error("the others did not go on")
		}
		if err := b.AwaitLead(t.Context()); !errors.Is(err, cloakroom.ErrUnavailable) {
			t.Errorf("AwaitLead of the parked one: got %v", err)
		}
		if _, _, err := b.Members(); !errors.Is(err, cloakroom.ErrUnavailable) {
			t.Errorf("Members of the parked one: got %v", err)
		}
		g.remove("r-b")
		g.end(b)
		delete(g.peers, "b")
		g.join("b2")
		g.same("a", "c", "b2")
	})
}

// On the leader: its entry has an unknown outcome, and another one leads.
func TestApplyFailsOnTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		g.write(a, 50)
		a.ledger.fail.Store(true)
		if _, _, err := a.Apply(g.entry(50)); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Fatalf("Apply: got %v, want outcome unknown", err)
		}
		if a.Leads() {
			t.Error("a parked replica leads")
		}
		lead := g.leader()
		g.write(lead, 50)
		g.same("b", "c")
		if ids := lead.ledger.all(); len(ids) != 3 {
			t.Errorf("entries: got %v, want all three: the second was committed", ids)
		}
	})
}

// A poison entry comes to the same on all, and nobody falls over.
func TestPoisonEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		g.write(a, 50)
		_, result, err := a.Apply(binary.BigEndian.AppendUint64(nil, poison))
		if _, is := result.(refused); !is || err != nil {
			t.Fatalf("poison: got %v, %v; want refused", result, err)
		}
		g.write(a, 50)
		g.same("a", "b", "c")
		for name, p := range g.peers {
			if s := p.Status(); s.Parked != "" {
				t.Errorf("%s is parked: %s", name, s.Parked)
			}
		}
	})
}

// lagging makes a group whose d has fallen so far behind that it needs a
// snapshot, of about n bytes. It is cut off from all.
func lagging(t *testing.T, n int, voter bool) (*group, *peer) {
	g := newGroup(t, func(c *Config) { c.LogBudget, c.Machine = 256<<10, &ledger{pad: n / 400} }, "a", "b")
	var d *peer
	if voter {
		d = g.join("d")
	} else {
		d = g.start("d", nil)
		g.add(d)
	}
	g.net.cut("at-a", "at-d")
	g.net.cut("at-b", "at-d")
	for range 400 {
		g.write(g.peers["a"], 2000)
	}
	if g.peers["a"].Status().Compactions == 0 {
		t.Fatal("the log was never compacted")
	}
	return g, d
}

// A follower that stops to read in the middle of a snapshot holds up nobody,
// its stream is cut, and it catches up when it reads again.
func TestFollowerStopsReadingInTheMiddleOfASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := lagging(t, 4<<20, false)
		a := g.peers["a"]
		g.net.trip("at-a", "at-d", 1<<20)
		g.net.heal("at-a", "at-d")
		g.await("it is in the middle", func() bool { return g.net.held("at-a", "at-d") })
		if a.ledger.views.Load() == 0 {
			t.Error("no snapshot is on its way: the test shows nothing")
		}
		begin := time.Now()
		for range 100 {
			g.write(a, 2000)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("writes took %v meanwhile", d)
		}
		g.await("its stream is cut", func() bool { return a.ledger.views.Load() == 0 })
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("cut after %v", d)
		}
		g.net.release("at-a", "at-d")
		g.promote(d)
		g.same("a", "b", "d")
	})
}

// A leader that stops in the middle of a snapshot must not keep the follower
// from voting: raft's main loop itself reads it.
func TestLeaderStopsInTheMiddleOfASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := lagging(t, 4<<20, true)
		g.net.trip("at-a", "at-d", 1<<20)
		g.net.heal("at-a", "at-d")
		g.net.heal("at-b", "at-d")
		g.await("it is in the middle", func() bool { return g.net.held("at-a", "at-d") })
		begin := time.Now()
		g.net.hold("at-a", "at-b") // a is paused: its lines stand, nothing comes
		g.net.hold("at-d", "at-a")
		g.net.hold("at-b", "at-a")
		g.await("b leads", g.peers["b"].Leads)
		if d := time.Since(begin); d > 6*time.Second {
			t.Errorf("elected after %v", d)
		}
		g.write(g.peers["b"], 2000)
		g.same("b", "d")
		if d.ledger.loads == 0 {
			t.Error("no snapshot reached it")
		}
	})
}

// A log over budget on a slow follower: it takes up to twice the budget, the
// others go on, and it catches up in the end.
func TestLogOverBudgetOnASlowFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 256 << 10
		g := newGroup(t, func(c *Config) { c.LogBudget = budget }, "a", "b", "c")
		a, c := g.peers["a"], g.peers["c"]
		g.write(a, 50)
		g.same("a", "b", "c")
		gate := make(chan struct{})
		c.ledger.gate.Store(&gate)
		for range 200 {
			g.write(a, 8000)
			<-time.After(time.Millisecond) // c gets it too
		}
		<-time.After(5 * time.Second)
		if s := c.Status(); s.LogBytes <= budget || s.LogMapped > 3*budget {
			t.Errorf("log of the slow one: got %d bytes in %d, want over the budget and bounded", s.LogBytes, s.LogMapped)
		}
		if s := c.Status(); s.Parked != "" {
			t.Fatalf("it parked: %s", s.Parked)
		}
		close(gate)
		g.same("a", "b", "c")
	})
}

// sealing puts a stand-in for a seal on the snapshots of a group.
func sealing(c *Config) {
	c.SealSnapshot = func(w io.Writer, at SnapshotInfo) (io.WriteCloser, error) {
		head := binary.BigEndian.AppendUint64(nil, at.Index)
		head = binary.BigEndian.AppendUint64(head, uint64(at.Generation))
		if at.View == nil {
			return nil, errors.New("no view")
		}
		_, err := w.Write(head)
		return &masked{w: w}, err
	}
	c.OpenSnapshot = func(r io.Reader, at SnapshotInfo) (io.Reader, error) {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		if binary.BigEndian.Uint64(head[:]) != at.Index || binary.BigEndian.Uint64(head[8:]) != uint64(at.Generation) {
			return nil, errors.New("a snapshot of something else")
		}
		return &unmasked{r: r}, nil
	}
}

type masked struct{ w io.Writer }

func (m *masked) Write(p []byte) (int, error) {
	q := make([]byte, len(p))
	for i := range p {
		q[i] = p[i] ^ 0xa5
	}
	return m.w.Write(q)
}

func (m *masked) Close() error {
	_, err := m.w.Write([]byte("end"))
	return err
}

type unmasked struct {
	r    io.Reader
	rest []byte
}

func (u *unmasked) Read(p []byte) (int, error) {
	if u.rest == nil {
		all, err := io.ReadAll(u.r)
		if err != nil {
			return 0, err
		}
		if len(all) < 3 || string(all[len(all)-3:]) != "end" {
			return 0, errors.New("the end is missing")
		}
		u.rest = all[:len(all)-3]
	}
	if len(u.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, u.rest)
	for i := range p[:n] {
		p[i] ^= 0xa5
	}
	u.rest = u.rest[n:]
	return n, nil
}

// behind makes a group with a newcomer that needs a snapshot.
func behind(t *testing.T, change func(*Config)) (*group, *peer) {
	g := newGroup(t, func(c *Config) {
		c.LogBudget = 64 << 10
		sealing(c)
		if change != nil {
			change(c)
		}
	}, "a")
	for range 200 {
		g.write(g.peers["a"], 2000)
	}
	d := g.start("d", nil)
	g.add(d)
	return g, d
}

func TestSnapshotsTravelSealed(t *testing.T) {
	for name, size := range map[string]func(int64) int64{"counted": nil, "computed": func(n int64) int64 { return n + 19 }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, d := behind(t, func(c *Config) { c.SnapshotSize = size })
				g.await("d has caught up", func() bool {
					at := g.peers["a"].Progress()
					return d.Progress().CaughtUp(at, 0)
				})
				want, members, _ := g.peers["a"].Members()
				if index, now, _ := d.Members(); index != want || !slices.Equal(now, members) {
					t.Errorf("members from a snapshot: got %v at %d, want %v at %d", now, index, members, want)
				}
				g.promote(d)
				g.same("a", "d")
				if d.ledger.loads != 1 {
					t.Errorf("snapshots taken in: got %d, want 1", d.ledger.loads)
				}
			})
		})
	}
}

// What is restored from an earlier generation is not sealed.
func TestRestoreIsPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, sealing, "a")
		r, w := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { w.Write(binary.BigEndian.AppendUint64(nil, 77)); w.Close() })
		if err := g.peers["a"].Restore(r, 500, 8); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if ids := g.peers["a"].ledger.all(); len(ids) != 1 || ids[0] != 77 {
			t.Errorf("state: got %v, want 77", ids)
		}
		if index := g.write(g.peers["a"], 8); index <= 500 {
			t.Errorf("index: got %d, want above 500", index)
		}
		g.join("b")
		g.same("a", "b")
	})
}

// Whoever can't open what it is sent is out of service; the leader goes on.
func TestSnapshotThatCantBeOpenedParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := behind(t, func(c *Config) {
			if c.Identity.ID == "r-d" {
				c.OpenSnapshot = func(io.Reader, SnapshotInfo) (io.Reader, error) { return nil, errors.New("no such key") }
			}
		})
		g.await("it parks", func() bool { return d.Status().Parked != "" })
		g.write(g.peers["a"], 8)
	})
}

// A length that is not what follows would leave a part behind that looks like
// the whole, or a follower that waits for the rest.
func TestSnapshotOfAnotherLengthIsNotSent(t *testing.T) {
	for name, size := range map[string]func(int64) int64{"too short": func(n int64) int64 { return n }, "too long": func(n int64) int64 { return n + 20 }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, d := behind(t, func(c *Config) { c.SnapshotSize = size })
				<-time.After(5 * time.Second)
				if s := d.Status(); d.ledger.loads != 0 || s.Parked != "" || s.Applied != 0 {
					t.Errorf("something arrived: %d loads, %+v", d.ledger.loads, s)
				}
				a := g.peers["a"]
				g.write(a, 8)
				if err := a.takeMark(); err != nil {
					t.Fatal(err)
				}
				marks, _ := a.snaps.List()
				meta, stream, err := a.snaps.Open(marks[0].ID)
				if err != nil {
					t.Fatal(err)
				}
				defer stream.Close()
				if sent, err := io.ReadAll(stream); !errors.Is(err, errSnapshotSize) || int64(len(sent)) > meta.Size {
					t.Errorf("got %d bytes of %d, %v; want an error", len(sent), meta.Size, err)
				}
			})
		})
	}
}

// forgetful loses the entries that it is told to.
type forgetful struct {
	raft.LogStore
	mu   sync.Mutex
	lost uint64
}

func (f *forgetful) GetLog(index uint64, log *raft.Log) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index == f.lost {
		return raft.ErrLogNotFound
	}
	return f.LogStore.GetLog(index, log)
}

// raft panics, and the process with it, when an entry that it is about to apply
// is not in the log.
func TestCommittedEntryThatIsGoneParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &forgetful{}
		g := newGroup(t, func(c *Config) {
			if c.Identity.ID == "r-b" {
				c.wrapLog = func(s raft.LogStore) raft.LogStore { store.LogStore = s; return store }
			}
		}, "a", "b", "c")
		a, b := g.peers["a"], g.peers["b"]
		g.write(a, 50)
		g.same("a", "b", "c")
		index := g.write(a, 50) // b has it and doesn't know yet that it is committed
		store.mu.Lock()
		store.lost = index
		store.mu.Unlock()
		a.Nudge()
		g.await("it parks", func() bool { return b.Status().Parked != "" })
		g.write(a, 50)
		g.same("a", "c")
	})
}

// raft notes the index of a snapshot without looking whether a later one was
// installed meanwhile; its own index would go back (issue 248).
func TestAMarkNeverGoesBack(t *testing.T) {
	mem := &memory{}
	s := newSnapshots(&Config{MapLog: mem.Map, UnmapLog: mem.Unmap}, nil)
	taken := func(index uint64, live bool) *sink {
		created, err := s.Create(1, index, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		k := created.(*sink)
		k.live = live
		return k
	}
	mark := taken(10, true)
	if err := taken(20, false).Close(); err != nil {
		t.Fatal(err)
	}
	if err := mark.Close(); err == nil {
		t.Error("a mark below an installed snapshot: got no error")
	}
	if err := taken(30, true).Close(); err != nil {
		t.Errorf("a mark above it: %v", err)
	}
	installed := make(chan error)
	go func() { installed <- taken(40, false).Close() }()
	select {
	case <-installed:
		t.Error("a snapshot was installed while raft notes a mark")
	case <-time.After(20 * time.Millisecond):
	}
	s.marked()
	if err := <-installed; err != nil {
		t.Error(err)
	}
	s.close()
}
