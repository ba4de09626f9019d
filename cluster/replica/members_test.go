package replica

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"cloakroom"
)

func TestThreeVotersAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		for range 50 {
			g.write(g.peers["a"], 100)
		}
		g.same("a", "b", "c")
		for name, p := range g.peers {
			index, members, err := p.Members()
			if err != nil || index == 0 || len(members) != 3 {
				t.Errorf("members at %s: got %v at %d, %v", name, members, index, err)
			}
			for _, m := range members {
				if !m.Voter {
					t.Errorf("members at %s: %s has no vote", name, m.ID)
				}
			}
			if lead, ok := p.Leader(); !ok || lead != g.peers["a"].self {
				t.Errorf("leader at %s: got %v", name, lead)
			}
			if name != "a" && p.Leads() {
				t.Errorf("%s says that it leads", name)
			}
		}
	})
}

// Nobody contacts it, so it waits: it must neither lead nor fall over.
func TestReplicaThatIsNotAddedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a")
		p := g.start("b", nil)
		<-time.After(time.Minute)
		if p.Leads() || p.Term() != 0 {
			t.Errorf("leads %v in term %d, want neither", p.Leads(), p.Term())
		}
		if index, members, err := p.Members(); index != 0 || members != nil || err != nil {
			t.Errorf("members: got %v at %d, %v; want none", members, index, err)
		}
		if _, ok := p.Leader(); ok {
			t.Error("it knows a leader")
		}
		if _, _, err := p.Apply(g.entry(8)); !errors.Is(err, cloakroom.ErrUnavailable) {
			t.Errorf("Apply: got %v, want unavailable", err)
		}
		g.add(p)
		g.promote(p)
		g.write(g.peers["a"], 8)
		g.same("a", "b")
	})
}

// A change must name the configuration it is based on, and one that can't be
// is refused before anything happens.
func TestChangesOfMembersThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b")
		a, b := g.peers["a"], g.peers["b"]
		ctx := t.Context()
		prev, before, _ := a.Members()
		newcomer := Identity{ID: "r-c", Addr: "at-c"}
		tests := map[string]struct {
			err, want error
		}{
			"no index":         {a.AddNonvoter(ctx, newcomer, 0), cloakroom.ErrConflict},
			"an old index":     {a.AddNonvoter(ctx, newcomer, prev-1), cloakroom.ErrConflict},
			"an index to come": {a.Remove(ctx, b.self.ID, prev+1), cloakroom.ErrConflict},
			"no address":       {a.AddNonvoter(ctx, Identity{ID: "r-c"}, prev), cloakroom.ErrMalformed},
			"a known name":     {a.AddNonvoter(ctx, Identity{ID: b.self.ID, Addr: "at-c"}, prev), cloakroom.ErrConflict},
			"a known address":  {a.AddNonvoter(ctx, Identity{ID: "r-c", Addr: b.self.Addr}, prev), cloakroom.ErrConflict},
			"promote nobody":   {a.Promote(ctx, newcomer, prev), cloakroom.ErrConflict},
			"promote a voter":  {a.Promote(ctx, b.self, prev), cloakroom.ErrConflict},
			"remove nobody":    {a.Remove(ctx, newcomer.ID, prev), cloakroom.ErrConflict},
			"at a follower":    {b.AddNonvoter(ctx, newcomer, prev), cloakroom.ErrUnavailable},
		}
		for name, test := range tests {
			if !errors.Is(test.err, test.want) || errors.Is(test.err, cloakroom.ErrOutcomeUnknown) {
				t.Errorf("%s: got %v, want %v", name, test.err, test.want)
			}
		}
		if now, after, _ := a.Members(); now != prev || !slices.Equal(after, before) {
			t.Errorf("members: got %v at %d, want %v at %d", after, now, before, prev)
		}
		g.remove(b.self.ID)
		g.steerWants("remove the last voter", cloakroom.ErrConflict, func(lead *peer, prev uint64) error {
			return lead.Remove(ctx, a.self.ID, prev)
		})
	})
}

