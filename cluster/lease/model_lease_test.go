package lease_test

import (
	"fmt"
	"slices"
	"time"

	"cloakroom/cluster/lease"
)

// length of leases.
const length = 3 * time.Second

// granter returns a replica that takes itself for the leader: mostly the newest.
func (w *world) granter() *replica {
	flags := w.flags()
	if len(flags) == 0 {
		return nil
	}
	if w.one(3) {
		return flags[w.rng.IntN(len(flags))]
	}
	return slices.MaxFunc(flags, func(a, b *replica) int { return a.led - b.led })
}

// flags are those that take themselves for leaders.
func (w *world) flags() (flags []*replica) {
	for _, r := range w.made {
		if r.flag && !r.gone {
			flags = append(flags, r)
		}
	}
	return flags
}

// sure reports whether a replica counts as the leader: an entry of its own term
// is applied.
func (w *world) sure(r *replica) bool {
	if !r.flag {
		return false
	}
	return w.without == ownTerm || r.applied >= r.own
}

// asks has a replica ask for a lease, again and again.
func (w *world) asks(r *replica) {
	w.after(time.Duration(float64(length/6)/r.node.rate), r, func() { w.asks(r) })
	w.lookFor(r)
}

// lookFor has a replica ask for a lease.
func (w *world) lookFor(r *replica) {
	l := w.granter()
	if l == nil || len(r.log) == 0 {
		return
	}
	start := w.clock(r.node) // first: a vote must not be older
	w.question(r, l, start, r.term)
}

// question carries a replica's wish for a lease to a leader, and its vote.
func (w *world) question(r, l *replica, start time.Duration, vote int) {
	carried := w.one(2)
	w.send(r.node, l.node, l, func() {
		if !w.sure(l) {
			return
		}
		w.grants(l, r, func(index int) {
			if carried && w.vouched(l, r, vote) || w.without == round {
				w.answers(l, r, start, index)
				return
			}
			w.confirm(l, func() { w.answers(l, r, start, index) })
		})
	})
}

// grants enters a lease in the leader's table and takes the index.
func (w *world) grants(l, r *replica, then func(index int)) {
	name := r.id()
	if w.without == identity {
		name = fmt.Sprint("n", r.node.number)
	}
	enter := func(index int) int {
		return int(l.table.Enter(uint64(l.led), name, fmt.Sprint(r.node.number), w.clock(l.node), length, func() uint64 {
			return uint64(max(index, 0))
		}))
	}
	switch w.without {
	case entered:
		then(l.applied)
	case together:
		index := l.applied
		w.after(w.some(1+w.some(2*time.Second)), l, func() { then(enter(index)) })
	default:
		then(enter(l.applied))
	}
}

// vouched reports whether the leader's own vote and one that came along are a
// majority.
func (w *world) vouched(l, r *replica, term int) bool {
	config, _ := l.config()
	votes := 0
	if slices.Contains(config.voters, l.number) && l.term == l.led {
		votes++
	}
	if r != l && slices.Contains(config.voters, r.number) && term <= l.led {
		votes++
	}
	return votes > len(config.voters)/2
}

// confirm asks the voters whether they have moved to a newer term.
func (w *world) confirm(l *replica, then func()) {
	config, _ := l.config()
	term, votes, need := l.led, 0, len(config.voters)/2+1
	count := func(yes bool) {
		if yes {
			votes++
		}
		if yes && votes == need {
			then()
		}
	}
	for _, id := range config.voters {
		v := w.made[id]
		if v == l {
			count(l.term == term)
			continue
		}
		w.ask(l, v, func(v *replica) { // where the voter lives
			yes := !v.gone && v.term <= term
			w.send(v.node, l.node, l, func() { count(yes) })
		})
	}
}

// ask carries a question to a replica; if replicas are asked for by node, to
// whichever lives there.
func (w *world) ask(from, to *replica, do func(*replica)) {
	w.send(from.node, to.node, nil, func() {
		at := to
		if w.without == identity {
			at = to.node.lives
		}
		if at != nil && !at.gone {
			w.after(0, at, func() { do(at) }) // once its process runs
		}
	})
}

// answers brings a lease to who asked for it.
func (w *world) answers(l, r *replica, start time.Duration, index int) {
	w.count.grants++
	w.ask(l, r, func(r *replica) {
		if w.without == fromQuestion {
			start = w.clock(r.node)
		}
		usable := lease.Usable(length)
		if w.without == margin {
			usable = length + length/4
		}
		if w.without == applied {
			index = 0
		}
		r.once(index, func() { r.holder.Extend(start + usable) })
	})
}

// reads has a replica answer reads, again and again.
func (w *world) reads(r *replica) {
	w.after(w.some(150*time.Millisecond), r, func() { w.reads(r) })
	w.read(r)
}

// read answers one read of the state of a replica: its index stands for it.
func (w *world) read(r *replica) {
	called, state, until := w.settled, r.applied, r.holder.Until()
	early := w.clock(r.node)
	gap := w.some(time.Millisecond)
	if w.one(10) {
		gap = w.some(100 * time.Millisecond)
	}
	w.after(gap, r, func() {
		looked := w.clock(r.node)
		switch w.without {
		case recheck:
			looked, state = early, r.applied
		case untilFirst:
			until = r.holder.Until()
		}
		if looked >= until {
			w.count.refused++
			return
		}
		w.count.reads++
		if state < called {
			w.broken = fmt.Sprintf("%v: %s answers from index %d what was erased with %d, before it was asked", w.now, r.id(), state, called)
		}
		if must := w.ackedBy(w.now - length); state < must {
			w.broken = fmt.Sprintf("%v: %s answers from index %d, %d is older than a lease", w.now, r.id(), state, must)
		}
	})
}

// ackedBy returns the highest index that was acknowledged by then.
func (w *world) ackedBy(then time.Duration) (index int) {
	for i := len(w.acked) - 1; i >= 0; i-- {
		if w.acked[i].at <= then {
			return w.acked[i].index
		}
	}
	return 0
}

// writes has clients write, again and again.
func (w *world) writes() {
	w.after(w.some(200*time.Millisecond), nil, w.writes)
	w.client()
}

// burst has clients write much for a short while.
func (w *world) burst() {
	for range 6 {
		w.after(w.some(300*time.Millisecond), nil, w.client)
	}
}

// client writes once, and erases every other time.
func (w *world) client() {
	l := w.granter()
	if l == nil || !l.leads() || l.node.paused > w.now {
		return
	}
	w.write(l, w.one(2), func(index int) {
		if w.one(4) { // again, by another client: erased already
			if l.leads() {
				w.write(l, true, func(again int) {
					if w.without == repeated {
						w.erased(index)
						return
					}
					w.settles(again, 0)
				})
			}
		}
		w.settles(index, 0)
	})
}

// write appends a write at a leader and acknowledges it once it is applied. An
// erasure then goes on.
func (w *world) write(l *replica, erases bool, then func(index int)) {
	term := l.led
	index := w.append(l, entry{term: term})
	l.once(index, func() {
		if l.log[index-1].term != term {
			return
		}
		if len(w.acked) == 0 || w.acked[len(w.acked)-1].index < index {
			w.acked = append(w.acked, ack{w.now, index})
		}
		if erases {
			then(index)
		}
	})
}

// erased notes that an erasure is acknowledged, and has everybody read.
func (w *world) erased(index int) {
	w.count.erasures++
	w.settled = max(w.settled, index)
	for _, n := range w.nodes {
		if r := n.lives; r != nil {
			w.after(0, r, func() { w.read(r) })
		}
	}
}
