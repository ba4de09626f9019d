package confirm

import "slices"

// state says where a group stands between two rounds.
type state uint8

const (
	idle     state = iota // no round under way, and nobody waits
	starting              // the round belongs to the goroutine that starts it
	asking                // voters are being asked
)

// group is one group and the round that is under way for it. Guarded by
// Rounds.mu, except that what the round knows belongs to the goroutine that
// starts it while state is starting.
type group struct {
	number  uint32
	waiting []waiter // arrived since the round began: they share the next

	state   state
	round   uint64 // counts rounds; an answer to an earlier one does not count
	sharers []waiter
	lead    Lead
	leads   bool   // lead is valid
	home    string // the leader's node, empty if the leader is no voter
	yes, no int    // votes; an ask that failed is a no
}

// waiter is one group that one caller waits for.
type waiter struct {
	caller *caller
	at     int // in caller.ok
	term   uint64
}

// answer tells the caller.
func (w *waiter) answer(yes bool) {
	c := w.caller
	if c.gone {
		return
	}
	c.ok[w.at] = yes
	if c.left--; c.left == 0 {
		c.done <- struct{}{}
	}
}

// group returns the group of that number. The caller holds mu.
func (r *Rounds) group(number uint32) *group {
	g := r.groups[number]
	if g == nil {
		g = &group{number: number}
		r.groups[number] = g
	}
	return g
}

// begin closes the round to come: who waits now shares it, who comes later
// does not. The caller holds mu and sees to it that start is called.
func (g *group) begin() {
	g.sharers, g.waiting = g.waiting, g.sharers
	g.state = starting
	g.round++
}

// start looks at the groups anew and asks their voters. The rounds have begun,
// and it is called without mu: everybody who shares them came before.
func (r *Rounds) start(groups []*group) {
	for _, g := range groups {
		r.look(g)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var again []*group
	for _, g := range groups {
		if r.launch(g) {
			again = append(again, g)
		}
	}
	if len(again) > 0 {
		r.startLater(again)
	}
}

// look takes the group's lead and the votes of this node's own replicas, the
// leader's first of all. A voter that nobody can place counts against.
func (r *Rounds) look(g *group) {
	g.lead, g.leads = r.cfg.Led(g.number)
	g.home, g.yes, g.no = "", 0, 0
	if !g.leads {
		return
	}
	for i := range g.lead.Voters {
		if v := &g.lead.Voters[i]; v.Replica == g.lead.Self {
			g.home = v.Node
		}
	}
	for i := range g.lead.Voters {
		switch v := &g.lead.Voters[i]; {
		case v.Replica == g.lead.Self || v.Node == g.home && v.Node != "":
			g.vote(r.cfg.Here(Question{g.number, v.Replica, g.lead.Term}))
		case v.Node == "":
			g.vote(false)
		}
	}
}

// startLater starts rounds in a goroutine: those that need no peer could keep
// a caller busy for others for ever. The caller holds mu.
func (r *Rounds) startLater(groups []*group) {
	r.running.Go(func() { r.start(groups) }) // Close refuses who waits for them
}

// launch refuses whom the round can't answer and puts the group on the lanes
// of its voters' nodes. It reports whether another round has begun and must be
// started, because this one needed nobody else.
func (r *Rounds) launch(g *group) bool {
	g.state = asking
	g.sharers = slices.DeleteFunc(g.sharers, func(w waiter) bool {
		over := r.closed || !g.leads || w.term != g.lead.Term
		if over {
			w.answer(false)
		}
		return over || w.caller.gone
	})
	if r.decide(g) {
		return g.state == starting
	}
	for i := range g.lead.Voters {
		if node := g.lead.Voters[i].Node; node != "" && node != g.home {
			r.enlist(node, g)
		}
	}
	return false
}

func (g *group) vote(yes bool) {
	if yes {
		g.yes++
	} else {
		g.no++
	}
}

// decide ends the round if its outcome is known or nobody shares it any more,
// and begins the next one if somebody waits. It reports whether the round is
// over.
func (r *Rounds) decide(g *group) bool {
	voters := len(g.lead.Voters)
	quorum := voters/2 + 1
	if len(g.sharers) > 0 && g.yes < quorum && g.no <= voters-quorum {
		return false
	}
	g.settle(g.yes >= quorum)
	g.state = idle
	if r.closed {
		g.begin()
		g.settle(false)
		g.state = idle
	}
	if len(g.waiting) > 0 {
		g.begin()
	}
	return true
}

// settle answers everybody who shares the round.
func (g *group) settle(yes bool) {
	for i := range g.sharers {
		g.sharers[i].answer(yes)
	}
	clear(g.sharers)
	g.sharers = g.sharers[:0]
}
