package securemem

import (
	"context"
	"fmt"
	"math/bits"
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
// Pool is safe for concurrent use.
type Pool struct {
	mem   span
	order int // of the largest buffer

	mu      sync.Mutex
	blocks  *buddy
	inUse   int // bytes, by class
	waiting []*waiter
	refused uint64
	closed  bool
}

// waiter is one Get in line. ready is closed once leaf is its.
type waiter struct {
	order int
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
// A request that waits while it holds a buffer stands in the way of others:
// give ctx a deadline.
func (p *Pool) Get(ctx context.Context, n int) (*Buffer, error) {
	if n < 0 || n > p.MaxBuffer() {
		return nil, fmt.Errorf("get buffer of %d bytes: %w", n, cloakroom.ErrTooLarge)
	}
	order := orderFor(n)
	leaf, err := p.take(ctx, order)
	if err != nil {
		return nil, fmt.Errorf("get buffer: %w", err)
	}
	at := unsafe.Add(p.mem.at, int(leaf)*leafBytes)
	return &Buffer{pool: p, at: at, n: n, order: order}, nil
}

// take reserves a block or waits for one.
func (p *Pool) take(ctx context.Context, order int) (int32, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, errClosed
	}
	if len(p.waiting) == 0 {
		if leaf, ok := p.blocks.take(order); ok {
			p.inUse += leafBytes << order
			p.mu.Unlock()
			return leaf, nil
		}
	}
	if len(p.waiting) >= maxWaiters {
		p.refused++
		p.mu.Unlock()
		return 0, fmt.Errorf("%d requests wait already: %w", maxWaiters, cloakroom.ErrOverloaded)
	}
	w := &waiter{order: order, leaf: none, ready: make(chan struct{})}
	p.waiting = append(p.waiting, w)
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

// giveUp leaves the line, unless the share came at the same moment.
func (p *Pool) giveUp(ctx context.Context, w *waiter) (int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.leaf != none {
		return w.leaf, nil
	}
	for i, other := range p.waiting {
		if other == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			break
		}
	}
	p.serve() // the next in line may want less than w did
	p.refused++
	return 0, fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, context.Cause(ctx))
}

// give takes a wiped block back.
func (p *Pool) give(leaf int32, order int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks.give(leaf, order)
	p.inUse -= leafBytes << order
	p.serve()
}

// serve gives blocks to the head of the line while they last. p.mu is held.
func (p *Pool) serve() {
	served := 0
	for _, w := range p.waiting {
		leaf, ok := p.blocks.take(w.order)
		if !ok {
			break
		}
		p.inUse += leafBytes << w.order
		w.leaf = leaf
		close(w.ready)
		served++
	}
	if served > 0 {
		p.waiting = append(p.waiting[:0], p.waiting[served:]...)
	}
}

// close sends everyone in line away. The memory is unmapped by its owner.
func (p *Pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.waiting {
		close(w.ready)
	}
	p.waiting = nil
}

// Stats returns the pool's counters.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{Total: p.mem.n, InUse: p.inUse, Waiting: len(p.waiting), Refused: p.refused}
}
