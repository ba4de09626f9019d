package replica

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

// A dead leader is replaced, by one that has all that was acknowledged.
func TestFailover(t *testing.T) {
	var times []time.Duration
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, nil, "a", "b", "c")
			for range 10 {
				g.write(g.peers["a"], 100)
			}
			<-time.After(2 * time.Second)
			g.write(g.peers["a"], 100)
			begin := time.Now()
			g.kill("a")
			lead := g.leader()
			times = append(times, time.Since(begin))
			if lost := g.lost(lead); len(lost) > 0 {
				t.Errorf("the new leader lacks %v", lost)
			}
			g.write(lead, 100)
			lead.Nudge()
			g.same("b", "c")
		})
	}
	slices.Sort(times)
	t.Logf("replaced in %v median, %v at worst", times[len(times)/2], times[len(times)-1])
	if median, worst := times[len(times)/2], times[len(times)-1]; median > 1200*time.Millisecond || worst > 2*time.Second {
		t.Errorf("replaced in %v median, %v at worst; want under 1.2 s and 2 s", median, worst)
	}
}

// Failover with real clocks and goroutines.
func TestFailoverForReal(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	g.write(g.peers["a"], 100)
	g.kill("a")
	lead := g.leader()
	g.write(lead, 100)
	lead.Nudge()
	g.same("b", "c")
}

// A leader that is cut off stops to lead by itself, and learns of the new one
// when it comes back.
func TestLeaderThatIsCutOffStepsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		old, _ := a.Lead()
		g.net.cut("at-a", "at-b")
		g.net.cut("at-a", "at-c")
		g.await("it leads no more", func() bool { return !a.Leads() })
		g.await("another one leads", func() bool { return g.leader() != a })
		if term, _ := g.leader().Lead(); term <= old {
			t.Errorf("new term: got %d, want above %d", term, old)
		}
		g.write(g.leader(), 50)
		g.net.heal("at-a", "at-b")
		g.net.heal("at-a", "at-c")
		g.same("a", "b", "c")
		if a.Leads() {
			t.Error("the old leader leads again")
		}
	})
}

// An entry that is in flight when the lead is lost may have happened or not:
// the answer says so, and comes. It is never "nothing happened".
func TestLeadLostWithAnEntryInFlight(t *testing.T) {
	for name, kept := range map[string]bool{"it is lost": false, "it is kept": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, nil, "a", "b", "c")
				a := g.peers["a"]
				g.write(a, 50)
				<-time.After(2 * time.Second) // both followers are up to date
				if kept {
					g.net.hold("at-b", "at-a") // the entry arrives, its acknowledgement does not
					g.net.hold("at-c", "at-a")
				} else {
					g.net.hold("at-a", "at-b")
					g.net.hold("at-a", "at-c")
				}
				begin := time.Now()
				_, _, err := a.Apply(g.entry(50))
				if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || errors.Is(err, cloakroom.ErrUnavailable) {
					t.Fatalf("Apply: got %v, want outcome unknown and nothing else", err)
				}
				if d := time.Since(begin); d > 3*time.Second {
					t.Errorf("answered after %v", d)
				}
				for _, p := range []string{"b", "c"} {
					g.net.cut("at-a", "at-"+p)
				}
				lead := g.leader()
				g.write(lead, 50)
				lead.Nudge()
				ids := lead.ledger.all()
				if has := slices.Contains(ids, g.next-1); has != kept {
					t.Errorf("the new leader has it: %v, want %v", has, kept)
				}
				for _, p := range []string{"b", "c"} {
					g.net.heal("at-a", "at-"+p)
					g.net.release("at-"+p, "at-a")
					g.net.release("at-a", "at-"+p)
				}
				g.same("a", "b", "c")
			})
		})
	}
}

// Nobody acknowledges, and Close does not wait for it.
func TestCloseWithADeadQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		var wg sync.WaitGroup
		g.kill("b")
		g.kill("c")
		wg.Go(func() {
			if _, _, err := a.Apply(g.entry(50)); err == nil {
				t.Error("an entry without a quorum: got no error")
			}
		})
		synctest.Wait()
		begin := time.Now()
		a.Close()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("Close took %v", d)
		}
		wg.Wait()
	})
}

