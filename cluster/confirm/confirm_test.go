package confirm

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAQuorumConfirms(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		c := g.confirm(t.Context(), one)
		b := g.at("b")
		if want := []Question{{1, "b/1", 5}}; !slices.Equal(b.questions, want) {
			t.Errorf("b is asked %v, want %v", b.questions, want)
		}
		c.pending()
		b.answer(true)
		c.saysNow(true) // without c
		if g.looks != 1 {
			t.Errorf("looked %d times at the group, want once", g.looks)
		}
	})
}

func TestASingleVoterAsksNobody(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(1, 5, "a")
		g.confirm(t.Context(), one).saysNow(true)
		g.vote(false) // voted for somebody else meanwhile
		g.confirm(t.Context(), one).saysNow(false)
		if n := g.asked(); n != 0 {
			t.Errorf("%d asks, want none", n)
		}
	})
}

func TestAnAnswerToAnEarlierRoundDoesNotCount(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		first := g.confirm(t.Context(), one)
		late := g.at("b")
		g.at("c").answer(true)
		first.saysNow(true)
		// b votes for somebody else now. Its yes from before is still on its way.
		second := g.confirm(t.Context(), one)
		late.answer(true)
		second.pending()
		if b := g.at("b"); b == nil || b == late {
			t.Fatal("b is not asked again")
		}
		g.at("b").answer(false)
		second.pending()
		g.at("c").answer(false)
		second.saysNow(false)
	})
}

func TestWhoComesDuringARoundGetsTheNext(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		first := g.confirm(t.Context(), one)
		var later []*call
		for range 64 {
			later = append(later, g.confirm(t.Context(), one))
		}
		if n := g.asked(); n != 2 {
			t.Errorf("%d asks in the first round, want 2", n)
		}
		g.at("b").answer(true)
		first.saysNow(true)
		for _, c := range later {
			c.pending()
		}
		if n := g.asked(); n != 3 { // c still has the first
			t.Errorf("%d asks with the second round, want 3", n)
		}
		g.at("b").answer(true)
		for _, c := range later {
			c.saysNow(true)
		}
		g.at("c").answer(true)
		if n := g.asked(); n != 3 || g.at("c") != nil {
			t.Errorf("%d asks for 65 callers, want 3", n)
		}
	})
}

func TestASlowPeerDelaysNobody(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.confirm(t.Context(), one)
		slow := g.at("c")
		g.at("b").answer(true)
		for range 100 {
			c := g.confirm(t.Context(), one)
			g.at("b").answer(true)
			c.saysNow(true)
			if c.took != 0 {
				t.Fatalf("took %v beside a slow peer, want nothing", c.took)
			}
		}
		if g.at("c") != slow || g.most["c"] != 1 {
			t.Errorf("%d asks outstanding at the slow peer, want 1", g.most["c"])
		}
	})
}

func TestDeadPeersAnswerNoAndAreLeftAlone(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		c := g.confirm(t.Context(), one)
		g.at("b").fail()
		c.pending()
		g.at("c").fail()
		c.saysNow(false)
		again := g.confirm(t.Context(), one)
		if n := g.asked(); n != 2 {
			t.Errorf("%d asks while the dead rest, want 2", n)
		}
		sleep(rest)
		g.at("b").answer(true)
		again.saysNow(true)
		if again.took != rest {
			t.Errorf("took %v, want %v", again.took, rest)
		}
	})
}

func TestNoCountsAgainst(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		c := g.confirm(t.Context(), one)
		g.at("b").answer(false) // restarted: the replica is gone
		c.pending()
		g.at("c").answer(true)
		c.saysNow(true)

		c = g.confirm(t.Context(), one)
		g.at("b").answer(false)
		g.at("c").answer(false)
		c.saysNow(false)

		c = g.confirm(t.Context(), one)
		g.at("b").answer(false)
		c.says(false) // c is silent
		if c.took != defaultTimeout {
			t.Errorf("took %v, want %v", c.took, defaultTimeout)
		}
	})
}

func TestOwnVoteIsAVote(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.vote(false)
		c := g.confirm(t.Context(), one)
		g.at("b").answer(true)
		c.pending()
		g.at("c").answer(true)
		c.saysNow(true)
		c = g.confirm(t.Context(), one)
		g.at("b").answer(false)
		c.saysNow(false)
	})
}

