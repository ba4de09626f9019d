package lease_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"cloakroom/cluster/lease"
)

// event is something that happens at a moment, in a process that may be paused
// then or dead: later, or never.
type event struct {
	at  time.Duration
	seq int
	in  *replica // whose process; nil: the world's
	do  func()
}

func (e event) before(f event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// world is one group of replicas on a few nodes, as far as leases go: terms,
// logs, configurations, messages, and clocks that run at rates of their own.
type world struct {
	rng     *rand.Rand
	without rule
	now     time.Duration // true time, which nobody sees
	events  []event       // a heap
	seq     int
	nodes   []*node
	cut     [nodes][nodes]time.Duration // until when nothing goes from one to the other
	made    []*replica                  // all that ever lived
	log     []entry                     // what is committed

	acked   []ack // in the order of time and index
	settled int   // of what is erased and acknowledged, the highest index
	broken  string
	count   counts
}

// ack says that a write was acknowledged.
type ack struct {
	at    time.Duration
	index int
}

// counts tell whether a run was worth anything.
type counts struct{ events, reads, refused, grants, elections, erasures, young int }

func (c *counts) add(d counts) {
	*c = counts{c.events + d.events, c.reads + d.reads, c.refused + d.refused, c.grants + d.grants,
		c.elections + d.elections, c.erasures + d.erasures, c.young + d.young}
}

// node is a machine. Its clock never stops and is never set; the one on its
// wall is.
type node struct {
	number int
	rate   float64
	boot   time.Duration
	wall   time.Duration // how wrong
	paused time.Duration // until
	lives  *replica      // nil: none
	holder *lease.Holder // used when leases belong to nodes
}

// entry is one of a log. What a write says does not matter: a state is known by
// its index.
type entry struct {
	term   int
	config *config // nil: not a change
}

// config is who belongs to the group, by number.
type config struct{ voters, learners []int }

func (c *config) has(id int) bool {
	return slices.Contains(c.voters, id) || slices.Contains(c.learners, id)
}

// replica is one identity: a log and what goes with it.
type replica struct {
	number  int
	node    *node
	term    int
	led     int  // the term it was elected in last
	own     int  // the index of its entry of that term
	flag    bool // it takes itself for the leader
	log     []entry
	commit  int
	applied int
	slow    time.Duration // until when it takes its time to apply
	heard   time.Duration // when a leader was heard
	match   map[*replica]int
	gone    bool // with its memory
	waiting []waiting
	holder  *lease.Holder
	table   *lease.Table
}

// waiting is what is to be done once an index is applied.
type waiting struct {
	index int
	do    func()
}

func (r *replica) id() string { return fmt.Sprint("r", r.number) }

// leads reports whether it can append to its log.
func (r *replica) leads() bool { return r.flag && r.term == r.led }

// config is the latest of its log, committed or not, and its index.
func (r *replica) config() (*config, int) {
	for i := len(r.log) - 1; i >= 0; i-- {
		if r.log[i].config != nil {
			return r.log[i].config, i + 1
		}
	}
	return &config{}, 0
}

// push adds an event.
func (w *world) push(e event) {
	w.events = append(w.events, e)
	for i := len(w.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !w.events[i].before(w.events[up]) {
			return
		}
		w.events[i], w.events[up], i = w.events[up], w.events[i], up
	}
}

// pop takes the earliest event.
func (w *world) pop() event {
	first, n := w.events[0], len(w.events)-1
	w.events[0], w.events[n] = w.events[n], event{}
	w.events = w.events[:n]
	for i := 0; ; {
		least := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < n && w.events[down].before(w.events[least]) {
				least = down
			}
		}
		if least == i {
			return first
		}
		w.events[i], w.events[least], i = w.events[least], w.events[i], least
	}
}

// after has something happen in a process a while from now.
func (w *world) after(d time.Duration, in *replica, do func()) {
	w.seq++
	w.push(event{w.now + d, w.seq, in, do})
}

// run lets everything happen until the time is over, or something broke.
func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.broken == "" {
		e := w.pop()
		if e.at > until {
			return
		}
		w.now = max(w.now, e.at)
		if e.in != nil && e.in.node.paused > w.now {
			e.at = e.in.node.paused
			w.push(e)
			continue
		}
		if e.in == nil || !e.in.gone {
			w.count.events++
			e.do()
		}
	}
}

// some is a random time up to d.
func (w *world) some(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *world) one(in int) bool { return w.rng.IntN(in) == 0 }

// clock is what leases are measured with.
func (w *world) clock(n *node) time.Duration {
	if w.without == uptime {
		return w.now + n.wall + time.Hour
	}
	return n.boot + time.Duration(n.rate*float64(w.now))
}

// send carries a message, which takes its time, or gets held, or lost.
func (w *world) send(from, to *node, in *replica, do func()) {
	delay := 50*time.Microsecond + w.some(time.Millisecond)
	if from == to {
		delay = 0
	} else if open := w.cut[from.number][to.number]; open > w.now {
		if w.one(2) {
			return
		}
		delay += open - w.now
	} else if w.one(50) {
		delay += w.some(4 * time.Second)
	} else if w.one(200) {
		return
	}
	w.after(delay, in, do)
}

// reach reports whether two nodes hear each other now.
func (w *world) reach(a, b *node) bool {
	return a == b || w.cut[a.number][b.number] <= w.now && w.cut[b.number][a.number] <= w.now && b.paused <= w.now
}

