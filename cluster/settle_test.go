package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// slowed is a machine that applies nothing while its gate is shut.
type slowed struct {
	Machine
	gate *atomic.Pointer[chan struct{}]
}

func (m slowed) Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	if gate := m.gate.Load(); gate != nil {
		<-*gate
	}
	return m.Machine.Apply(index, batch, results)
}

// ward is a house of three in which one replica can be held back: that of
// n3, which does not lead.
type ward struct {
	*house
	gate atomic.Pointer[chan struct{}]
}

// leaseSecond is the length of leases where a test waits one out.
const leaseSecond = time.Second

// leaseLong is one that nothing in a test outlasts, busy as the machine may be.
const leaseLong = 30 * time.Second

func newWard(t *testing.T, length time.Duration, rules hazards) *ward {
	s := &ward{}
	s.house = newHouse(t, 3, 1, func(name string, cfg *Config) {
		cfg.Settings.LeaseMillis = uint32(length.Milliseconds())
		cfg.hazards = rules
		if name == "n3" {
			inner := cfg.Machine
			cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
				m, err := inner(id)
				return slowed{m, &s.gate}, err
			}
		}
	})
	return s
}

// hold has n3 apply nothing until the test ends, or what it returns is called.
func (s *ward) hold() (release func()) {
	gate := make(chan struct{})
	s.gate.Store(&gate)
	var once atomic.Bool
	release = func() {
		if once.CompareAndSwap(false, true) {
			s.gate.Store(nil)
			close(gate)
		}
	}
	s.t.Cleanup(release) // before the house closes
	return release
}

// lose loses the lead of the shard at n3, for a script that wants it to follow.
func (s *ward) followers() {
	s.t.Helper()
	s.await("n3 follows", func() (bool, string) {
		leader, _ := s.leaderOf(0)
		if leader != "n3" {
			return true, ""
		}
		m := (*s.node("n3").shards.Load())[0].member.Load()
		if to, ok := s.node("n3").successor(m); ok {
			m.replica.TransferLead(s.t.Context(), to) //nolint:errcheck // tried again
		}
		return false, "it leads"
	})
}

// erase erases a subject through the leader and returns where.
func (s *ward) erase(serial uint64) cloakroom.Index {
	s.t.Helper()
	leader, _ := s.leaderOf(0)
	erase := subject(serial, "")
	erase.Kind, erase.Fields[0].Record = command.Erase, nil
	_, index, err := s.node(leader).Propose(s.t.Context(), 0, []command.Command{erase})
	for errors.Is(err, cloakroom.ErrOutcomeUnknown) { // a busy machine costs leaders their office
		_, index, err = s.node(leader).Propose(s.t.Context(), 0, []command.Command{erase})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return index
}

// stale plays the script: n3 has the value and a lease, is held back, and the
// value is erased. It reports whether n3 answers with it once that is settled,
// and how long the barrier took.
func (s *ward) stale(serial uint64) (betrayed bool, took time.Duration) {
	s.t.Helper()
	s.followers()
	if err := s.node("n1").surely(s.t.Context(), 0, serial, "value"); err != nil {
		s.t.Fatal(err)
	}
	s.awaitLeases()
	s.await("n3 has the value", func() (bool, string) {
		got, err := s.node("n3").peek(s.t.Context(), 0, serial)
		return err == nil && got == "value", got
	})
	leader, _ := s.leaderOf(0)
	release := s.hold()
	defer release()
	at := s.erase(serial)
	begin := time.Now()
	if err := s.node(leader).Settle(s.t.Context(), at); err != nil {
		s.t.Fatal(err)
	}
	took = time.Since(begin)
	for until := time.Now().Add(leaseSecond / 3); time.Now().Before(until) && !betrayed; {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		got, err := s.node("n3").peek(ctx, 0, serial)
		cancel()
		if err != nil {
			s.t.Fatal(err)
		}
		betrayed = got != ""
	}
	return betrayed, took
}

// A replica that does not apply the erasure is waited out, for the length of a
// lease and no longer, and answers from the leader from then on.
func TestTheBarrierWaitsForWhoMayAnswer(t *testing.T) {
	s := newWard(t, leaseSecond, hazards{})
	betrayed, took := s.stale(1)
	if betrayed {
		t.Error("n3 answers with what was erased")
	}
	if took < leaseSecond/2 || took > leaseSecond*11/10+200*time.Millisecond {
		t.Errorf("settled after %v; a lease lasts %v", took, leaseSecond)
	}
}

// The same script, with one rule left out each: n3 betrays it.
func TestTheBarrierNeedsItsRules(t *testing.T) {
	for name, rules := range map[string]hazards{
		"settleNone":     {settleNone: true},
		"leaseUnentered": {leaseUnentered: true},
		"leaseFullTerm":  {leaseFullTerm: true},
		"leaseUnapplied": {leaseUnapplied: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWard(t, leaseSecond, rules)
			for serial := range uint64(5) { // on a busy machine the moment may pass unseen
				if betrayed, _ := s.stale(serial + 1); betrayed {
					return
				}
			}
			t.Error("the script shows nothing")
		})
	}
}

