package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// Every hazard is scripted twice: with its remedy left out, where the failure
// must show, and with it, where it must not.
func hazard(t *testing.T, script func(t *testing.T, open bool)) {
	t.Run("remedy left out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { script(t, true) })
	})
	t.Run("remedy in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { script(t, false) })
	})
}

// leaderWithin returns who leads within d, nil if nobody does.
func (g *group) leaderWithin(d time.Duration) *peer {
	limit := time.NewTimer(d)
	defer limit.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, p := range g.peers {
			if p.Leads() {
				return p
			}
		}
		select {
		case <-ticker.C:
		case <-limit.C:
			return nil
		}
	}
}

// A replica that lost its memory comes back with a new ID at its old address:
// its vote is taken for the old one's, and it grants any.
func TestHazardSameAddress(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, nil, "a", "b", "c")
		g.net.cut("at-a", "at-c")
		g.net.cut("at-b", "at-c")
		g.write(g.peers["a"], 50) // acknowledged by a and b
		g.kill("b")
		reborn := Identity{ID: "r-b2", Addr: "at-b2"}
		if open {
			reborn.Addr = "at-b"
		}
		g.net.heal("at-b", "at-c")
		g.start("b2", func(c *Config) { c.Identity = reborn })
		g.kill("a") // before b2 has anything
		lead := g.leaderWithin(30 * time.Second)
		switch {
		case open && (lead == nil || len(g.lost(lead)) == 0):
			t.Error("no acknowledged entry is lost: the script shows nothing")
		case !open && lead != nil:
			t.Errorf("%s leads and lacks %v", lead.name, g.lost(lead))
		}
	})
}

// A new leader's commit index lies below what the old one acknowledged, until
// an entry of its own term is committed.
func TestHazardReadBeforeOwnTerm(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, func(c *Config) { c.Hazards.ReadBeforeOwnTerm = open }, "a", "b", "c")
		g.same("a", "b", "c")
		gate := make(chan struct{})
		for _, name := range []string{"b", "c"} {
			g.peers[name].ledger.gate.Store(&gate)
		}
		g.write(g.peers["a"], 50) // the followers have it and don't know that it is committed
		g.kill("a")
		lead := g.leaderWithin(10 * time.Second)
		switch {
		case open && (lead == nil || len(g.lost(lead)) == 0):
			t.Error("the leader has what was acknowledged: the script shows nothing")
		case !open && lead != nil:
			t.Errorf("%s leads and lacks %v", lead.name, g.lost(lead))
		}
		close(gate)
		if lost := g.lost(g.leader()); !open && len(lost) > 0 {
			t.Errorf("the leader lacks %v", lost)
		}
	})
}

// oldState is what 50 entries leave, as a ledger writes it.
func (g *group) oldState() []byte {
	var state []byte
	for range 50 {
		state = append(state, g.entry(8)...)
		g.acked = append(g.acked, g.next)
	}
	return state
}

// RecoverCluster on an empty log begins again with term 1, below the term of
// the snapshot: who has nothing but the snapshot beats who has entries since.
// A new generation of one voter that is given the state has not this.
func TestHazardRecoverCluster(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, nil)
		state := g.oldState()
		// c takes the state in, and nothing after it.
		late := &ledger{load: func() { g.net.hold("at-a", "at-c") }}
		if open {
			members := []Member{{Identity{"r-a", "at-a"}, true}, {Identity{"r-b", "at-b"}, true}, {Identity{"r-c", "at-c"}, true}}
			g.start("b", func(c *Config) { c.Hazards.TakenBack = true })
			g.start("a", func(c *Config) {
				c.Hazards.RecoverCluster = &OldLife{State: state, Index: 100, Term: 5, Members: members}
			})
			g.await("a leads", g.peers["a"].Leads)
			g.start("c", func(c *Config) { c.Machine = late })
		} else {
			g.found("a")
			if err := g.peers["a"].Restore(bytes.NewReader(state), 100, int64(len(state))); err != nil {
				t.Fatal(err)
			}
			g.join("b")
			c := g.start("c", func(c *Config) { c.Machine = late })
			g.add(c)
		}
		g.await("c has taken the state in", func() bool { return g.net.held("at-a", "at-c") })
		if !open { // as a voter that is behind
			g.steerTo("promote c", func(lead *peer, prev uint64) error {
				return lead.Promote(t.Context(), g.peers["c"].self, prev)
			})
		}
		g.write(g.peers["a"], 50)
		g.same("a", "b")
		g.kill("a")
		g.net.release("at-a", "at-c")
		b, c := g.peers["b"], g.peers["c"]
		if open {
			// c wins the election, and has b take in what it has.
			<-time.After(10 * time.Second)
			if len(g.lost(b)) == 0 || len(g.lost(c)) == 0 {
				t.Error("what was acknowledged is still there: the script shows nothing")
			}
			return
		}
		lead := g.leaderWithin(30 * time.Second)
		if lead == nil {
			t.Fatal("nobody leads")
		}
		if lost := g.lost(lead); len(lost) > 0 {
			t.Errorf("%s leads and lacks %v", lead.name, lost)
		}
		g.same("b", "c")
	})
}