func (g *group) steerWants(what string, want error, step func(lead *peer, prev uint64) error) {
	g.t.Helper()
	lead := g.leader()
	prev, _, _ := lead.Members()
	if err := step(lead, prev); !errors.Is(err, want) {
		g.t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// The index that Members names is raft's own: a change based on it works
// through every kind of change, at every replica.
func TestMembersFollowRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		check := func() {
			t.Helper()
			lead := g.leader()
			for _, p := range g.peers {
				g.await("the configuration arrives", func() bool {
					at, now, _ := p.Members()
					want, members, _ := lead.Members()
					return at == want && at > 0 && slices.Equal(now, members)
				})
				g.await("raft has it too", func() bool { // right after the log
					_, now, _ := p.Members()
					return slices.Equal(now, membersOf(p.raft.GetConfiguration().Configuration()))
				})
			}
		}
		check()
		g.remove("r-b")
		g.kill("b")
		check()
		g.join("b2")
		check()
		// What was not committed goes again with the tail of the log.
		lead := g.leader()
		prev, before, _ := lead.Members()
		for _, p := range g.peers {
			if p != lead {
				g.net.cut(lead.self.Addr, p.self.Addr)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := lead.AddNonvoter(ctx, Identity{ID: "r-x", Addr: "at-x"}, prev); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Fatalf("add without a quorum: got %v, want outcome unknown", err)
		}
		if at, members, _ := lead.Members(); at == prev || len(members) != 4 {
			t.Fatalf("members: got %v at %d, want the new one in the log", members, at)
		}
		g.await("another one leads", func() bool { p := g.leader(); return p != lead })
		for _, p := range g.peers {
			g.net.heal(lead.self.Addr, p.self.Addr)
		}
		g.await("the old leader forgets it", func() bool {
			at, members, _ := lead.Members()
			return at == prev && slices.Equal(members, before)
		})
		check()
	})
}

// A non-voter catches up from the log while writes run.
func TestCatchUpByLogWhileWritesRun(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	for range 200 {
		g.write(g.peers["a"], 200)
	}
	stop := g.keepWriting(g.peers["a"], 200, 0)
	d := g.start("d", nil)
	g.add(d)
	g.promote(d)
	stop()
	g.same("a", "b", "c", "d")
	if d.ledger.loads != 0 {
		t.Errorf("%d snapshots were sent, want none", d.ledger.loads)
	}
}

// With a log that is too short for that it is sent a snapshot, also while
// writes run.
func TestCatchUpBySnapshotWhileWritesRun(t *testing.T) {
	g := newGroup(t, func(c *Config) { c.LogBudget = 256 << 10 }, "a", "b", "c")
	a := g.peers["a"]
	for range 500 {
		g.write(a, 2000)
	}
	if a.Status().Compactions == 0 {
		t.Fatal("the log was never compacted: the test shows nothing")
	}
	stop := g.keepWriting(a, 2000, time.Millisecond)
	d := g.start("d", nil)
	g.add(d)
	g.promote(d)
	stop()
	g.same("a", "b", "c", "d")
	if d.ledger.loads == 0 {
		t.Error("no snapshot was sent")
	}
	if index, members, _ := d.Members(); index == 0 || len(members) != 4 {
		t.Errorf("members after a snapshot: got %v at %d", members, index)
	}
}

// A follower that is less behind than half the log needs no snapshot, however
// often the log was cut meanwhile.
func TestCatchUpByLogAfterItWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, func(c *Config) { c.LogBudget = 256 << 10 }, "a", "b", "c")
		a := g.peers["a"]
		for range 200 {
			g.write(a, 1000)
		}
		g.same("a", "b", "c")
		for range 10 {
			g.net.cut("at-a", "at-c")
			for range 110 {
				g.write(a, 1000)
			}
			a.compact()
			g.net.heal("at-a", "at-c")
			g.same("a", "b", "c")
		}
		if c := g.peers["c"]; c.ledger.loads > 0 {
			t.Errorf("%d snapshots were sent, want none", c.ledger.loads)
		}
	})
}