// As soon as the replica applies the erasure the barrier is over.
func TestTheBarrierEndsWithTheLastReplica(t *testing.T) {
	s := newWard(t, leaseLong, hazards{})
	s.followers()
	if err := s.node("n1").surely(t.Context(), 0, 1, "value"); err != nil {
		t.Fatal(err)
	}
	s.awaitLeases()
	leader, _ := s.leaderOf(0)
	release := s.hold()
	at := s.erase(1)
	settled := make(chan error, 2)
	for _, name := range []string{leader, "n3"} { // at the leader, and from afar
		go func() { settled <- s.node(name).Settle(t.Context(), at) }()
	}
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-settled:
		t.Errorf("over before n3 has applied it: %v", err)
		settled <- err
	case <-timer.C:
	}
	release()
	for range 2 {
		if err := <-settled; err != nil {
			t.Error(err)
		}
	}
	if got, err := s.node("n3").peek(t.Context(), 0, 1); err != nil || got != "" {
		t.Errorf("n3 reads %q, %v", got, err)
	}
}

// A new leader knows nothing of what its predecessor granted.
func TestANewLeaderWaitsForItsPredecessorsLeases(t *testing.T) {
	transferred := func(t *testing.T, rules hazards) (took, since time.Duration) {
		s := newWard(t, leaseSecond, rules)
		s.awaitLeases()
		leader, others := s.leaderOf(0)
		m := (*s.node(leader).shards.Load())[0].member.Load()
		to := (*s.node(others[0]).shards.Load())[0].member.Load()
		begin := time.Now() // the other leads some time before this one hears of it
		if err := m.replica.TransferLead(t.Context(), to.self); err != nil {
			t.Skip(err)
		}
		s.await("the new leader", func() (bool, string) { return s.node(others[0]).Leads(0), "none" })
		at := s.erase(1)
		since = time.Since(begin)
		if err := s.node(others[0]).Settle(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin), since
	}
	t.Run("waits", func(t *testing.T) {
		if took, _ := transferred(t, hazards{}); took < leaseSecond {
			t.Errorf("settled %v after it was elected", took)
		}
	})
	t.Run("left out", func(t *testing.T) {
		if took, since := transferred(t, hazards{settleYoungLeader: true}); took-since > leaseSecond*9/10 {
			t.Errorf("it still waits: %v, of which %v for the lead", took, since)
		}
	})
}

// The founder of a group has no predecessors: an erasure right after the start
// waits for nobody.
func TestTheFirstLeaderWaitsForNobody(t *testing.T) {
	h := newHouse(t, 1, 1, nil)
	c := subject(1, "value")
	_, index, err := h.node("n1").Propose(t.Context(), 0, []command.Command{c})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := h.node("n1").Settle(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("settled after %v", took)
	}
}

// A barrier that does not come to its end in time has an unknown outcome, and
// an index that is none of the shard is refused.
func TestABarrierInVain(t *testing.T) {
	s := newWard(t, leaseLong, hazards{})
	s.followers()
	s.awaitLeases()
	s.hold()
	at := s.erase(1)
	for _, name := range s.names() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := s.node(name).Settle(ctx, at); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Errorf("%s: got %v, want ErrOutcomeUnknown", name, err)
		}
		cancel()
	}
	for _, at := range []cloakroom.Index{{}, {Shard: 7, Generation: 1, Index: 1}, {Generation: 2, Index: at.Index}, {Generation: 1}} {
		if err := s.node("n1").Settle(t.Context(), at); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%+v: got %v, want ErrMalformed", at, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), leaseSecond/2)
	defer cancel()
	at.Index += 1000
	if err := s.node("n1").Settle(ctx, at); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("an index to come: got %v, want ErrOutcomeUnknown", err)
	}
}

// Erasures that come together share what is asked of the replicas.
func TestBarriersShareTheirAsks(t *testing.T) {
	s := newWard(t, leaseLong, hazards{})
	s.followers()
	s.awaitLeases()
	leader, _ := s.leaderOf(0)
	release := s.hold()
	at := s.erase(1)
	before := s.node(leader).Traffic().Calls["await"]
	const many = 100
	done := make(chan error, many)
	for range many {
		go func() { done <- s.node(leader).Settle(t.Context(), at) }()
	}
	l := &(*s.node(leader).shards.Load())[0].lanes
	s.await("all barriers wait", func() (bool, string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, lane := range l.all {
			if lane.waiting == many {
				return true, ""
			}
		}
		return false, "not yet"
	})
	release()
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if asked := s.node(leader).Traffic().Calls["await"] - before; asked > 20 {
		t.Errorf("%d asks for %d barriers", asked, many)
	}
}

// A node that died is waited out by who erases, and no longer than a lease.
func TestADeadNodeIsWaitedOut(t *testing.T) {
	s := newWard(t, leaseSecond, hazards{})
	s.followers()
	s.awaitLeases()
	leader, _ := s.leaderOf(0)
	s.kill("n3")
	at := s.erase(1)
	begin := time.Now()
	if err := s.node(leader).Settle(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > leaseSecond*11/10+200*time.Millisecond {
		t.Errorf("settled after %v", took)
	}
}
