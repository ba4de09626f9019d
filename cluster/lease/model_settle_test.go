package lease_test

import (
	"slices"
	"time"

	"cloakroom/cluster/lease"
)

// settles has an erasure settled: by whoever takes itself for the leader, and by
// another one if that takes long.
func (w *world) settles(index, tries int) {
	if w.without == barrier {
		w.erased(index)
		return
	}
	flags, done := w.flags(), false
	if tries > 5 {
		return
	}
	if len(flags) > 0 {
		l := flags[w.rng.IntN(len(flags))]
		w.after(w.some(2*time.Millisecond), l, func() {
			if w.sure(l) {
				l.once(index, func() {
					w.settle(l, index, func() {
						if !done {
							done = true
							w.erased(index)
						}
					})
				})
			}
		})
	}
	w.after(time.Second+w.some(4*time.Second), nil, func() {
		if !done {
			w.settles(index, tries+1)
		}
	})
}

// settle is the barrier at a leader which has applied the index: in a term in
// which it still leads. So newer leaders know of the erasure before they grant
// anything, and no round is needed.
func (w *world) settle(l *replica, index int, then func()) {
	if l.term != l.led && w.without != stillLed {
		return
	}
	now, done := w.clock(l.node), false
	young := l.table.Young(uint64(l.led), now, length)
	if w.without == youngLeader {
		young = 0
	}
	look := func() {
		now := w.clock(l.node)
		if !done && now >= young && len(w.standing(l, index, now)) == 0 {
			done = true
			then()
		}
	}
	at := func(over time.Duration) { // by its clock
		w.after(time.Duration(float64(over-now)/l.node.rate)+time.Microsecond, l, look)
	}
	if young > now {
		w.count.young++
		at(young)
	}
	for _, s := range w.standing(l, index, now) {
		at(s.Over)
		w.await(l, s, index, look)
	}
	look()
}

// standing returns who may answer from before an index.
func (w *world) standing(l *replica, index int, now time.Duration) []lease.Standing {
	all := l.table.Before(uint64(index), now, nil)
	config, _ := l.config()
	return slices.DeleteFunc(all, func(s lease.Standing) bool {
		r := w.named(s)
		switch w.without {
		case onlyMembers:
			return !config.has(r.number)
		case onlyVoters:
			return !slices.Contains(config.voters, r.number) && config.has(r.number)
		}
		return false
	})
}

// named returns the replica that stands in a table.
func (w *world) named(s lease.Standing) *replica {
	for _, r := range w.made {
		if r.id() == s.Replica {
			return r
		}
	}
	return &replica{number: -1}
}

// await asks one replica to say when it has applied an index.
func (w *world) await(l *replica, s lease.Standing, index int, then func()) {
	heard := func() {
		l.table.Applied(s.Replica, uint64(index))
		then()
	}
	for _, r := range w.made {
		if r.id() != s.Replica {
			continue
		}
		if r == l {
			heard()
			continue
		}
		w.ask(l, r, func(r *replica) {
			r.once(index, func() { w.send(r.node, l.node, l, heard) })
		})
	}
}