// The followers answer heartbeats and take no entries, so the leader goes on
// leading and its entry never comes to an end: Close must not wait for it.
func TestCloseWhileFollowersTakeNoEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		for _, name := range []string{"b", "c"} {
			g.peers[name].mem.refuse.Store(true)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := a.Apply(g.entry(600 << 10)) // needs a segment of its own
			if !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Errorf("Apply: got %v, want outcome unknown", err)
			}
		})
		<-time.After(10 * time.Second)
		if !a.Leads() {
			t.Error("it leads no more: the test shows nothing")
		}
		begin := time.Now()
		a.Close()
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("Close took %v", d)
		}
		wg.Wait()
	})
}

// A follower closes at once, in the middle of whatever its leader sends.
func TestCloseAFollowerUnderLoad(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	stop := g.keepWriting(g.peers["a"], 500, 0)
	g.end(g.peers["b"])
	delete(g.peers, "b")
	stop()
	g.same("a", "c")
}

func TestTransferLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		g.write(g.peers["a"], 100)
		begin := time.Now()
		if err := g.peers["a"].TransferLead(t.Context(), g.peers["b"].self); err != nil {
			t.Fatal(err)
		}
		if g.peers["a"].Leads() {
			t.Error("it leads still")
		}
		if err := g.peers["b"].AwaitLead(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 50*time.Millisecond {
			t.Errorf("took %v, want no timeout", d)
		}
		g.write(g.peers["b"], 100)
		if err := g.peers["a"].TransferLead(t.Context(), g.peers["b"].self); !errors.Is(err, cloakroom.ErrUnavailable) {
			t.Errorf("transfer by a follower: got %v, want unavailable", err)
		}
		if err := g.peers["b"].TransferLead(t.Context(), g.peers["b"].self); err == nil {
			t.Error("transfer to itself: got no error")
		}
		g.write(g.peers["b"], 100)
	})
}

// A transfer to one that does not answer fails, and the leader works on.
func TestTransferToTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		a := g.peers["a"]
		g.net.hold("at-a", "at-b")
		g.write(a, 100)
		for range 3 {
			if err := a.TransferLead(t.Context(), g.peers["b"].self); err == nil {
				t.Fatal("transfer: got no error")
			}
			begin := time.Now()
			for {
				if _, _, err := a.Apply(g.entry(100)); err == nil {
					break
				} else if !errors.Is(err, cloakroom.ErrUnavailable) || time.Since(begin) > 3*time.Second {
					t.Fatalf("write after %v: %v", time.Since(begin), err)
				}
				<-time.After(10 * time.Millisecond)
			}
			g.acked = append(g.acked, g.next)
		}
		g.net.release("at-a", "at-b")
		g.same("a", "b", "c")
		if s := a.Status(); s.Parked != "" {
			t.Errorf("parked: %s", s.Parked)
		}
	})
}

func TestTransferHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		g.net.hold("at-a", "at-b")
		g.write(g.peers["a"], 100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		begin := time.Now()
		err := g.peers["a"].TransferLead(ctx, g.peers["b"].self)
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || time.Since(begin) > 20*time.Millisecond {
			t.Errorf("got %v after %v, want outcome unknown at once", err, time.Since(begin))
		}
	})
}

// Changed rings for everything it promises, and only then.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		<-time.After(2 * time.Second)
		rings := func(what string, p *peer, act func()) {
			t.Helper()
			ring := p.Changed()
			synctest.Wait()
			act()
			select {
			case <-ring:
			case <-time.After(5 * time.Second):
				t.Errorf("%s: no ring", what)
			}
		}
		a, b := g.peers["a"], g.peers["b"]
		rings("a new member, at the leader", a, func() { g.add(g.start("d", nil)) })
		rings("a new member, at a follower", b, func() { g.add(g.start("e", nil)) })
		rings("a lost lead", a, func() { a.TransferLead(t.Context(), b.self) })
		if err := b.AwaitLead(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		rings("a new leader, at a follower", g.peers["c"], func() { b.TransferLead(t.Context(), a.self) })
		if err := a.AwaitLead(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		<-time.After(2 * time.Second)
		ring := a.Changed()
		g.write(a, 8)
		synctest.Wait()
		select {
		case <-ring:
			t.Error("an entry rings")
		default:
		}
		rings("parked", b, func() { b.ledger.fail.Store(true); g.write(a, 8); a.Nudge() })
		rings("closed", g.peers["c"], func() { g.peers["c"].Close() })
	})
}
