package securemem

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"unsafe"

	"cloakroom"
)

const (
	maxBuffer  = 16 << 20 // bytes
	maxWaiters = 4096     // requests that wait for a buffer; more are refused at once
)

// largestBlock is the largest buffer of a pool of n bytes: the power of two at
// or below a quarter of it, at most 16 MiB, so that no request takes it all.
func largestBlock(n int) int {
	quarter := max(n/4, leafBytes)
	return min(1<<(bits.Len(uint(quarter))-1), maxBuffer)
}

// Pool hands out guarded buffers in classes of 4 KiB × 2^k. Who finds it empty
// waits in line: first come, first served, whatever the size, so that large
// requests are not starved by small ones.
//
// A request's first buffer comes from [Pool.Get], all further ones from
// [Pool.More]. First buffers take half of the pool at most, and those who hold
// one are served before those who don't, so that requests which wait for their
// second buffer are not waiting for each other's first.
//
// Pool is safe for concurrent use.
type Pool struct {
	mem   span
	order int // of the largest buffer

	mu      sync.Mutex
	blocks  *buddy
	inUse   int       // bytes, by class
	firsts  int       // of these, by first buffers
	waiting []*waiter // for a first buffer
	holding []*waiter // for a further one
	refused uint64
	closed  bool
}

// waiter is one Get in line. ready is closed once leaf is its.
type waiter struct {
	order int
	first bool
	leaf  int32
	ready chan struct{}
}

// PoolStats are counters of a [Pool].
type PoolStats struct {
	Total   int    // bytes
	InUse   int    // bytes, by class
	Waiting int    // requests in line
	Refused uint64 // requests that gave up waiting, or found the line full
}

func newPool(mem []byte) *Pool {
	order := orderFor(largestBlock(len(mem)))
	return &Pool{mem: spanOf(mem), order: order, blocks: newBuddy(len(mem)/leafBytes, order)}
}

// MaxBuffer is the largest buffer one request may have, in bytes.
func (p *Pool) MaxBuffer() int { return leafBytes << p.order }

// Get returns a zeroed buffer of n bytes. It waits for its share until ctx
// ends, then returns cloakroom.ErrOverloaded; at once if the line is full.
// More than [Pool.MaxBuffer] bytes is cloakroom.ErrTooLarge.
//
// A request calls Get once, and [Pool.More] while it holds a buffer.
func (p *Pool) Get(ctx context.Context, n int) (*Buffer, error) { return p.get(ctx, n, true) }

// More is Get for who holds a buffer of this pool already.
func (p *Pool) More(ctx context.Context, n int) (*Buffer, error) { return p.get(ctx, n, false) }

func (p *Pool) get(ctx context.Context, n int, first bool) (*Buffer, error) {
	if n < 0 || n > p.MaxBuffer() {
		return nil, fmt.Errorf("get buffer of %d bytes: %w", n, cloakroom.ErrTooLarge)
	}
	order := orderFor(n)
	leaf, err := p.take(ctx, order, first)
	if err != nil {
		return nil, fmt.Errorf("get buffer: %w", err)
	}
	at := unsafe.Add(p.mem.at, int(leaf)*leafBytes)
	return &Buffer{pool: p, at: at, n: n, order: order, first: first}, nil
}

// take reserves a block or waits for one.
func (p *Pool) take(ctx context.Context, order int, first bool) (int32, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, errClosed
	}
	if len(p.holding) == 0 && (!first || len(p.waiting) == 0) {
		if leaf, ok := p.tryTake(order, first); ok {
			p.mu.Unlock()
			return leaf, nil
		}
	}
	if len(p.waiting)+len(p.holding) >= maxWaiters {
		p.refused++
		p.mu.Unlock()
		return 0, fmt.Errorf("%d requests wait already: %w", maxWaiters, cloakroom.ErrOverloaded)
	}
	w := &waiter{order: order, first: first, leaf: none, ready: make(chan struct{})}
	line := p.line(first)
	*line = append(*line, w)
	p.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		return p.giveUp(ctx, w)
	}
	if w.leaf == none {
		return 0, errClosed
	}
	return w.leaf, nil
}

// line is where a request waits.
func (p *Pool) line(first bool) *[]*waiter {
	if first {
		return &p.waiting
	}
	return &p.holding
}

// tryTake takes a block if there is one that may be taken. p.mu is held.
func (p *Pool) tryTake(order int, first bool) (int32, bool) {
	size := leafBytes << order
	if first && p.firsts > 0 && p.firsts+size > p.mem.n/2 {
		return none, false
	}
	leaf, ok := p.blocks.take(order)
	if !ok {
		return none, false
	}
	p.inUse += size
	if first {
		p.firsts += size
	}
	return leaf, true
}

// giveUp leaves the line, unless the share came at the same moment.
func (p *Pool) giveUp(ctx context.Context, w *waiter) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.leaf != none {
		return w.leaf, nil
	}
	line := p.line(w.first)
	if i := slices.Index(*line, w); i >= 0 {
		*line = slices.Delete(*line, i, i+1)
	}
	p.serve() // the next in line may want less than w did
	p.refused++
	return 0, fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, context.Cause(ctx))
}

// give takes a wiped block back.
func (p *Pool) give(leaf int32, order int, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks.give(leaf, order)
	p.inUse -= leafBytes << order
	if first {
		p.firsts -= leafBytes << order
	}
	p.serve()
}

// serve gives blocks to the heads of the lines while they last, to those who
// hold a buffer first. p.mu is held.
func (p *Pool) serve() {
	p.serveLine(&p.holding)
	if len(p.holding) == 0 {
		p.serveLine(&p.waiting)
	}
}

func (p *Pool) serveLine(line *[]*waiter) {
	served := 0
	for _, w := range *line {
		leaf, ok := p.tryTake(w.order, w.first)
		if !ok {
			break
		}
		w.leaf = leaf
		close(w.ready)
		served++
	}
	*line = slices.Delete(*line, 0, served)
}

// close sends everyone in line away. The memory is unmapped by its owner.
func (p *Pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range slices.Concat(p.waiting, p.holding) {
		close(w.ready)
	}
	p.waiting, p.holding = nil, nil
}

// Stats returns the pool's counters.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{Total: p.mem.n, InUse: p.inUse, Waiting: len(p.waiting) + len(p.holding), Refused: p.refused}
}
