package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// log is the entries on disk. They are read once, by Open: afterwards a replica
// has them in memory, and this only writes.
type log struct {
	store *Store
	turn  chan struct{} // held while the log is written; comes before mu

	// Of who has the turn.
	live      []*segment // ascending, each counts below the base of the next
	number    uint64     // of the newest segment
	recovered []record   // until Replay

	mu    sync.Mutex
	first uint64
	runs  []position // where each term begins, ascending; empty if the log is
	last  uint64
}

// lastDurable returns the newest entry, 0 and 0 if there is none.
func (l *log) lastDurable() (term, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.runs) == 0 {
		return 0, 0
	}
	return l.runs[len(l.runs)-1].term, l.last
}

// span returns the first and the last index, 0 and 0 if there is none.
func (l *log) span() (first, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.runs) == 0 {
		return 0, 0
	}
	return l.first, l.last
}

// term returns the term of an entry that is there.
func (l *log) term(index uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	term := uint64(0)
	for _, run := range l.runs {
		if run.index <= index {
			term = run.term
		}
	}
	return term
}

// grown notes an entry behind the last.
func (l *log) grown(at position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.runs) == 0 {
		l.first = at.index
	}
	if n := len(l.runs); n == 0 || l.runs[n-1].term != at.term {
		l.runs = append(l.runs, at)
	}
	l.last = at.index
}

// cut notes that all from index on is gone.
func (l *log) cut(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = slices.DeleteFunc(l.runs, func(run position) bool { return run.index >= index })
	l.last = index - 1
}

// shed notes that all below index is gone.
func (l *log) shed(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = index
	for len(l.runs) > 1 && l.runs[1].index <= index {
		l.runs = l.runs[1:]
	}
}

// StoreLogs makes entries durable. Their indexes follow each other and the last
// one; an empty log may begin anywhere. An error that is syscall.ENOSPC means
// that nothing was stored; any other retires the identity.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	l := s.log
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if reason := s.Retired(); reason != nil {
		return reason
	}
	_, last := l.span()
	for i, entry := range logs {
		if next := logs[0].Index + uint64(i); entry.Index != next || last > 0 && i == 0 && next != last+1 {
			return fmt.Errorf("store logs: index %d at the place of %d, after %d", entry.Index, next, last)
		}
	}
	if err := l.append(logs, last > 0); err != nil {
		return err
	}
	for _, entry := range logs {
		l.grown(position{entry.Index, entry.Term})
	}
	end := logs[len(logs)-1]
	s.mark.raise(position{end.Index, end.Term})
	return nil
}

// append writes entries into the last segment, or a new one if they don't fit.
// keep says that there are others before them.
func (l *log) append(logs []*raft.Log, keep bool) error {
	size := 0
	for _, entry := range logs {
		size += recordSize(entry)
	}
	tail := l.live[len(l.live)-1]
	if tail.f == nil || tail.used+size > tail.size || !keep && tail.base != logs[0].Index {
		return l.roll(logs[0].Index, keep, logs)
	}
	records := make([]byte, 0, size)
	for _, entry := range logs {
		records = appendRecord(records, tail.sum[:], entry, logs[0].Index)
	}
	if _, err := tail.f.WriteAt(records, int64(tail.used)); err != nil {
		// Whatever stands there now, nothing is written behind it.
		return errors.Join(l.store.failed("store logs", err), tail.shut())
	}
	if err := synced(tail.f); err != nil {
		return l.store.failed("store logs", err)
	}
	tail.used += size
	return nil
}

// roll begins a new segment. What the others hold from its base on counts no
// more, and without keep nothing of them does: their files go.
func (l *log) roll(base uint64, keep bool, logs []*raft.Log) error {
	next := &segment{number: l.number + 1, base: base, keep: keep}
	if err := next.make(l.store.cfg.FS, l.store.cfg.Dir, l.store.self, l.store.cfg.SegmentSize, logs); err != nil {
		return l.store.failed("begin segment", err)
	}
	l.number++
	var dead []*segment
	for n := len(l.live); n > 0 && (!keep || l.live[n-1].base >= base); n-- {
		dead = append(dead, l.live[n-1])
		l.live = l.live[:n-1]
	}
	var err error
	if n := len(l.live); n > 0 {
		err = l.live[n-1].shut()
	}
	l.live = append(l.live, next)
	// The newest goes first: one that is left over after a crash must not find
	// the one it goes on from missing.
	return errors.Join(err, l.remove(dead))
}

// shut closes the file of a segment that nothing is written to any more.
func (g *segment) shut() error {
	if g.f == nil {
		return nil
	}
	f := g.f
	g.f = nil
	return f.Close()
}

// remove removes files of segments, one durably gone before the next.
func (l *log) remove(dead []*segment) error {
	for _, g := range dead {
		err := g.shut()
		if err == nil {
			err = l.store.cfg.FS.Remove(g.name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.store.failed("remove segment", err)
		}
		if err := syncedDir(l.store.cfg.FS, l.store.cfg.Dir); err != nil {
			return l.store.failed("remove segment", err)
		}
	}
	return nil
}

// DeleteRange removes entries at either end of the log; raft asks for no other.
// What goes at the front may still be there after a restart, which does no
// harm: the snapshot reaches further.
func (s *Store) DeleteRange(from, to uint64) error {
	l := s.log
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if reason := s.Retired(); reason != nil {
		return reason
	}
	first, last := l.span()
	switch {
	case last == 0 || from > to || to < first || from > last:
		return nil
	case from <= first && to >= last:
		return l.reset()
	case from <= first:
		return l.deleteFront(to)
	case to >= last:
		return l.deleteBack(from)
	}
	return fmt.Errorf("delete logs %d to %d: not at an end", from, to)
}

// reset empties the log. The mark falls back to the snapshot, first.
func (l *log) reset() error {
	_, last := l.span()
	of := l.store.snaps.newest()
	if err := l.store.mark.lower(position{of.Index, of.Term}); err != nil {
		return err
	}
	if err := l.roll(max(last, of.Index)+1, false, nil); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs, l.first, l.last = nil, 0, 0
	return nil
}

// deleteBack drops every entry from index on. The mark is lowered first: a
// crash in between leaves a log that is longer than it, which is no damage.
func (l *log) deleteBack(index uint64) error {
	if err := l.store.mark.lower(position{index - 1, l.term(index - 1)}); err != nil {
		return err
	}
	if err := l.roll(index, true, nil); err != nil {
		return err
	}
	l.cut(index)
	return nil
}

// deleteFront drops every entry up to index, and the segments that hold no
// other.
func (l *log) deleteFront(index uint64) error {
	var dead []*segment
	for len(l.live) > 1 && l.live[1].base-1 <= index {
		dead = append(dead, l.live[0])
		l.live = l.live[1:]
	}
	l.shed(index + 1)
	return l.remove(dead) // the oldest first: what is left is an end
}

// Replay calls each with every entry that was there when the store was opened,
// the oldest first. It may be called once, before anything is written.
func (s *Store) Replay(each func(*raft.Log) error) error {
	entries := s.log.recovered
	s.log.recovered = nil
	for i := range entries {
		if err := each(&entries[i].Log); err != nil {
			return err
		}
	}
	return nil
}

func (l *log) close() error {
	var faults []error
	for _, g := range l.live {
		faults = append(faults, g.shut())
	}
	return errors.Join(faults...)
}
