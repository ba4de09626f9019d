package cluster

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"cloakroom"
	"cloakroom/cluster/command"
)

// proposal is one call of Propose on its way through a queue. From push until
// done it belongs to the queue and the writer; then to the caller again.
type proposal struct {
	items []byte // encoded, each behind its length, as in a batch
	ends  []int  // where each item ends in items

	// Set by the writer.
	taken   int // items that are in an entry
	results []command.Result
	index   uint64 // of the last entry
	err     error
	done    chan struct{} // cap 1: gets a token when all is answered
	forget  func()        // called instead, if nobody waits

	claim *claim // on record memory, nil for none
	left  bool   // its caller left it to the writer: not to be used again
}

// answer tells whoever waits that all is known.
func (p *proposal) answer() {
	p.claim.release()
	if p.forget != nil {
		p.forget()
		return
	}
	p.done <- struct{}{}
}

// blank returns a proposal without items. They are used again: a single
// deposit allocates its results and little else. The pool is the cluster's,
// not the process's, since in a simulation a channel may not leave its bubble.
func (c *Cluster) blank() *proposal {
	p, _ := c.proposals.Get().(*proposal)
	if p == nil {
		p = &proposal{done: make(chan struct{}, 1)}
	}
	p.items, p.ends, p.left, p.forget = p.items[:0], p.ends[:0], false, nil
	p.results = nil
	p.renew()
	return p
}

// renew makes ready for another try.
func (p *proposal) renew() {
	p.taken, p.index, p.err, p.claim, p.results = 0, 0, nil, nil, p.results[:0]
}

// newProposal encodes commands.
func (c *Cluster) newProposal(commands []command.Command) *proposal {
	p := c.blank()
	size := 0
	for i := range commands {
		size += commands[i].Size() + command.ItemOverhead
	}
	p.items = slices.Grow(p.items, size)
	for i := range commands {
		p.items = command.AppendItem(p.items, &commands[i])
		p.ends = append(p.ends, len(p.items))
	}
	p.results = make([]command.Result, 0, len(commands))
	return p
}

// take takes items as another node encoded them, and where each ends. What is
// in them is the shard's to judge.
func (p *proposal) take(items []byte, ends []int) {
	p.items, p.ends = append(p.items, items...), ends
	p.results = make([]command.Result, 0, len(ends))
}

// recycle gives p back, unless it was left to the writer.
func (c *Cluster) recycle(p *proposal) {
	if p.left {
		return
	}
	p.results = nil // the caller's
	if cap(p.items) <= cloakroom.MaxEntryBytes {
		c.proposals.Put(p)
	}
}

// growth returns by how much a shard may grow for p, in bytes; what is kept of
// an item is a little less than its encoding.
func (p *proposal) growth() int64 {
	n := 0
	for i, end := range p.ends {
		item := p.items[p.start(i)+command.ItemOverhead : end]
		switch command.KindOf(item) {
		case command.Put, command.Merge, command.Bind:
			n += len(item)
		}
	}
	return int64(n)
}

// start returns where item i begins.
func (p *proposal) start(i int) int {
	if i == 0 {
		return 0
	}
	return p.ends[i-1]
}

// queue holds the commands that wait for a shard, in the order they came.
type queue struct {
	limit int           // bytes
	wake  chan struct{} // cap 1: something is waiting, or the queue was closed

	mu      sync.Mutex
	waiting []*proposal
	bytes   int // of items not yet taken
	closed  bool
	refusal error // if set, the writer answers everything with it
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

// push adds p. A proposal above the limit gets in when nobody waits.
func (q *queue) push(p *proposal) error {
	if len(p.ends) == 0 {
		return fmt.Errorf("no commands: %w", cloakroom.ErrMalformed)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosing
	}
	if q.bytes > 0 && q.bytes+len(p.items) > q.limit {
		return fmt.Errorf("%d bytes are waiting: %w", q.bytes, cloakroom.ErrOverloaded)
	}
	q.waiting = append(q.waiting, p)
	q.bytes += len(p.items)
	q.rouse()
	return nil
}

// rouse wakes the writer. The caller holds mu.
func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes p out again if nothing of it is in an entry yet.
func (q *queue) withdraw(p *proposal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, p)
	if at < 0 || p.taken > 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	q.bytes -= len(p.items)
	return true
}

// part says that the next n results belong to p.
type part struct {
	p *proposal
	n int
}

// await waits until something is in the queue. It returns false once the queue
// is closed and empty.
func (q *queue) await() bool {
	for {
		q.mu.Lock()
		some, closed := len(q.waiting) > 0, q.closed
		q.mu.Unlock()
		if some || closed {
			return some
		}
		<-q.wake
	}
}

// fill forms one entry of what is waiting: up to [cloakroom.MaxEntryBytes], or
// one item if that is larger. It appends to batch and parts.
func (q *queue) fill(batch []byte, parts []part) ([]byte, []part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch = command.BeginBatch(batch)
	items := 0
	for len(q.waiting) > 0 {
		p := q.waiting[0]
		first, n := p.taken, 0
		room := cloakroom.MaxEntryBytes - len(batch)
		for first+n < len(p.ends) && p.ends[first+n]-p.start(first) <= room {
			n++
		}
		if n == 0 && items == 0 {
			n = 1
		}
		if n == 0 {
			break
		}
		piece := p.items[p.start(first):p.ends[first+n-1]]
		batch = append(batch, piece...)
		parts = append(parts, part{p, n})
		p.taken += n
		items += n
		q.bytes -= len(piece)
		if p.taken < len(p.ends) {
			break
		}
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
	}
	if len(q.waiting) == 0 {
		q.waiting = nil // or the array in front of it would grow for ever
	}
	command.EndBatch(batch, items)
	return batch, parts
}

// drop takes out what is left of p, whose last entry failed.
func (q *queue) drop(p *proposal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 && q.waiting[0] == p {
		q.bytes -= len(p.items) - p.start(p.taken)
		q.waiting = q.waiting[1:]
	}
}

// close lets nobody in any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.rouse()
}

// refuse lets nobody in any more and has the writer answer everybody who waits
// with err. Nobody else may: a proposal may be in flight in part.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.refusal = true, err
	q.rouse()
}

// refused returns what the writer is to answer everything with, nil if it is
// to go on.
func (q *queue) refused() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refusal
}

// rests reports whether nothing waits, even after those who were answered just
// now had a chance to ask for more.
func (q *queue) rests() bool {
	runtime.Gosched()
	return q.size() == 0
}

// size returns the bytes that wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