// keepWriting writes at p until the returned func is called, with a pause after
// each entry. What is written while a follower takes a snapshot in has to fit
// into half the log.
func (g *group) keepWriting(p *peer, n int, pause time.Duration) (stop func()) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(pause):
			}
			if err := p.AwaitRoom(context.Background()); err != nil {
				g.t.Errorf("AwaitRoom: %v", err)
				return
			}
			if _, _, err := p.Apply(g.entry(n)); err != nil {
				g.t.Errorf("write: %v", err)
				return
			}
			g.acked = append(g.acked, g.next)
		}
	})
	return func() {
		close(over)
		wg.Wait()
		p.Nudge()
	}
}

// A replica that loses its memory comes back as another one. The old one is
// removed first, so that there are never four voters with one dead.
func TestRestartAsANewIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		for i, name := range []string{"a", "b", "c"} {
			for range 10 {
				g.write(g.leader(), 50)
			}
			g.kill(name)
			g.write(g.leader(), 50)
			g.remove("r-" + name)
			g.join(name + "-2")
			if _, members, _ := g.leader().Members(); len(members) != 3 {
				t.Errorf("after restart %d: members %v", i+1, members)
			}
		}
		g.same("a-2", "b-2", "c-2")
	})
}

// A leader that removes itself steps down and another one follows.
func TestLeaderRemovesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		g.write(g.peers["a"], 50)
		g.remove("r-a")
		g.await("it leads no more", func() bool { return !g.peers["a"].Leads() })
		g.end(g.peers["a"])
		delete(g.peers, "a")
		g.write(g.leader(), 50)
		g.same("b", "c")
	})
}

// A removed replica that did not hear of it disturbs nobody.
func TestRemovedReplicaDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		c := g.peers["c"]
		g.net.cut("at-a", "at-c")
		g.net.cut("at-b", "at-c")
		g.remove("r-c")
		g.net.heal("at-a", "at-c")
		g.net.heal("at-b", "at-c")
		term := g.leader().Term()
		<-time.After(30 * time.Second)
		if now := g.leader().Term(); now != term {
			t.Errorf("term: got %d, want %d still", now, term)
		}
		if c.Leads() {
			t.Error("it leads")
		}
	})
}

// Cutting the front of the log takes no configuration away, cutting its end
// does.
func TestRosterOutlivesCompaction(t *testing.T) {
	mem := &memory{}
	logs := newMemLog(mem.Map, mem.Unmap, 64<<10)
	defer logs.close()
	members := &roster{changed: func() {}}
	store := &guardedLog{guard: &guard{park: func(err error) { t.Error(err) }}, store: logs, members: members, torn: &torn{}}
	config := raft.EncodeConfiguration(configuration([]Member{{Identity{"r-a", "at-a"}, true}}))
	for i := uint64(1); i <= 9; i++ {
		entry := &raft.Log{Index: i, Type: raft.LogCommand}
		if i == 1 || i == 6 { // the second is not committed yet
			entry.Type, entry.Data = raft.LogConfiguration, config
		}
		if err := store.StoreLog(entry); err != nil {
			t.Fatal(err)
		}
	}
	members.committed(1)
	for _, step := range []struct{ from, to, want uint64 }{{1, 4, 6}, {7, 9, 6}, {6, 6, 1}} {
		if err := store.DeleteRange(step.from, step.to); err != nil {
			t.Fatal(err)
		}
		if at, _ := members.latest(); at != step.want {
			t.Errorf("without %d to %d: latest at %d, want %d", step.from, step.to, at, step.want)
		}
	}
}

