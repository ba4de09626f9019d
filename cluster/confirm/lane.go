package confirm

import (
	"context"
	"slices"
	"time"
)

// lane is the way to one node: one ask at a time, with the questions of every
// group that needs it. Guarded by Rounds.mu, except where said.
type lane struct {
	node    string
	busy    bool     // a goroutine runs it
	pending []*group // each once; whose rounds may be over by now

	// Of the ask outstanding. While busy they belong to the goroutine.
	questions []Question
	asked     []asked
	next      []*group

	tried   time.Time // when the last ask began
	reading           // of the last answer
	heard   bool
}

// asked is the round a question belongs to.
type asked struct {
	group *group
	round uint64
}

const (
	// rest is how long a node is left alone after an ask that failed.
	rest = 20 * time.Millisecond
	// stale is how old the last ask may be before one is made for the sake of
	// the node's clock alone: others may always be quicker to form a quorum.
	stale = 500 * time.Millisecond
)

// enlist has the node asked about the group's round. The caller holds mu.
func (r *Rounds) enlist(node string, g *group) {
	l := r.lanes[node]
	if l == nil {
		l = &lane{node: node}
		r.lanes[node] = l
	}
	if !slices.Contains(l.pending, g) {
		l.pending = append(l.pending, g)
	}
	if !l.busy {
		l.busy = true
		r.running.Go(func() { r.run(l) }) // ends when nothing is pending; Close ends its ask
	}
}

// run asks until nothing is pending.
func (r *Rounds) run(l *lane) {
	for r.take(l) {
		answer, reading, err := r.ask(l)
		r.mu.Lock()
		if err == nil {
			l.reading, l.heard = reading, true
		}
		r.count(l, answer.Yes)
		r.mu.Unlock()
		if len(l.next) > 0 {
			r.start(l.next)
		}
		if err != nil {
			r.pause()
		}
	}
}

// take forms the next ask of what is pending: the questions of all rounds that
// are still open, or none if it is time to hear of the node again. It reports
// false, and that the lane is free, if there is nothing to ask.
func (r *Rounds) take(l *lane) bool {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	l.questions, l.asked = l.questions[:0], l.asked[:0]
	for _, g := range l.pending {
		if g.state != asking {
			continue // over; or a new round, which enlists again
		}
		for i := range g.lead.Voters {
			if v := &g.lead.Voters[i]; v.Node == l.node {
				l.questions = append(l.questions, Question{g.number, v.Replica, g.lead.Term})
				l.asked = append(l.asked, asked{g, g.round})
			}
		}
	}
	age := now.Sub(l.tried) // negative if the clock was set back
	l.busy = len(l.questions) > 0 || len(l.pending) > 0 && (age < 0 || age >= stale)
	if l.busy {
		l.tried = now
	}
	clear(l.pending)
	l.pending = l.pending[:0]
	return l.busy
}

// ask puts the questions and reads the clocks around them.
func (r *Rounds) ask(l *lane) (Answer, reading, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	sent := l.tried // just now
	answer, err := r.cfg.Ask(ctx, l.node, l.questions)
	got := r.cfg.Now()
	if err != nil || len(answer.Yes) != len(l.questions) {
		return Answer{}, reading{}, errNoAnswer
	}
	return answer, read(sent, got, &answer), nil
}

// count counts the answers to the lane's questions, no for every one if yes is
// empty. An answer to a round that is over counts for nothing: its question
// was asked before the sharers of the present one came. The groups whose next
// round has begun and must be started are in next then.
func (r *Rounds) count(l *lane, yes []bool) {
	l.next = l.next[:0]
	for i, a := range l.asked {
		g := a.group
		if g.state != asking || g.round != a.round {
			continue
		}
		g.vote(len(yes) > 0 && yes[i])
		if r.decide(g) && g.state == starting {
			l.next = append(l.next, g)
		}
	}
}

// pause waits for a while, or until Close.
func (r *Rounds) pause() {
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}