func (g *group) steerTo(what string, step func(lead *peer, prev uint64) error) {
	g.t.Helper()
	lead := g.leader()
	prev, _, _ := lead.Members()
	if err := step(lead, prev); err != nil {
		g.t.Fatalf("%s: %v", what, err)
	}
}

// A snapshot of an earlier life is taken over by raft, and the first entries of
// the new group pass for applied. Stores begin empty with every life.
func TestHazardOldSnapshot(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, nil, "a")
		for range 20 {
			g.write(g.peers["a"], 50)
		}
		c := g.start("c", func(c *Config) {
			if open {
				c.Hazards.OldSnapshot = &OldLife{State: binary.BigEndian.AppendUint64(nil, 4711), Index: 100, Term: 3,
					Members: []Member{{Identity{"r-old", "at-old"}, true}}}
			}
		})
		g.add(c)
		g.await("it says that it has caught up", func() bool {
			at := g.peers["a"].Progress()
			return c.Progress().CaughtUp(at, 0)
		})
		resurrected := slices.Contains(c.ledger.all(), 4711)
		if lost := g.lost(c); open && (len(lost) == 0 || !resurrected) {
			t.Error("it has the new state: the script shows nothing")
		} else if !open && (len(lost) > 0 || resurrected) {
			t.Errorf("it lacks %v", lost)
		}
	})
}

// setTransferInProgress sets the flag that a transfer leaves behind when it
// never ends.
func setTransferInProgress(r *raft.Raft, value int32) {
	state := reflect.ValueOf(r).Elem().FieldByName("leaderState").FieldByName("leadershipTransferInProgress")
	atomic.StoreInt32((*int32)(unsafe.Pointer(state.UnsafeAddr())), value)
}

// After a transfer that never ended a leader refuses everything, for ever, and
// keeps the others from electing another one (raft issue 696). How raft gets
// there is a race that leaves two of its goroutines behind; the script sets
// what it leads to.
func TestHazardTransferThatNeverEnds(t *testing.T) {
	// Whoever is refused first tells.
	work := map[string]func(a *peer, g *group) error{
		"entry": func(a *peer, g *group) error {
			_, _, err := a.Apply(g.entry(50))
			return err
		},
		"transfer": func(a *peer, g *group) error {
			return a.TransferLead(g.t.Context(), g.peers["b"].self)
		},
		"member": func(a *peer, g *group) error {
			prev, _, _ := a.Members()
			return a.Remove(g.t.Context(), "r-b", prev)
		},
	}
	for name, do := range work {
		t.Run(name, func(t *testing.T) {
			hazard(t, func(t *testing.T, open bool) {
				g := newGroup(t, func(c *Config) { c.Hazards.NoTransferWatchdog = open }, "a", "b", "c")
				a := g.peers["a"]
				g.write(a, 50)
				setTransferInProgress(a.raft, 1)
				if err := do(a, g); !errors.Is(err, cloakroom.ErrUnavailable) {
					t.Fatalf("got %v, want unavailable", err)
				}
				<-time.After(30 * time.Second)
				if open {
					if err := do(a, g); !errors.Is(err, raft.ErrLeadershipTransferInProgress) || !a.Leads() {
						t.Errorf("after 30 s: got %v: the script shows nothing", err)
					}
					return
				}
				if s := a.Status(); s.Parked == "" {
					t.Errorf("not parked: %+v", s)
				}
				g.write(g.leader(), 50)
				g.same("b", "c")
			})
		})
	}
}

