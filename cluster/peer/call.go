package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"cloakroom"
)

// Call asks a registered node. The reply is the caller's to keep. A call
// lasts [MaxCall] at most.
//
// ErrUnreachable (ErrRefused among them): nothing was sent. One of the
// sentinels that Handle may return: the peer did nothing. ErrTooLarge: nothing
// was sent. Everything else is [cloakroom.ErrOutcomeUnknown].
func (p *Port) Call(ctx context.Context, node string, method uint8, body []byte) ([]byte, error) {
	if len(body) > MaxMessage {
		return nil, fmt.Errorf("call node %q: %w", node, cloakroom.ErrTooLarge)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for again := false; ; again = true {
		c, err := p.reach(ctx, node)
		if err != nil {
			return nil, fmt.Errorf("call node %q: %w", node, err)
		}
		answer, err := c.call(ctx, method, body)
		if err == nil {
			return answer, nil
		}
		if again || !errors.Is(err, errDead) {
			return nil, fmt.Errorf("call node %q: %w", node, err)
		}
		p.forgetDead(node, c) // nothing was sent: once more, over another
	}
}

// CallAt asks whoever is at addr, by a connection of its own, as a guest: for
// a node that is not registered yet. Errors as for Call. It says who answered
// the handshake also when the call failed later.
func (p *Port) CallAt(ctx context.Context, addr string, method uint8, body []byte) ([]byte, Peer, error) {
	return p.callAs(ctx, guest, addr, method, body)
}

// CallLate is CallAt where a certificate may be past its end, this node's or
// the other's: for the few methods of [Config.LateMethods], between nodes that
// have the keys they are registered with.
func (p *Port) CallLate(ctx context.Context, addr string, method uint8, body []byte) ([]byte, Peer, error) {
	if p.cfg.Pin == nil {
		return nil, Peer{}, fmt.Errorf("call %s: %w: no registered keys are known", addr, ErrUnreachable)
	}
	return p.callAs(ctx, overdue, addr, method, body)
}

// callAs calls over a connection of its own.
func (p *Port) callAs(ctx context.Context, as kind, addr string, method uint8, body []byte) ([]byte, Peer, error) {
	if len(body) > MaxMessage {
		return nil, Peer{}, fmt.Errorf("call %s: %w", addr, cloakroom.ErrTooLarge)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	l, err := p.dial(ctx, addr, hello{kind: as})
	if err != nil {
		return nil, Peer{}, fmt.Errorf("call %s: %w", addr, err)
	}
	c := p.newCaller(l, nil)
	if c == nil {
		return nil, Peer{}, fmt.Errorf("call %s: %w", addr, ErrUnreachable)
	}
	defer l.cut(errFinished)
	answer, err := c.call(ctx, method, body)
	if err != nil {
		return nil, l.peer, fmt.Errorf("call %s: %w", addr, err)
	}
	return answer, l.peer, nil
}

// bounded gives a call that has no deadline one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, MaxCall)
}

var (
	errFinished = errors.New("connection no longer needed")
	errDead     = errors.New("the connection was lost before")
	errGhosts   = errors.New("the peer owes too many answers")
	errSilent   = errors.New("the peer owes an answer and is silent")
	errBacklog  = errors.New("too much waits to be written")
)

// caller is the asking end of a connection that carries calls. Its lock is
// the sender's.
type caller struct {
	link  *link
	out   *sender
	slots chan struct{} // one for each call that was not answered

	// Guarded by out.mu:
	waiting map[uint32]*call // by id; ghosts included
	next    uint32
	owed    int // bytes that were not answered, an overhead for each included
	ghosts  int
	dead    bool

	free sync.Pool // *call

	// Used by the watch alone.
	heard   uint64 // reads at the last tick
	quiet   int    // ticks since then
	haunted int    // ticks for which there were too many ghosts
}

// call is one question. It goes back to the pool by the one who waits for it,
// or by the answer if nobody does.
type call struct {
	done   chan struct{} // gets one value when body and err are set
	id     uint32
	batch  uint64
	at     int
	weight int
	ghost  bool // nobody waits any more
	body   []byte
	err    error
}

const (
	// writeHere is how many bytes may be owed for a call to be written by the
	// one who makes it. That much fits any socket's send buffer, so the write
	// can't be held up by a peer that does not read, and the deadline of the
	// caller holds. Above it, the sender's own goroutine writes.
	writeHere = 32 << 10
	// overhead is what the kernel may need for a small write beyond its bytes.
	overhead = 1 << 10
)

// newCaller makes l carry calls. gone, if set, is called when it no longer
// does. It returns nil, and l is cut, if the port is closed.
func (p *Port) newCaller(l *link, gone func()) *caller {
	c := &caller{
		link:    l,
		out:     newSender(l.tls, l.cut),
		slots:   make(chan struct{}, maxInFlight),
		waiting: map[uint32]*call{},
	}
	c.free.New = func() any { return &call{done: make(chan struct{}, 1)} }
	write := func() { c.out.run(l.ctx.Done()) } // both end with the link
	if !p.spawn(write) || !p.spawn(c.listen) {
		l.cut(net.ErrClosed)
		return nil
	}
	l.attend(c.tick, func() {
		c.fail()
		if gone != nil {
			gone()
		}
	})
	return c
}

// call asks and waits.
func (c *caller) call(ctx context.Context, method uint8, body []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, late(ctx)
	}
	select {
	case c.slots <- struct{}{}: // given back with the answer, whoever waits for it
	default:
		if err := c.queue(ctx); err != nil {
			return nil, err
		}
	}
	q, err := c.ask(ctx, method, body)
	if err != nil {
		<-c.slots
		return nil, err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		if err, abandoned := c.abandon(ctx, q); abandoned {
			return nil, err
		}
		<-q.done // it was answered just now
	}
	answer, err := q.body, q.err
	c.recycle(q)
	return answer, err
}

