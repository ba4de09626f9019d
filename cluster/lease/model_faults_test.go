package lease_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"cloakroom/cluster/lease"
)

const nodes = 4

// newWorld founds a group on three nodes. The quickest clock goes almost ten
// per cent faster than the slowest.
func newWorld(seed uint64, without rule) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), without: without}
	slowest := 0.91 + 0.09*w.rng.Float64()
	for i := range nodes {
		w.nodes = append(w.nodes, &node{number: i, boot: w.some(time.Hour), holder: new(lease.Holder),
			rate: slowest * []float64{1, 1.099, 1 + 0.099*w.rng.Float64()}[w.rng.IntN(3)]})
	}
	first := &config{}
	for i := range 3 {
		w.make(w.nodes[i])
		first.voters = append(first.voters, i)
	}
	for _, r := range w.made {
		r.term, r.log = 1, []entry{{term: 1, config: first}}
	}
	for w.made[0].led == 0 {
		w.elect(w.made[0])
	}
	w.made[0].table.Found(uint64(w.made[0].led))
	return w
}

// play runs the world of a seed.
func play(seed uint64, without rule) *world {
	w := newWorld(seed, without)
	w.after(0, nil, w.writes)
	w.after(0, nil, w.faults)
	w.after(0, nil, w.changes)
	w.run(20 * time.Second)
	return w
}

// faults happen, again and again.
func (w *world) faults() {
	w.after(w.some(1200*time.Millisecond), nil, w.faults)
	n := w.nodes[w.rng.IntN(nodes)]
	switch dice := w.rng.IntN(100); {
	case dice < 20:
		n.paused = w.now + 200*time.Millisecond + w.some(w.some(10*time.Second)+1)
		w.lags(n, n.paused)
	case dice < 40:
		w.isolate(n)
	case dice < 68:
		if n.lives != nil {
			w.elect(n.lives)
		}
	case dice < 75:
		w.crash(n)
	case dice < 88:
		if n.lives != nil {
			n.lives.slow = w.now + w.some(6*time.Second)
		}
	default:
		n.wall = w.some(time.Minute) - 30*time.Second
	}
}

// isolate cuts some of the ways of a node, some in one direction only.
func (w *world) isolate(n *node) {
	until := w.now + 200*time.Millisecond + w.some(8*time.Second)
	if other := w.rng.IntN(nodes); w.one(3) && other != n.number { // one link
		w.cut[n.number][other], w.cut[other][n.number] = until, until
		if r := w.nodes[w.rng.IntN(nodes)].lives; r != nil {
			r.slow = until
			w.after(w.some(500*time.Millisecond), r, func() { w.elect(r) })
		}
		return
	}
	for i := range nodes {
		if i != n.number && !w.one(4) {
			if !w.one(4) {
				w.cut[i][n.number] = until
			}
			if !w.one(4) {
				w.cut[n.number][i] = until
			}
		}
	}
	w.lags(n, until)
}

// lags has a replica that was away ask for a lease when it is back, and apply
// slowly for a while.
func (w *world) lags(n *node, back time.Duration) {
	r := n.lives
	if r == nil || w.one(2) {
		return
	}
	r.slow = back + w.some(3*time.Second)
	w.after(back-w.now+w.some(50*time.Millisecond), r, func() {
		w.lookFor(r)
		w.burst()
	})
}

// bereft reports whether some configuration that a replica goes by would lack a
// majority without one more.
func (w *world) bereft(lost *replica) bool {
	for _, r := range w.made {
		if r.gone {
			continue
		}
		config, _ := r.config()
		kept := 0
		for _, id := range config.voters {
			if v := w.made[id]; !v.gone && v != lost {
				kept++
			}
		}
		if kept <= len(config.voters)/2 && len(config.voters) > 0 {
			return true
		}
	}
	return false
}

// crash ends a node's process, unless what was promised would be lost with its
// memory.
func (w *world) crash(n *node) {
	if r := n.lives; r != nil && !w.bereft(r) {
		r.gone, r.flag, n.lives = true, false, nil
	}
}

// changes has leaders change the configuration, again and again.
func (w *world) changes() {
	w.after(w.some(500*time.Millisecond), nil, w.changes)
	l := w.granter()
	if l == nil || !l.leads() || l.node.paused > w.now {
		return
	}
	config, at := l.config()
	if at > l.commit || !w.sure(l) || l.log[l.commit-1].term != l.led {
		return
	}
	if next := w.change(l, config); next != nil {
		w.append(l, entry{term: l.led, config: next})
	}
}

// change is a configuration one replica away: without one that is gone, with a
// learner promoted, with a new learner, without a member.
func (w *world) change(l *replica, c *config) *config {
	next := &config{slices.Clone(c.voters), slices.Clone(c.learners)}
	for _, id := range slices.Concat(c.voters, c.learners) {
		if w.made[id].gone {
			return w.remove(next, w.made[id])
		}
	}
	n := w.nodes[w.rng.IntN(nodes)]
	switch r := n.lives; {
	case r == nil:
		r = w.make(n)
		next.learners = append(next.learners, r.number)
	case slices.Contains(c.learners, r.number):
		if l.match[r] < len(l.log)-3 || w.one(2) {
			return nil
		}
		next.learners = slices.DeleteFunc(next.learners, func(id int) bool { return id == r.number })
		next.voters = append(next.voters, r.number)
	case r != l && c.has(r.number) && len(c.voters) > 2 && w.one(4):
		return w.remove(next, r)
	default:
		return nil
	}
	return next
}

// remove takes a replica out of a configuration. Its node hears of it and
// closes it, some time after that is committed.
func (w *world) remove(next *config, r *replica) *config {
	same := func(id int) bool { return id == r.number }
	next.voters, next.learners = slices.DeleteFunc(next.voters, same), slices.DeleteFunc(next.learners, same)
	w.after(w.some(8*time.Second), r, func() { w.closes(r) })
	return next
}

func (w *world) closes(r *replica) {
	for i := len(w.log) - 1; i >= 0; i-- {
		if c := w.log[i].config; c != nil {
			if !c.has(r.number) && !w.bereft(r) {
				r.gone, r.flag, r.node.lives = true, false, nil
			}
			return
		}
	}
}