// make starts a replica, empty.
func (w *world) make(n *node) *replica {
	r := &replica{number: len(w.made), node: n, heard: w.now, holder: new(lease.Holder), table: new(lease.Table)}
	if w.without == identity {
		r.holder = n.holder
	}
	w.made = append(w.made, r)
	n.lives = r
	w.after(w.some(length/6), r, func() { w.asks(r) })
	w.after(w.some(20*time.Millisecond), r, func() { w.reads(r) })
	w.after(w.some(time.Second), r, func() { w.watches(r) })
	return r
}

// watches has a replica that hears no leader stand for election.
func (w *world) watches(r *replica) {
	if w.now-r.heard > 500*time.Millisecond && !r.flag {
		w.elect(r)
	}
	w.after(500*time.Millisecond+w.some(500*time.Millisecond), r, func() { w.watches(r) })
}

// elect has a replica stand for election in a new term. Each voter hears of it
// or not.
func (w *world) elect(c *replica) {
	config, _ := c.config()
	if c.gone || c.flag || !slices.Contains(config.voters, c.number) {
		return
	}
	c.term++
	votes := 0
	for _, id := range config.voters {
		v := w.made[id]
		switch {
		case v == c:
			votes++
		case !v.gone && v.term < c.term && w.reach(c.node, v.node) && !w.one(4):
			w.moves(v, c.term)
			if older(v, c) {
				votes++
			}
		}
	}
	if votes <= len(config.voters)/2 {
		return
	}
	w.count.elections++
	c.led, c.flag, c.match = c.term, true, map[*replica]int{}
	c.own = w.append(c, entry{term: c.term})
	w.beats(c, c.led)
	w.burst()
	for _, n := range w.nodes { // who looks for a leader finds one
		if r := n.lives; r != nil && w.one(2) {
			w.after(w.some(20*time.Millisecond), r, func() { w.lookFor(r) })
		}
	}
	if w.one(2) {
		w.after(w.some(50*time.Millisecond), c, func() { c.table.Lead(uint64(c.led), w.clock(c.node)) })
	}
}

// older reports whether the log of a voter is at most as new as that of who asks
// for its vote.
func older(v, c *replica) bool {
	last := func(r *replica) int {
		if len(r.log) == 0 {
			return 0
		}
		return r.log[len(r.log)-1].term
	}
	return last(v) < last(c) || last(v) == last(c) && len(v.log) <= len(c.log)
}

// moves has a replica hear of a newer term. The flag that says it leads falls
// a little later.
func (w *world) moves(r *replica, term int) {
	if term <= r.term {
		return
	}
	r.term = term
	if r.flag {
		led := r.led
		w.after(w.some(1+w.some(500*time.Millisecond)), r, func() { r.flag = r.flag && r.led != led })
	}
}

// append adds an entry to a leader's log and returns its index.
func (w *world) append(l *replica, e entry) int {
	l.log = append(l.log, e)
	l.match[l] = len(l.log)
	w.advance(l)
	return len(l.log)
}

// beats has a leader bring everybody up to date, again and again.
func (w *world) beats(l *replica, term int) {
	if l.led != term || !l.flag {
		return
	}
	config, _ := l.config()
	for _, id := range slices.Concat(config.voters, config.learners) {
		w.replicate(l, w.made[id])
	}
	w.after(5*time.Millisecond+w.some(40*time.Millisecond), l, func() { w.beats(l, term) })
}

// replicate brings the log of another up to the leader's. It hears of the
// commits that the leader knew of before.
func (w *world) replicate(l, f *replica) {
	if f == l || f.gone || !l.flag || !w.reach(l.node, f.node) || w.one(3) {
		return
	}
	if l.term > l.led || f.term > l.term {
		w.moves(l, f.term)
		return
	}
	w.moves(f, l.term)
	f.log, f.heard = l.log[:len(l.log):len(l.log)], w.now
	l.match[f] = len(l.log)
	if f.commit < l.commit {
		f.commit = l.commit
		w.applies(f)
	}
	w.advance(l)
}

// advance moves a leader's commit index: over entries of its own term that a
// majority has.
func (w *world) advance(l *replica) {
	config, _ := l.config()
	for i := len(l.log); i > l.commit && l.log[i-1].term == l.led; i-- {
		have := 0
		for _, id := range config.voters {
			if l.match[w.made[id]] >= i {
				have++
			}
		}
		if have <= len(config.voters)/2 {
			continue
		}
		l.commit = i
		w.commits(l, i)
		w.applies(l)
		return
	}
}

// commits notes what is committed. It never changes, or the model is wrong.
func (w *world) commits(l *replica, index int) {
	for i, e := range l.log[:index] {
		if i == len(w.log) {
			w.log = append(w.log, e)
		}
		if w.log[i].term != e.term {
			panic("the model is wrong: two entries are committed with one index")
		}
	}
}

// applies has a replica apply what is committed, soon or late.
func (w *world) applies(r *replica) {
	delay := w.some(time.Millisecond)
	if r.slow > w.now {
		delay = w.some(r.slow - w.now)
	}
	upTo := r.commit
	w.after(delay, r, func() {
		r.applied = max(r.applied, upTo)
		rest := r.waiting
		r.waiting = nil
		for _, p := range rest {
			if p.index <= r.applied {
				p.do()
			} else {
				r.waiting = append(r.waiting, p)
			}
		}
	})
}

// once has a replica do something as soon as it has applied an index.
func (r *replica) once(index int, do func()) {
	if index <= r.applied {
		do()
	} else {
		r.waiting = append(r.waiting, waiting{index, do})
	}
}
