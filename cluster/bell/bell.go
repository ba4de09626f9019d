// Package bell wakes goroutines that wait for a condition, without polling and
// without losing a wake-up. It knows nothing of what is waited for, and a Bell
// is safe for concurrent use.
package bell

import "sync"

// Bell wakes everybody who waits. The zero value is ready.
//
// Take the channel first, then look at the condition, then wait: a ring in
// between is not lost.
type Bell struct {
	mu sync.Mutex
	ch chan struct{} // nil: nobody waits
}

// Wait returns a channel that is closed by the next ring.
func (b *Bell) Wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Ring wakes all waiters.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