// queue waits for a slot. Nothing was sent so far.
func (c *caller) queue(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return late(ctx)
	case <-c.link.ctx.Done():
		return c.lost(false)
	}
}

// millis returns how long a caller will wait, for the other side: a number of
// milliseconds, since clocks differ, up to a tick too large.
func (p *Port) millis(ctx context.Context) uint32 {
	at, _ := ctx.Deadline() // bounded saw to it that there is one
	left := at.Sub(*p.ticked.Load()).Milliseconds()
	return uint32(min(max(left, 1), int64(MaxCall/time.Millisecond)))
}

// late is the error of a call whose time was over before anything was sent.
func late(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
}

// lost is the error of a call whose connection was cut.
func (c *caller) lost(sent bool) error {
	if sent {
		return fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, c.link.why(errFinished))
	}
	return fmt.Errorf("%w: %w: %w", ErrUnreachable, errDead, c.link.why(errFinished))
}

// ask sends a question, or has it sent.
func (c *caller) ask(ctx context.Context, method uint8, body []byte) (*call, error) {
	f := frame{kind: request, detail: method, millis: c.link.port.millis(ctx)}
	q := c.free.Get().(*call)
	q.weight = overhead + frameHead + len(body)
	c.out.mu.Lock()
	if c.dead || c.out.failed {
		c.out.mu.Unlock()
		return nil, c.lost(false)
	}
	if n := c.out.queued; n > 0 && n+len(body) > c.link.port.cfg.bodies {
		c.out.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, errBacklog)
	}
	for taken := true; taken; _, taken = c.waiting[c.next] {
		c.next++
	}
	q.id, f.id = c.next, c.next
	c.waiting[q.id] = q
	c.owed += q.weight
	q.batch, q.at = c.out.add(f, body)
	c.out.flush(c.owed <= writeHere, len(c.waiting) > 1) // unlocks
	return q, nil
}

// abandon leaves a call to its answer, if it has none yet. What was not begun
// to be written is taken back.
func (c *caller) abandon(ctx context.Context, q *call) (err error, abandoned bool) {
	c.out.mu.Lock()
	if c.waiting[q.id] != q {
		c.out.mu.Unlock()
		return nil, false
	}
	if err = fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, context.Cause(ctx)); c.out.unsent(q.batch) {
		c.out.takeBack(q.batch, q.at)
		err = late(ctx)
	}
	q.ghost = true
	c.ghosts++
	c.out.mu.Unlock()
	return err, true
}

func (c *caller) recycle(q *call) {
	q.ghost, q.body, q.err = false, nil, nil
	c.free.Put(q)
}

// listen hands out the answers until the link is cut.
func (c *caller) listen() {
	r := bufio.NewReaderSize(c.link.tls, readBuffer)
	for {
		f, err := readFrame(r, false)
		var body []byte
		if err == nil && f.size > 0 {
			body, err = readBody(r, nil, f.size)
		}
		if err == nil {
			err = c.answered(f, body)
		}
		if err != nil {
			c.link.cut(err)
			return
		}
	}
}

// answered hands an answer to whom it belongs. Each question has one.
func (c *caller) answered(f frame, body []byte) error {
	if f.kind == pong {
		return nil
	}
	c.out.mu.Lock()
	q := c.waiting[f.id]
	if q == nil || c.out.unsent(q.batch) {
		c.out.mu.Unlock()
		return errFrame // to a question that was never asked
	}
	delete(c.waiting, f.id)
	c.owed -= q.weight
	if q.ghost {
		c.ghosts--
		c.recycle(q)
	} else {
		if q.body = body; f.kind == failure {
			q.err = fmt.Errorf("the peer: %w", outcome(f.detail).err())
		}
		q.done <- struct{}{}
	}
	c.out.mu.Unlock()
	<-c.slots
	c.link.port.made.Add(1)
	return nil
}

// fail answers everybody who waits, once the link was cut.
func (c *caller) fail() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.dead = true
	for id, q := range c.waiting {
		delete(c.waiting, id)
		if !q.ghost {
			q.err = c.lost(!c.out.unsent(q.batch))
			q.done <- struct{}{}
		}
	}
}

// tick looks whether the peer is there: one that owes an answer is pinged
// when nothing has come for a while.
func (c *caller) tick() error {
	if err := c.out.tick(c.link.raw.writes.Load()); err != nil {
		return err
	}
	heard := c.link.raw.reads.Load()
	c.out.mu.Lock()
	if c.haunted++; c.ghosts <= maxGhosts {
		c.haunted = 0
	}
	if c.haunted > ticks {
		c.out.mu.Unlock()
		return errGhosts
	}
	if len(c.waiting) == 0 || heard != c.heard || c.out.writing { // it may not have been asked yet
		c.out.mu.Unlock()
		c.heard, c.quiet = heard, 0
		return nil
	}
	switch c.quiet++; c.quiet {
	case ticks / 3:
		c.out.add(frame{kind: ping}, nil)
		c.out.flush(false, false) // unlocks
	case ticks:
		c.out.mu.Unlock()
		return errSilent
	default:
		c.out.mu.Unlock()
	}
	return nil
}
