package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
)

// write forms entries and proposes them, one at a time: while one is in
// flight, what arrives becomes the next. There is no timer, so a lone writer
// waits for nothing and many share an entry. It ends when the queue is closed
// and empty.
func (s *shard) write() {
	var batch, sealed []byte
	var parts []part
	for s.queue.await() {
		if err := s.queue.refused(); err != nil {
			s.refuse(err)
			continue
		}
		m, _ := s.lead()
		if m == nil {
			s.refuse(errMoved)
			continue
		}
		if err := m.replica.AwaitRoom(context.Background()); err != nil {
			s.refuse(moved(m, err))
			continue
		}
		batch, parts = s.queue.fill(batch[:0], parts[:0])
		if len(parts) == 0 {
			continue // the last one was withdrawn meanwhile
		}
		awaited := awaited(parts)
		var err error
		if sealed, err = s.send(m, batch, sealed, parts); err != nil {
			s.fail(parts, err)
		} else if awaited && s.queue.rests() {
			m.replica.Nudge() // the others learn of the commit at once
		}
		if cap(batch) > 2*cloakroom.MaxEntryBytes {
			batch, sealed = nil, nil
		}
		clear(parts)
	}
}

// send seals and proposes one entry and hands out its results. It returns the
// buffer for the next sealed entry: nil after an error, since raft may still
// hold the one that failed.
func (s *shard) send(m *member, batch, sealed []byte, parts []part) ([]byte, error) {
	sealed, err := s.cfg.SealBatch(sealed[:0], uint32(s.shard), m.generation, batch)
	if err != nil {
		return nil, fmt.Errorf("seal batch: %w: %w", cloakroom.ErrUnavailable, err)
	}
	index, answer, err := m.replica.Apply(sealed)
	if err != nil {
		return nil, moved(m, err)
	}
	results, ok := answer.([]command.Result)
	if want := items(parts); !ok || len(results) != want {
		return nil, fmt.Errorf("%s answered %d of %d commands: %w", s.id, len(results), want, cloakroom.ErrOutcomeUnknown)
	}
	for _, part := range parts {
		part.p.results = append(part.p.results, results[:part.n]...)
		results = results[part.n:]
		part.p.index = index
		if len(part.p.results) == len(part.p.ends) {
			part.p.answer()
		}
	}
	return sealed, nil
}

// awaited reports whether somebody waits for an entry. Nobody waits for the
// time, and so the others may learn of it a little later.
func awaited(parts []part) bool {
	for _, part := range parts {
		if part.p.forget == nil {
			return true
		}
	}
	return false
}

// items counts the items of an entry.
func items(parts []part) int {
	n := 0
	for _, part := range parts {
		n += part.n
	}
	return n
}

// fail answers everybody who had a part in an entry with err. Whoever had
// something in an earlier entry gets an unknown outcome, since that was done.
// Only the writer calls it: it knows that nothing else is in flight.
func (s *shard) fail(parts []part, err error) {
	for _, part := range parts {
		s.queue.drop(part.p)
		part.p.err = err
		if part.p.taken > part.n {
			part.p.err = fmt.Errorf("%w: applied in part: %w", cloakroom.ErrOutcomeUnknown, hide(err))
		}
		part.p.answer()
	}
}

// refuse answers everybody in the queue with err: nothing of theirs is in an
// entry that is in flight. Only the writer calls it.
func (s *shard) refuse(err error) {
	s.queue.mu.Lock()
	waiting := s.queue.waiting
	s.queue.waiting, s.queue.bytes = nil, 0
	s.queue.mu.Unlock()
	parts := make([]part, 0, len(waiting))
	for _, p := range waiting {
		parts = append(parts, part{p: p})
	}
	s.fail(parts, err)
}

// hide keeps the text of err and drops its sentinels, which would claim that
// nothing happened.
func hide(err error) error { return fmt.Errorf("%v", err) }