func TestALeaderOutsideTheConfigurationHasNoVote(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(1, 5, "b", "c", "d")
		c := g.confirm(t.Context(), one)
		g.at("b").answer(true)
		c.pending()
		g.at("d").answer(true)
		c.saysNow(true)
	})
}

// The node's last replica may still be a voter beside the one that leads.
func TestAnotherReplicaOfThisNodeIsAskedHere(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.leads[1].Voters[1].Node = "a"
		c := g.confirm(t.Context(), one)
		if g.at("a") != nil || g.at("b") != nil {
			t.Error("this node asks itself over the network")
		}
		g.at("c").answer(false)
		c.saysNow(false) // only the leader's own vote was a yes
	})
}

func TestAVoterWithoutANodeCountsAgainst(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.leads[1].Voters[1].Node = ""
		c := g.confirm(t.Context(), one)
		if g.at("b") != nil || g.at("") != nil {
			t.Error("somebody is asked for a replica nobody can place")
		}
		g.at("c").answer(false)
		c.saysNow(false)
	})
}

func TestTwoReplicasOfOneNodeAreAskedTogether(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(1, 5, "a", "b", "c")
		g.leads[1].Voters[2].Node = "b"
		c := g.confirm(t.Context(), one)
		b := g.at("b")
		if want := []Question{{1, "b/1", 5}, {1, "c/1", 5}}; !slices.Equal(b.questions, want) {
			t.Errorf("b is asked %v, want %v", b.questions, want)
		}
		b.reply <- reply{answer: Answer{Yes: []bool{false, true}}}
		c.saysNow(true)
	})
}

func TestAnswersThatDoNotFitTheQuestionsCountForNothing(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		c := g.confirm(t.Context(), one)
		g.at("b").reply <- reply{answer: Answer{Yes: []bool{true, true}}}
		g.at("c").reply <- reply{answer: Answer{}}
		c.saysNow(false)
		if _, ok := g.rounds.Heard("b"); ok {
			t.Error("a wrong answer counts as heard")
		}
	})
}

func TestAnotherTermIsRefusedWithoutAsking(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.confirm(t.Context(), Want{1, 4}).saysNow(false)
		g.confirm(t.Context(), Want{1, 6}).saysNow(false)
		g.confirm(t.Context(), Want{2, 5}).saysNow(false) // unknown
		g.lost = true                                     // known, but not led any more
		g.confirm(t.Context(), one).saysNow(false)
		if n := g.asked(); n != 0 {
			t.Errorf("%d asks, want none", n)
		}
	})
}

func TestTheTermChangesInTheMiddle(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		old := g.confirm(t.Context(), one)
		stale := g.confirm(t.Context(), one)
		g.lead(1, 7, "a", "b", "c") // lost the lead and won it back
		fresh := g.confirm(t.Context(), Want{1, 7})
		g.at("b").answer(false)
		g.at("c").answer(false)
		old.saysNow(false)
		stale.saysNow(false) // term 5 is over when its round begins
		fresh.pending()
		if b := g.at("b"); b.questions[0].Term != 7 {
			t.Errorf("b is asked for term %d, want 7", b.questions[0].Term)
		}
		g.at("b").answer(true)
		fresh.saysNow(true)
	})
}

func TestEveryRoundTakesTheLatestConfiguration(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		first := g.confirm(t.Context(), one)
		second := g.confirm(t.Context(), one)
		g.lead(1, 5, "a", "c", "d")
		g.at("b").answer(true)
		first.saysNow(true)
		if g.at("b") != nil {
			t.Error("b is asked, though it is no voter any more")
		}
		g.at("d").answer(true)
		second.saysNow(true)
	})
}

func TestOneAskCarriesAllGroups(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		var want []Want
		for group := range uint32(17) {
			g.lead(group, 5, "a", "b", "c")
			want = append(want, Want{group, 5})
		}
		c := g.confirm(t.Context(), want...)
		b := g.at("b")
		if n := g.asked(); n != 2 || len(b.questions) != 17 {
			t.Errorf("%d asks, %d questions to b, want 2 and 17", n, len(b.questions))
		}
		yes := make([]bool, 17)
		yes[3], yes[9] = true, true
		b.reply <- reply{answer: Answer{Yes: yes}}
		c.pending()
		g.at("c").answer(false)
		c.saysNow(yes...)
	})
}

