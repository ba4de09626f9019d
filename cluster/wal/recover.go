package wal

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// recovery puts the log together from its segments.
type recovery struct {
	store   *Store
	live    []*segment
	dead    []*segment // superseded, the newest first
	ends    []uint64   // last index each live segment holds
	entries []record   // what counts, without a gap
	clean   bool       // nothing but zeros stands behind the last record
}

// openLog reads every segment, checks what it finds against the mark and the
// newest snapshot, and makes the log ready to be written.
func openLog(s *Store) (*log, error) {
	numbers, err := segmentNumbers(s.cfg.FS, s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	r := &recovery{store: s}
	l := &log{store: s, turn: make(chan struct{}, 1)}
	for i, number := range numbers {
		if err := r.read(number, i == len(numbers)-1); err != nil {
			return nil, fmt.Errorf("segment %s: %w", segmentName(number), err)
		}
		l.number = number
	}
	if err := r.verify(); err != nil {
		return nil, err
	}
	if err := r.settle(l); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.recovered = r.entries
	for _, entry := range r.entries {
		l.grown(position{entry.Index, entry.Term})
	}
	return l, nil
}

// read takes in one segment.
func (r *recovery) read(number uint64, newest bool) error {
	s := r.store
	name := filepath.Join(s.cfg.Dir, segmentName(number))
	content, err := s.cfg.FS.ReadFile(name)
	if err != nil {
		return err
	}
	g, err := decodeSegment(content, s.self)
	if err != nil {
		return err
	}
	if g.number != number {
		return fmt.Errorf("%w: number %d", ErrDamaged, g.number)
	}
	g.name, g.size = name, len(content)
	if err := r.supersede(g); err != nil {
		return err
	}
	records, used := scan(content, g)
	g.used = used
	end := g.base - 1 + uint64(len(records))
	if newest {
		if later(content, g, used, end) {
			return fmt.Errorf("%w: entry %d can't be read, and one that was written after it stands there", ErrDamaged, end+1)
		}
		r.clean = allZero(content[used:])
	}
	r.live, r.ends = append(r.live, g), append(r.ends, end)
	r.entries = append(r.entries, records...)
	return nil
}

// supersede drops what counts no more once g is there.
func (r *recovery) supersede(g *segment) error {
	for n := len(r.live); n > 0 && (!g.keep || r.live[n-1].base >= g.base); n-- {
		r.dead = append(r.dead, r.live[n-1])
		r.live, r.ends = r.live[:n-1], r.ends[:n-1]
	}
	if n := len(r.ends); n > 0 && r.ends[n-1] < g.base-1 {
		return fmt.Errorf("%w: entry %d can't be read", ErrDamaged, r.ends[n-1]+1)
	}
	kept := 0
	for kept < len(r.entries) && len(r.live) > 0 && r.entries[kept].Index < g.base {
		kept++
	}
	r.entries = r.entries[:kept]
	return nil
}

// span returns the first and last entry, 0 and 0 if there is none.
func (r *recovery) span() (first, last uint64) {
	if len(r.entries) == 0 {
		return 0, 0
	}
	return r.entries[0].Index, r.entries[len(r.entries)-1].Index
}

// verify holds the log against the mark and the snapshot, and has every command
// opened.
func (r *recovery) verify() error {
	s := r.store
	first, last := r.span()
	of, mark := s.snaps.newest(), s.mark.at()
	if mark.index > max(last, of.Index) {
		return fmt.Errorf("%w: the log ends at %d, it reached %d", ErrDamaged, max(last, of.Index), mark.index)
	}
	// A mark that stands at the snapshot was put there before the log was
	// emptied, which a crash may have kept from coming.
	if mark != (position{of.Index, of.Term}) && first > 0 && mark.index >= first && mark.index <= last &&
		r.entries[mark.index-first].Term != mark.term {
		return fmt.Errorf("%w: entry %d is of another term than it was", ErrDamaged, mark.index)
	}
	if first > of.Index+1 {
		return fmt.Errorf("%w: the log begins at %d, the snapshot ends at %d", ErrDamaged, first, of.Index)
	}
	term := uint64(0)
	for _, entry := range r.entries {
		if entry.Term < term {
			return fmt.Errorf("%w: entry %d is of an earlier term than the one before", ErrDamaged, entry.Index)
		}
		term = entry.Term
		if entry.Type != raft.LogCommand || s.cfg.Check == nil {
			continue
		}
		if err := s.cfg.Check(entry.Index, entry.Data); err != nil {
			return fmt.Errorf("%w: open entry %d: %w", ErrDamaged, entry.Index, err)
		}
	}
	return nil
}

// settle makes the log what a replica can go on from.
func (r *recovery) settle(l *log) error {
	s := r.store
	l.live = r.live
	if err := l.remove(r.dead); err != nil {
		return err
	}
	of, mark := s.snaps.newest(), s.mark.at()
	first, last := r.span()
	switch {
	case r.abandoned(of):
		// A crash came after the snapshot and before the log was emptied.
		r.entries = nil
		if err := s.mark.lower(position{of.Index, of.Term}); err != nil {
			return err
		}
		return l.roll(of.Index+1, false, nil)
	case len(r.live) == 0:
		return l.roll(of.Index+1, false, nil)
	case last > mark.index:
		return r.rewrite(l, max(first, mark.index+1))
	case !r.clean:
		return l.roll(r.ends[len(r.ends)-1]+1, last > 0, nil)
	}
	tail := l.live[len(l.live)-1]
	f, err := s.cfg.FS.Edit(tail.name)
	tail.f = f
	return err
}

// abandoned reports whether the snapshot came in over a log that does not lead
// up to it.
func (r *recovery) abandoned(of Snapshot) bool {
	first, last := r.span()
	if last == 0 || of.Index == 0 {
		return false
	}
	return last < of.Index || of.Index >= first && r.entries[of.Index-first].Term != of.Term
}

// rewrite writes the entries from index on into a new segment. They lie beyond
// the mark: they were durable when the process ended a moment before it was
// raised, or are in the page cache only, after an fsync that failed, and no
// later one would make them durable.
func (r *recovery) rewrite(l *log, index uint64) error {
	first, last := r.span()
	var again []*raft.Log
	for i := range r.entries[index-first:] {
		again = append(again, &r.entries[index-first+uint64(i)].Log)
	}
	if err := l.roll(index, index > first, again); err != nil {
		return err
	}
	return r.store.mark.set(position{last, r.entries[last-first].Term})
}