// A transfer that ends late is no reason to give up: neither a leader nor one
// that was just elected is parked.
func TestTransferThatEndsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a, b := g.peers["a"], g.peers["b"]
		setTransferInProgress(a.raft, 1)
		if _, _, err := a.Apply(g.entry(50)); !errors.Is(err, cloakroom.ErrUnavailable) {
			t.Fatalf("Apply: got %v, want unavailable", err)
		}
		<-time.After(1500 * time.Millisecond)
		setTransferInProgress(a.raft, 0)
		<-time.After(10 * time.Second)
		g.write(a, 50)
		setTransferInProgress(b.raft, 1)
		if err := a.TransferLead(t.Context(), b.self); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
		if b.Leads() {
			t.Error("b leads without an entry of its own term")
		}
		setTransferInProgress(b.raft, 0)
		g.await("b leads", b.Leads)
		g.write(b, 50)
		g.same("a", "b", "c")
	})
}

// The same flag on a replica that is elected with it: it never gets an entry of
// its own term through, so it never says that it leads.
func TestHazardTransferThatNeverEndsBeforeAnElection(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, func(c *Config) { c.Hazards.NoTransferWatchdog = open }, "a", "b", "c")
		setTransferInProgress(g.peers["b"].raft, 1)
		if err := g.peers["a"].TransferLead(t.Context(), g.peers["b"].self); err != nil {
			t.Fatal(err)
		}
		lead := g.leaderWithin(30 * time.Second)
		if open && lead != nil {
			t.Errorf("%s leads: the script shows nothing", lead.name)
		}
		if !open && lead == nil {
			t.Error("nobody leads")
		}
	})
}

// Transfers to one that does not answer, again and again, while the lead goes
// round: none leaves a leader that refuses everything.
func TestTransfersThatFailLeaveNothingBehind(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, nil, "a", "b", "c")
			a := g.peers["a"]
			g.net.hold("at-a", "at-b")
			g.write(a, 50)
			for range 2 {
				if err := a.TransferLead(t.Context(), g.peers["b"].self); err == nil {
					t.Fatal("transfer to the deaf: got no error")
				}
			}
			g.net.cut("at-a", "at-c") // a steps down with the transfer under way
			g.await("a leads no more", func() bool { return !a.Leads() })
			lead := g.leader()
			g.net.release("at-a", "at-b")
			g.net.heal("at-a", "at-c")
			g.write(lead, 50)
			g.same("a", "b", "c")
			if err := lead.TransferLead(t.Context(), a.self); err != nil {
				t.Fatal(err)
			}
			g.write(g.leader(), 50)
			if s := a.Status(); s.Parked != "" {
				t.Errorf("a is parked: %s", s.Parked)
			}
		})
	}
}

// A follower with a longer tail than the snapshot it is sent keeps the last
// index of that tail and rejects all that follows, is sent the next snapshot,
// and so on (raft issue 697).
func TestHazardInstallLoop(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, func(c *Config) {
			c.LogBudget = 64 << 10
			c.Hazards.NoInstallWatchdog = open
		}, "c", "a", "b")
		c := g.peers["c"]
		g.write(c, 50)
		g.same("a", "b", "c")
		g.net.cut("at-c", "at-a")
		g.net.cut("at-c", "at-b")
		for range 60 { // a tail of entries that nobody else gets
			c.Nudge()
		}
		g.await("c leads no more", func() bool { return !c.Leads() })
		lead := g.leader()
		for range 12 {
			g.write(lead, 20<<10)
		}
		if lead.Status().Compactions == 0 {
			t.Fatal("the log was never compacted")
		}
		g.net.heal("at-c", "at-a")
		g.net.heal("at-c", "at-b")
		<-time.After(30 * time.Second)
		if open {
			if c.ledger.loads < 10 {
				t.Errorf("%d snapshots were sent: the script shows nothing", c.ledger.loads)
			}
			return
		}
		if s := c.Status(); s.Parked == "" {
			t.Errorf("not parked: %+v, %d snapshots", s, c.ledger.loads)
		}
		g.remove("r-c")
		g.kill("c")
		g.join("c2")
		g.same("a", "b", "c2")
	})
}

