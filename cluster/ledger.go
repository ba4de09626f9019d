package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
)

// maxNotes bounds the erasures that wait to be recorded.
const maxNotes = 4096

// recordPatience is how long one try to record waits for its answer. The next
// one may go to another node; recording twice does no harm.
const recordPatience = time.Second

// RecordErasure enters e in the ledger of the directory, wherever it is led,
// and returns once the entry is committed. It may be repeated: there is one
// entry whatever happens. Erasures that come while others are on their way go
// together in the next command, so that many at once cost few.
//
// [cloakroom.ErrMalformed] says that e does not fit the directory. When ctx
// ends first it is [cloakroom.ErrOutcomeUnknown] if e was on its way,
// [cloakroom.ErrUnavailable] if not. [cloakroom.ErrMemoryFull] says that the
// ledger is full, [cloakroom.ErrOverloaded] that too many wait.
func (c *Cluster) RecordErasure(ctx context.Context, e directory.Erasure) error {
	e.Fields = slices.Clone(e.Fields)
	slices.Sort(e.Fields)
	if fault := e.Fault(c.Directory()); fault != "" {
		return fmt.Errorf("record erasure: %s: %w", fault, cloakroom.ErrMalformed)
	}
	n := &note{erasure: e, done: make(chan struct{})}
	if err := c.scribe.push(n); err != nil {
		return fmt.Errorf("record erasure: %w", err)
	}
	var err error
	select {
	case <-n.done:
		err = n.err
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", c.scribe.leave(n), ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("record erasure: %w", err)
	}
	return nil
}

// scribe gathers the erasures of this node that are to be recorded. While one
// command is on its way, the next one fills.
type scribe struct {
	wake chan struct{} // holds one

	mu      sync.Mutex
	closed  bool
	waiting []*note
}

// note is one erasure to be recorded.
type note struct {
	erasure directory.Erasure
	page    *page // nil while it waits; under scribe.mu
	done    chan struct{}
	err     error // set before done is closed
}

// page is a command on its way, and its notes.
type page struct {
	notes  []*note
	ctx    context.Context // over when nobody waits for any of them
	cancel context.CancelFunc
	left   int // callers that wait no longer; under scribe.mu
}

func newScribe() *scribe { return &scribe{wake: make(chan struct{}, 1)} }

func (s *scribe) push(n *note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosing
	case len(s.waiting) >= maxNotes:
		return fmt.Errorf("%d erasures wait: %w", maxNotes, cloakroom.ErrOverloaded)
	}
	s.waiting = append(s.waiting, n)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// leave tells that n's caller waits no longer. It returns how n stands.
func (s *scribe) leave(n *note) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.page == nil {
		s.waiting = slices.DeleteFunc(s.waiting, func(other *note) bool { return other == n })
		return cloakroom.ErrUnavailable
	}
	if n.page.left++; n.page.left == len(n.page.notes) {
		n.page.cancel()
	}
	return cloakroom.ErrOutcomeUnknown
}

// take makes a page of what waits, nil if nothing does.
func (s *scribe) take(ctx context.Context) *page {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), directory.MaxRecorded)
	if n == 0 {
		return nil
	}
	p := &page{notes: slices.Clone(s.waiting[:n])}
	s.waiting = slices.Delete(s.waiting, 0, n)
	p.ctx, p.cancel = context.WithCancel(ctx)
	for _, n := range p.notes {
		n.page = p
	}
	return p
}

// close answers what waits and lets nothing more in.
func (s *scribe) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.waiting {
		n.settle(errClosing)
	}
	s.waiting = nil
}

// settle tells the caller of n what came of it.
func (n *note) settle(err error) {
	n.err = err
	close(n.done)
}

// recordErasures records what comes, a page at a time, until the cluster
// closes.
func (c *Cluster) recordErasures() {
	defer c.scribe.close()
	for {
		select {
		case <-c.scribe.wake:
		case <-c.ctx.Done():
			return
		}
		for p := c.scribe.take(c.ctx); p != nil; p = c.scribe.take(c.ctx) {
			err := c.record(p)
			p.cancel()
			for _, n := range p.notes {
				n.settle(err)
			}
		}
	}
}

// record has the directory enter p, until it is done or nobody waits any more.
func (c *Cluster) record(p *page) error {
	cmd := directory.RecordErasures{Entries: make([]directory.Erasure, len(p.notes))}
	for i, n := range p.notes {
		cmd.Entries[i] = n.erasure
	}
	data, err := (&directory.Command{RecordErasures: &cmd}).Append(nil)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		mine, its := c.desk.news()
		e := &changing{c: c, data: data}
		err := c.tryRecord(p.ctx, e)
		switch {
		case err == nil && e.result.Code == directory.Exhausted:
			return fmt.Errorf("the ledger is full: %w", cloakroom.ErrMemoryFull)
		case err == nil:
			return e.result.Err()
		case p.ctx.Err() != nil:
			return fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, p.ctx.Err())
		case c.net == nil || !passing(err):
			return err
		}
		if over := c.pause(p.ctx, mine, its, try); over != nil {
			return fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, over)
		}
	}
}

// tryRecord takes the errand to the directory's leader once.
func (c *Cluster) tryRecord(ctx context.Context, e *changing) error {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	return c.carry(ctx, &c.desk.group, e)
}

// passing reports whether trying again may help after err. What may have been
// done already may be tried again too: the ledger has one entry all the same.
func passing(err error) bool {
	for _, kind := range []error{cloakroom.ErrOutcomeUnknown, cloakroom.ErrOverloaded, cloakroom.ErrUnavailable, cloakroom.ErrStarting} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
