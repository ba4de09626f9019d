package replica

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestThreeVotersAgree(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	for range 50 {
		g.write(g.peers["a"], 100)
	}
	g.peers["a"].Nudge()
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
	}
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, nil, "a", "b", "c")
		for range 20 {
			g.write(g.peers["a"], 100)
		}
		g.kill("a")
		begin := time.Now()
		lead := g.leader()
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("replaced after %v", d)
		}
		if lost := g.lost(lead); len(lost) > 0 {
			t.Errorf("the new leader lacks %v", lost)
		}
		g.write(lead, 100)
		lead.Nudge()
		g.same("b", "c")
		g.close()
		g.peers = nil
	})
}

func TestTransferLead(t *testing.T) {
	g := newGroup(t, nil, "a", "b", "c")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.peers["a"].TransferLead(ctx, g.peers["b"].self); err != nil {
		t.Fatal(err)
	}
	if err := g.peers["b"].AwaitLead(ctx); err != nil {
		t.Fatal(err)
	}
	g.write(g.peers["b"], 100)
}