// Looking for an entry in vain now and then is no sign of a torn log, nor is
// looking for many while others go in.
func TestTornLogTakesThreeLooks(t *testing.T) {
	var log torn
	miss := func(want bool) {
		t.Helper()
		log.misses.Add(5)
		if got := log.look(); got != want {
			t.Errorf("torn: got %v, want %v", got, want)
		}
	}
	for range 10 {
		log.stored.Add(1)
		miss(false)
	}
	miss(false)
	miss(false)
	for range 10 {
		if log.look() {
			t.Error("torn without a miss")
		}
	}
	log.stored.Add(1)
	log.look()
	miss(false)
	miss(false)
	miss(true)
}

// VerifyLeader is nil on a deposed leader when an old heartbeat is answered
// late. The voters' terms tell the truth.
func TestHazardVerifyLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, func(c *Config) { c.Hazards.VerifyLeader = true }, "a", "b", "c")
		a, b, c := g.peers["a"], g.peers["b"], g.peers["c"]
		<-time.After(3 * time.Second)
		term, _ := a.Lead()
		g.net.hold("at-b", "at-a")
		<-time.After(210 * time.Millisecond) // a heartbeat to b is under way; its answer is held
		g.net.hold("at-c", "at-a")
		c.trans.elect(c.self)
		g.await("c leads", c.Leads)
		g.write(c, 50)
		if now, ok := a.Lead(); !ok || now != term {
			t.Fatal("a has noticed: the script shows nothing")
		}
		verified := make(chan error, 1)
		go func() { verified <- a.VerifyLeader() }()
		synctest.Wait()
		g.net.release("at-b", "at-a")
		if err := <-verified; err != nil {
			t.Errorf("VerifyLeader: %v: the script shows nothing", err)
		}
		if len(g.lost(a)) == 0 {
			t.Error("a has what c acknowledged: the script shows nothing")
		}
		yes := 0
		for _, p := range []*peer{a, b, c} {
			if p.Term() <= term {
				yes++
			}
		}
		if yes >= 2 {
			t.Errorf("%d of 3 say that term %d is the newest", yes, term)
		}
		if err := g.start("d", func(c *Config) { c.Hazards.VerifyLeader = false }).VerifyLeader(); err == nil {
			t.Error("VerifyLeader without the hazard: got no error")
		}
	})
}

// The leader dies right after a promotion that one voter has not heard of. It
// refuses the one that was promoted, who alone has all entries.
func TestHazardVotersByName(t *testing.T) {
	hazard(t, func(t *testing.T, open bool) {
		g := newGroup(t, func(c *Config) { c.Hazards.VotersByName = open }, "a", "b")
		c := g.start("c", nil)
		g.add(c)
		g.await("c has caught up", func() bool {
			at := g.peers["a"].Progress()
			return c.Progress().CaughtUp(at, 0)
		})
		g.net.cut("at-a", "at-b")
		g.steerTo("promote c", func(lead *peer, prev uint64) error { return lead.Promote(t.Context(), c.self, prev) })
		g.write(g.peers["a"], 50)
		g.kill("a")
		lead := g.leaderWithin(30 * time.Second)
		if open {
			if lead != nil {
				t.Errorf("%s leads: the script shows nothing", lead.name)
			}
			return
		}
		if lead == nil {
			t.Fatal("nobody leads")
		}
		if lost := g.lost(lead); len(lost) > 0 {
			t.Errorf("%s leads and lacks %v", lead.name, lost)
		}
		g.write(lead, 50)
		g.same("b", "c")
	})
}
