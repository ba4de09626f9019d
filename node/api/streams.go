package api

import (
	"fmt"
	"sync"
	"sync/atomic"

	"cloakroom"
)

// streams counts the streams that are open, and keeps them within their
// limits: one caller's must not take the places of all others.
type streams struct {
	limit, each int

	open    atomic.Int64  // past their header
	dropped atomic.Uint64 // since the start, because the caller did not read

	mu    sync.Mutex
	all   int
	named map[string]int // by principal, none at 0
}

// enter takes a place. It returns [cloakroom.ErrOverloaded] when the node has
// none left, [cloakroom.ErrRate] when the principal has all it may have.
func (s *streams) enter(principal string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all >= s.limit:
		return fmt.Errorf("open stream: %w", cloakroom.ErrOverloaded)
	case s.named[principal] >= s.each:
		return &refusal{cloakroom.ErrRate, "this principal has as many streams open as it may"}
	}
	s.all++
	s.named[principal]++
	return nil
}

// leave gives the place back.
func (s *streams) leave(principal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.named[principal]--; s.named[principal] == 0 {
		delete(s.named, principal)
	}
}