func TestAGroupOutOfReachDoesNotHoldUpAnother(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(2, 5, "a", "d", "e")
		both := g.confirm(t.Context(), one, Want{2, 5})
		for range 10 {
			c := g.confirm(t.Context(), one)
			g.at("b").answer(true) // of both's round, or c's
			if b := g.at("b"); b != nil {
				b.answer(true)
			}
			c.saysNow(true)
		}
		both.says(true, false)
		if both.took != defaultTimeout {
			t.Errorf("took %v, want %v", both.took, defaultTimeout)
		}
	})
}

func TestAGroupWantedTwiceIsAnsweredTwice(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		c := g.confirm(t.Context(), one, Want{1, 4}, one)
		g.at("b").answer(true)
		c.saysNow(true, false, true)
		if n := g.asked(); n != 2 {
			t.Errorf("%d asks, want 2", n)
		}
	})
}

func TestTheCallerLeaves(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		sharing, waiting := g.confirm(ctx, one), g.confirm(ctx, one)
		stays := g.confirm(t.Context(), one)
		cancel()
		sharing.saysNow(false)
		waiting.saysNow(false)
		g.at("b").answer(true)
		stays.pending()
		g.at("b").answer(true)
		stays.saysNow(true)
		if sharing.ok[0] || waiting.ok[0] {
			t.Error("an answer was written after Confirm had returned")
		}
		n, dirty := g.asked(), []bool{true}
		g.rounds.Confirm(ctx, []Want{one}, dirty)
		if g.asked() != n || dirty[0] {
			t.Error("somebody was asked for a caller who had left, or the answer was left as it was")
		}
	})
}

func TestNobodyIsAskedForCallersWhoLeft(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		first := g.confirm(t.Context(), one)
		ctx, cancel := context.WithCancel(t.Context())
		g.confirm(ctx, one)
		cancel()
		synctest.Wait()
		g.at("b").answer(true)
		first.saysNow(true)
		if n := g.asked(); n != 2 {
			t.Errorf("%d asks, want 2", n)
		}
	})
}

func TestAnsweredInPartWhenTheCallerLeaves(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(2, 5, "a", "d", "e")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		c := g.confirm(ctx, one, Want{2, 5})
		g.at("b").answer(true)
		c.says(true, false)
		if c.took != time.Millisecond {
			t.Errorf("took %v, want 1ms", c.took)
		}
	})
}

// Rounds that need no peer don't keep one caller busy for the others.
func TestRoundsOfSingleVotersAreStartedForOthers(t *testing.T) {
	in(t, func(t *testing.T, g *rig) {
		g.lead(1, 5, "a")
		gate := make(chan struct{})
		g.led = func(uint32) { <-gate }
		first, second := g.confirm(t.Context(), one), g.confirm(t.Context(), one)
		gate <- struct{}{}
		first.saysNow(true)
		second.pending() // its round has begun, and looks at the group
		close(gate)
		second.saysNow(true)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		sharing, waiting := g.confirm(t.Context(), one), g.confirm(t.Context(), one)
		g.linger = time.Millisecond
		start := time.Now()
		g.rounds.Close()
		if took := time.Since(start); took != g.linger || len(g.asks["b"])+len(g.asks["c"]) > 0 {
			t.Errorf("Close took %v with asks that take %v to end", took, g.linger)
		}
		sharing.saysNow(false)
		waiting.saysNow(false)
		n, dirty := g.asked(), []bool{true}
		g.rounds.Confirm(t.Context(), []Want{one}, dirty)
		if g.asked() != n || dirty[0] {
			t.Error("somebody was asked after Close, or the answer was left as it was")
		}
		g.rounds.Close()
	})
}

func TestCloseWhileARoundStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		gate := make(chan struct{})
		g.led = func(uint32) { <-gate }
		starting, waiting := g.confirm(t.Context(), one), g.confirm(t.Context(), one)
		g.rounds.Close()
		close(gate)
		starting.saysNow(false)
		waiting.saysNow(false)
		if n := g.asked(); n != 0 || g.looks != 1 {
			t.Errorf("%d asks and %d looks after Close, want the one look that was under way", n, g.looks)
		}
	})
}

func TestCloseWhileDeadPeersRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.confirm(t.Context(), one)
		g.at("b").fail()
		g.at("c").fail()
		synctest.Wait()
		start := time.Now()
		g.rounds.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v, want nothing", took)
		}
	})
}

func TestConfigFaultsAreAllReported(t *testing.T) {
	_, err := New(Config{Timeout: -1})
	for _, want := range []string{"Ask", "Led", "Here", "Now", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want a fault about %s", err, want)
		}
	}
}