func TestRosterForgetsWhatIsTruncated(t *testing.T) {
	rings := 0
	r := &roster{changed: func() { rings++ }}
	config := func(names ...string) raft.Configuration {
		var members []Member
		for _, name := range names {
			members = append(members, Member{Identity{name, "at-" + name}, true})
		}
		return configuration(members)
	}
	want := func(index uint64, names string) {
		t.Helper()
		at, members := r.latest()
		var got []string
		for _, m := range members {
			got = append(got, m.ID)
		}
		if at != index || strings.Join(got, " ") != names {
			t.Errorf("latest: got %v at %d, want %s at %d", got, at, names, index)
		}
	}
	add := func(index uint64, config raft.Configuration) {
		found, err := configurationsIn([]*raft.Log{{Index: index, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(config)}})
		if err != nil {
			t.Fatal(err)
		}
		r.stored(found)
	}
	want(0, "")
	add(1, config("a"))
	r.committed(1)
	add(7, config("a", "b"))
	want(7, "a b")
	r.truncated(8)
	want(7, "a b")
	r.truncated(5)
	want(1, "a")
	r.truncated(1) // all of the log, as after a snapshot: what is committed stays
	want(1, "a")
	r.installed(&raft.SnapshotMeta{Index: 90, Configuration: config("a", "c"), ConfigurationIndex: 40})
	r.truncated(1)
	want(40, "a c")
	add(91, config("a", "d")) // stored behind a snapshot before that is noted
	r.installed(&raft.SnapshotMeta{Index: 90, Configuration: config("a", "c"), ConfigurationIndex: 40})
	want(91, "a d")
	for i := range uint64(20) {
		add(100+i, config("a", "c"))
	}
	if len(r.known) > keptConfigurations {
		t.Errorf("%d configurations kept", len(r.known))
	}
	if rings == 0 {
		t.Error("nobody was told")
	}
}

// raft panics on a configuration it can't read; a peer that sends one must not
// take the process down, nor park the replica.
func TestABrokenConfigurationIsRefused(t *testing.T) {
	s := &guardedLog{guard: &guard{park: func(err error) { t.Errorf("parked: %v", err) }}, store: raft.NewInmemStore(),
		members: &roster{changed: func() { t.Error("members changed") }}}
	for _, data := range []string{"", "\xc1", "\x81\xa7Servers\xdd\xff\xff\xff\xff"} {
		err := s.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte(data)}})
		if !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("configuration %x: got %v, want %v", data, err, cloakroom.ErrMalformed)
		}
	}
	if last, _ := s.store.LastIndex(); last != 0 {
		t.Errorf("stored up to %d", last)
	}
}

// A request without end is cut before raft has all of it on the heap; a
// snapshot may be as long as it likes, and an answer begins the count anew.
func TestALongRequestIsCut(t *testing.T) {
	read := func(kind byte, answers bool) (passed uint64, err error) {
		w := &wire{Conn: endless{kind}, streams: &streams{}}
		p := make([]byte, 1<<20)
		for passed < 2*maxRequest {
			n, err := w.Read(p)
			if err != nil {
				return passed, err
			}
			passed += uint64(n)
			if answers {
				w.begun = false
			}
		}
		return passed, nil
	}
	if passed, err := read(0, false); !errors.Is(err, errLongRequest) || passed > maxRequest {
		t.Errorf("a long request: %d bytes and %v, want at most %d and %v", passed, err, uint64(maxRequest), errLongRequest)
	}
	if _, err := read(snapshotRequest, false); err != nil {
		t.Errorf("a snapshot: %v", err)
	}
	if _, err := read(0, true); err != nil {
		t.Errorf("requests with answers: %v", err)
	}
}

// endless is a connection that never runs dry.
type endless struct{ kind byte }

func (e endless) Read(p []byte) (int, error)     { p[0] = e.kind; return len(p), nil }
func (endless) Write(p []byte) (int, error)      { return len(p), nil }
func (endless) Close() error                     { return nil }
func (endless) LocalAddr() net.Addr              { return virtual("here") }
func (endless) RemoteAddr() net.Addr             { return virtual("there") }
func (endless) SetDeadline(time.Time) error      { return nil }
func (endless) SetReadDeadline(time.Time) error  { return nil }
func (endless) SetWriteDeadline(time.Time) error { return nil }
