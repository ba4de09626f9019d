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
// Rounds.mu, except that lead, leads and here belong to the goroutine that
// starts the round while state is starting.
type group struct {
	number  uint32
	waiting []waiter // arrived since the round began: they share the next

	state   state
	round   uint64 // counts rounds; an answer to an earlier one does not count
	sharers []waiter
	lead    Lead
	leads   bool // lead is valid
	here    bool // the leader's own vote
	yes, no int  // votes; silence of an ask that failed is a no
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
		g.lead, g.leads = r.cfg.Led(g.number)
		g.here = g.leads && r.cfg.Here(Question{g.number, g.lead.Self, g.lead.Term})
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

// startLater starts rounds in a goroutine: those that need no peer could keep
// a caller busy for others for ever. The caller holds mu.
func (r *Rounds) startLater(groups []*group) {
	r.running.Go(func() { r.start(groups) }) // Close refuses who waits for them
}

// launch counts the leader's own vote and puts the group on the lanes of the
// others. It reports whether another round has begun and must be started,
// because this one needed nobody else.
func (r *Rounds) launch(g *group) bool {
	g.state, g.yes, g.no = asking, 0, 0
	g.sharers = slices.DeleteFunc(g.sharers, func(w waiter) bool {
		over := r.closed || !g.leads || w.term != g.lead.Term
		if over {
			w.answer(false)
		}
		return over || w.caller.gone
	})
	for i := range g.lead.Voters {
		switch v := &g.lead.Voters[i]; {
		case v.Replica == g.lead.Self:
			g.vote(g.here)
		case v.Node == "":
			g.vote(false)
		}
	}
	if r.decide(g) {
		return g.state == starting
	}
	for i := range g.lead.Voters {
		if v := &g.lead.Voters[i]; v.Replica != g.lead.Self && v.Node != "" {
			r.enlist(v.Node, g)
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

// decide ends the round if its outcome is known, and begins the next one if
// somebody waits. It reports whether the round is over.
func (r *Rounds) decide(g *group) bool {
	voters := len(g.lead.Voters)
	quorum := voters/2 + 1
	if len(g.sharers) > 0 && g.yes < quorum && g.no <= voters-quorum {
		return false
	}
	g.settle(g.yes >= quorum)
	g.state = idle
	g.waiting = slices.DeleteFunc(g.waiting, func(w waiter) bool { return w.caller.gone })
	if r.closed {
		g.refuseWaiting()
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

// refuseWaiting answers everybody who waits for the next round with no.
func (g *group) refuseWaiting() {
	for i := range g.waiting {
		g.waiting[i].answer(false)
	}
	clear(g.waiting)
	g.waiting = g.waiting[:0]
}
