package confirm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask is one ask that a test answers by hand.
type ask struct {
	questions []Question
	reply     chan reply // cap 1
}

type reply struct {
	answer Answer
	err    error
}

// answer says the same to every question.
func (a *ask) answer(yes bool) {
	all := make([]bool, len(a.questions))
	for i := range all {
		all[i] = yes
	}
	a.reply <- reply{answer: Answer{Yes: all, Now: time.Now()}}
}

func (a *ask) fail() { a.reply <- reply{err: errors.New("unreachable")} }

// rig is the world around Rounds in a bubble: what this node, "a", leads, and
// asks to the others that wait for the test.
type rig struct {
	t      *testing.T
	rounds *Rounds

	mu    sync.Mutex
	leads map[uint32]Lead
	lost  bool               // Led says no
	own   bool               // what Here says
	led   func(group uint32) // before Led answers
	looks int                // calls of Led
	asks  map[string][]*ask
	most  map[string]int // asks outstanding at once
	total int

	linger time.Duration // how long an ask takes to end when it is over
	back   time.Duration // how far the clock was set back
}

// newRig makes Rounds of a node that leads group 1 in term 5, with voters on
// the nodes a, b and c.
func newRig(t *testing.T) *rig {
	g := &rig{t: t, own: true, asks: map[string][]*ask{}, most: map[string]int{}, leads: map[uint32]Lead{}}
	g.lead(1, 5, "a", "b", "c")
	var err error
	g.rounds, err = New(Config{Ask: g.ask, Led: g.look, Here: g.here, Now: g.now})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// lead has this node lead a group whose voters live on nodes.
func (g *rig) lead(group uint32, term uint64, nodes ...string) {
	lead := Lead{Term: term, Self: replicaOf(group, "a")}
	for _, node := range nodes {
		lead.Voters = append(lead.Voters, Voter{replicaOf(group, node), node})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leads[group] = lead
}

// vote sets what the leader's own replica answers.
func (g *rig) vote(yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = yes
}

func replicaOf(group uint32, node string) string { return fmt.Sprintf("%s/%d", node, group) }

func (g *rig) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Add(-g.back)
}

func (g *rig) setBack(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.back = d
}

func (g *rig) look(group uint32) (Lead, bool) {
	g.mu.Lock()
	hook := g.led
	g.mu.Unlock()
	if hook != nil {
		hook(group)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks++
	lead, ok := g.leads[group]
	return lead, ok && !g.lost
}

func (g *rig) here(q Question) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own && q.Replica == g.leads[q.Group].Self
}

func (g *rig) ask(ctx context.Context, node string, questions []Question) (Answer, error) {
	a := &ask{append([]Question(nil), questions...), make(chan reply, 1)}
	g.mu.Lock()
	g.asks[node] = append(g.asks[node], a)
	g.most[node] = max(g.most[node], len(g.asks[node]))
	g.total++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asks[node] = g.asks[node][1:]
	}()
	select {
	case r := <-a.reply:
		return r.answer, r.err
	case <-ctx.Done():
		if g.linger > 0 {
			sleep(g.linger)
		}
		return Answer{}, ctx.Err()
	}
}

// at returns the ask that a node has before it, nil if none, once nothing in
// the bubble moves any more.
func (g *rig) at(node string) *ask {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asks[node]) == 0 {
		return nil
	}
	return g.asks[node][0]
}

// asked returns how many asks there were.
func (g *rig) asked() int {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// call is a Confirm under way.
type call struct {
	t    *testing.T
	ok   []bool
	done chan struct{}
	took time.Duration
}

// confirm calls Confirm in a goroutine of its own.
func (g *rig) confirm(ctx context.Context, want ...Want) *call {
	c := &call{g.t, make([]bool, len(want)), make(chan struct{}), 0}
	start := time.Now()
	go func() { // ends with the call
		g.rounds.Confirm(ctx, want, c.ok)
		c.took = time.Since(start)
		close(c.done)
	}()
	synctest.Wait()
	return c
}

// pending checks that the call has no answer yet.
func (c *call) pending() {
	c.t.Helper()
	synctest.Wait()
	select {
	case <-c.done:
		c.t.Errorf("Confirm returned %v, want it to wait", c.ok)
	default:
	}
}

// says waits for the call and checks its answer.
func (c *call) says(want ...bool) {
	c.t.Helper()
	<-c.done
	if fmt.Sprint(c.ok) != fmt.Sprint(want) {
		c.t.Errorf("Confirm = %v, want %v", c.ok, want)
	}
}

// saysNow checks that the answer is there already.
func (c *call) saysNow(want ...bool) {
	c.t.Helper()
	synctest.Wait()
	select {
	case <-c.done:
		c.says(want...)
	default:
		c.t.Errorf("Confirm waits, want %v", want)
		<-c.done
	}
}

// in runs a test in a bubble and closes its Rounds.
func in(t *testing.T, test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		defer g.rounds.Close()
		test(t, g)
	})
}

var one = Want{Group: 1, Term: 5}

// sleep lets the bubble's time pass.
func sleep(d time.Duration) { <-time.After(d) }
