// Package confirm answers one question for the groups this node leads: was
// there, when I was asked, no newer leader anywhere? It asks the voters of the
// group's latest configuration, by replica identity, whether they are still in
// the leader's term; a quorum of yes proves it (DESIGN.md has the proof). It
// also keeps the wall clocks that come with the answers, for shard time.
//
// Callers share rounds: whoever arrives while the round of a group is under
// way shares the next one. One ask carries the questions of all groups to a
// node, and each node has at most one ask outstanding.
//
// It sees names of nodes and replicas and terms, no token and no record, and
// does not know how a question travels. [Rounds] is safe for concurrent use.
package confirm

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Voter is one voter of a group and the node it lives on.
type Voter struct {
	Replica string
	Node    string // empty: nobody knows; it can't be asked
}

// Lead is what this node knows of a group it leads.
type Lead struct {
	Term   uint64
	Self   string  // the leading replica; its voters' node is this one
	Voters []Voter // of the latest configuration, committed or not; never changed afterwards
}

// Question asks the node where Replica lives: is that very replica there, not
// parked, and its current raft term at most Term?
type Question struct {
	Group   uint32
	Replica string
	Term    uint64
}

// Answer is what a node says to a list of questions.
type Answer struct {
	Yes         []bool    // one for each question
	Now         time.Time // the node's wall clock
	Free, Limit int64     // its record memory, bytes
}

// Want is one group of a call: is Term still the newest?
type Want struct {
	Group uint32
	Term  uint64
}

// Config is what Rounds are made from.
type Config struct {
	// Ask puts questions to a node. It keeps neither ctx nor questions, and
	// returns soon after ctx is over. The node must look at its replicas after
	// the questions have arrived.
	Ask func(ctx context.Context, node string, questions []Question) (Answer, error)
	// Led returns what is known of a group now, and false if this node does not
	// lead it. It is called afresh in every round, without a lock held.
	Led func(group uint32) (Lead, bool)
	// Here answers a question about a replica of this node, as it would answer
	// a peer: among others it is the leader's own vote. It must read the
	// replica's raft term at that moment, not one remembered from its election.
	// It is called without a lock held.
	Here func(Question) bool
	// Now is the wall clock of this node.
	Now func() time.Time
	// Timeout bounds one ask; default 500 ms.
	Timeout time.Duration
}

const defaultTimeout = 500 * time.Millisecond

// check fills defaults and reports every fault.
func (c *Config) check() error {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("confirm: "+text))
		}
	}
	fault(c.Ask == nil, "Ask is missing")
	fault(c.Led == nil, "Led is missing")
	fault(c.Here == nil, "Here is missing")
	fault(c.Now == nil, "Now is missing")
	fault(c.Timeout < 0, "Timeout is negative")
	return errors.Join(faults...)
}

// Rounds runs the confirm rounds of one node.
type Rounds struct {
	cfg     Config
	ctx     context.Context // of every ask; over with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // lanes and starts; joined only under mu, while not closed
	callers sync.Pool      // of *caller, whom nobody refers to

	mu     sync.Mutex
	closed bool
	groups map[uint32]*group // all that were ever asked for
	lanes  map[string]*lane  // one per node that was ever a voter's
}

// New returns Rounds with nothing under way.
func New(cfg Config) (*Rounds, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Rounds{cfg: cfg, groups: map[uint32]*group{}, lanes: map[string]*lane{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.callers.New = func() any { return &caller{done: make(chan struct{}, 1)} }
	return r, nil
}

// Close ends every ask and waits for it; who still waits for an answer gets a
// no. Confirm says no from then on.
func (r *Rounds) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
}

// caller is one call of Confirm.
type caller struct {
	starts []*group // scratch of the call

	// Guarded by Rounds.mu.
	ok   []bool
	left int           // wants without an answer
	gone bool          // its ctx is over: ok is no longer ours to write
	done chan struct{} // cap 1: gets a token when left is 0
}

// Confirm sets ok[i] if, when it was called, no newer leader of group
// want[i].Group than the one of want[i].Term existed anywhere. It returns when
// a round that started after the call has answered for each group, yes or no,
// or when ctx is over; what has no answer by then is a no. ok is as long as
// want.
//
// A no says nothing about the group: its quorum may be out of reach, or the
// term may be over. It can come at once, but not faster than every 20 ms for a
// group whose voters can't be reached.
func (r *Rounds) Confirm(ctx context.Context, want []Want, ok []bool) {
	ok = ok[:len(want)]
	clear(ok)
	if len(want) == 0 || ctx.Err() != nil {
		return
	}
	c := r.callers.Get().(*caller)
	c.ok, c.left, c.starts = ok, len(want), c.starts[:0]
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	for i, w := range want {
		g := r.group(w.Group)
		g.waiting = append(g.waiting, waiter{c, i, w.Term})
	}
	// Only now, since a group may be wanted twice.
	for _, w := range want {
		if g := r.groups[w.Group]; g.state == idle {
			g.begin()
			c.starts = append(c.starts, g)
		}
	}
	r.mu.Unlock()
	r.start(c.starts)
	select {
	case <-c.done:
		c.ok = nil
		r.callers.Put(c)
	case <-ctx.Done():
		r.mu.Lock()
		c.gone = true // rounds may still refer to it: it is not used again
		r.mu.Unlock()
	}
}
