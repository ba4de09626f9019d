package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// memLog is a LogStore in memory off the Go heap, with a byte budget.
//
// Entries stand in segments, oldest segment first, and never cross a segment.
// Inside one, entries grow from the front and their offsets from the back:
//
//	┌ entry 0 ┬ entry 1 ┬ … ──▶      free      ◀── … ┬ off 1 ┬ off 0 ┐
//
//	entry  bytes  what (memory only, so this is no released format)
//	0      8      term
//	8      8      appended at, unix nanoseconds
//	16     1      type
//	17     4      length of data
//	21     4      length of extensions
//	25     …      data, then extensions
//	offset 4      where the entry begins
//
// Deleted segments are kept for reuse: a log that has seen its budget once
// maps no more memory.
type memLog struct {
	mapMem   func(n int) ([]byte, error)
	unmapMem func([]byte)
	budget   int
	segment  int           // bytes of an ordinary segment
	full     chan struct{} // gets a token when the log passes three quarters of its budget

	mu      sync.RWMutex
	segs    []*segment
	spare   [][]byte // of ordinary size
	used    int      // bytes of live entries and their offsets
	mapped  int      // bytes, spares included
	isClose bool
}

// segment is one piece of the log.
type segment struct {
	mem   []byte
	base  uint64 // index of entry 0
	dead  int    // entries at the front that were deleted
	count int    // entries, dead ones included
	head  int    // where the next entry begins
}

const (
	entryHeader = 25
	offsetBytes = 4
	pageBytes   = 4 << 10
)

var (
	errLogClosed = errors.New("the log is closed")
	// errLogFull means that nothing was stored; it does not park the replica.
	errLogFull = errors.New("the log is full")
)

func newMemLog(mapMem func(int) ([]byte, error), unmapMem func([]byte), budget int) *memLog {
	// A quarter of a small budget, so that there are always a few segments to
	// recycle; more than one full entry where the budget allows.
	segment := min(max(budget/16, 1<<20), 4<<20, budget/4)
	return &memLog{mapMem: mapMem, unmapMem: unmapMem, budget: budget,
		segment: pages(segment), full: make(chan struct{}, 1)}
}

// pages rounds n up to whole pages.
func pages(n int) int { return (n + pageBytes - 1) &^ (pageBytes - 1) }

// FirstIndex implements raft.LogStore.
func (l *memLog) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segs) == 0 {
		return 0, nil
	}
	return l.segs[0].first(), nil
}

// LastIndex implements raft.LogStore.
func (l *memLog) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last(), nil
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l *memLog) IsMonotonic() bool { return true }

// GetLog implements raft.LogStore. It copies: what it returns outlives the
// entry.
func (l *memLog) GetLog(index uint64, log *raft.Log) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.find(index)
	if s == nil {
		return raft.ErrLogNotFound
	}
	s.read(int(index-s.base), log)
	log.Index = index
	return nil
}

// term returns the term of an entry, 0 if it is not there.
func (l *memLog) term(index uint64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.find(index); s != nil {
		return binary.LittleEndian.Uint64(s.mem[s.offset(int(index-s.base)):])
	}
	return 0
}

// nextForMachine returns the first index above after, up to last, of an entry
// that raft hands to a machine: commands and configurations, but no no-ops and
// no barriers. It returns 0 if there is none in the log.
func (l *memLog) nextForMachine(after, last uint64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segs) == 0 {
		return 0
	}
	for i := max(after+1, l.segs[0].first()); i <= last; i++ {
		s := l.find(i)
		if s == nil {
			return 0
		}
		switch raft.LogType(s.mem[s.offset(int(i-s.base))+16]) {
		case raft.LogCommand, raft.LogConfiguration:
			return i
		}
	}
	return 0
}

// StoreLog implements raft.LogStore.
func (l *memLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. Indexes must follow each other; an empty
// log may begin anywhere.
func (l *memLog) StoreLogs(logs []*raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClose {
		return errLogClosed
	}
	for i, log := range logs {
		if err := l.store(log); err != nil {
			if i > 0 { // all or nothing: raft won't know how far it got
				l.deleteBack(logs[0].Index)
			}
			return err
		}
	}
	if l.used >= l.budget/4*3 {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// store appends one entry. The caller holds mu.
func (l *memLog) store(log *raft.Log) error {
	if len(l.segs) > 0 && log.Index != l.last()+1 {
		return fmt.Errorf("store log: index %d after %d", log.Index, l.last())
	}
	size := entryHeader + len(log.Data) + len(log.Extensions)
	// The writer is held back at the budget; a follower can't hold its leader
	// back, so there is room above it, but not without end.
	if l.used+size > 2*l.budget && l.used > 0 {
		return fmt.Errorf("store log: %w: %d bytes used, budget %d", errLogFull, l.used, l.budget)
	}
	if n := len(l.segs); n == 0 || !l.segs[n-1].fits(size) {
		mem, err := l.take(size + offsetBytes)
		if err != nil {
			return fmt.Errorf("store log: %w: %w", errLogFull, err)
		}
		l.segs = append(l.segs, &segment{mem: mem, base: log.Index})
	}
	l.segs[len(l.segs)-1].write(log, size)
	l.used += size + offsetBytes
	return nil
}

// take returns memory for a new segment of at least n bytes.
func (l *memLog) take(n int) ([]byte, error) {
	if n <= l.segment && len(l.spare) > 0 {
		mem := l.spare[len(l.spare)-1]
		l.spare = l.spare[:len(l.spare)-1]
		return mem, nil
	}
	mem, err := l.mapMem(max(l.segment, pages(n)))
	if err != nil {
		return nil, err
	}
	l.mapped += len(mem)
	return mem, nil
}

// give keeps an ordinary segment's memory for the next one, up to the budget.
func (l *memLog) give(mem []byte) {
	if len(mem) == l.segment && l.mapped <= l.budget+l.segment {
		l.spare = append(l.spare, mem)
		return
	}
	l.mapped -= len(mem)
	l.unmapMem(mem)
}

// DeleteRange implements raft.LogStore, for a range that touches either end of
// the log; raft asks for no other.
func (l *memLog) DeleteRange(min, max uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClose || len(l.segs) == 0 || min > max || max < l.segs[0].first() || min > l.last() {
		return nil
	}
	switch {
	case min <= l.segs[0].first():
		l.deleteFront(max)
	case max >= l.last():
		l.deleteBack(min)
	default:
		return fmt.Errorf("delete logs %d to %d: not at an end", min, max)
	}
	return nil
}

// deleteFront drops every entry up to and including max.
func (l *memLog) deleteFront(max uint64) {
	for len(l.segs) > 0 && l.segs[0].last() <= max {
		l.used -= l.segs[0].live()
		l.give(l.segs[0].mem)
		l.segs[0] = nil
		l.segs = l.segs[1:]
	}
	if len(l.segs) > 0 && l.segs[0].first() <= max {
		s := l.segs[0]
		l.used -= s.live()
		s.dead = int(max - s.base + 1)
		l.used += s.live()
	}
}

// deleteBack drops every entry from min on.
func (l *memLog) deleteBack(min uint64) {
	for len(l.segs) > 0 && l.segs[len(l.segs)-1].first() >= min {
		s := l.segs[len(l.segs)-1]
		l.used -= s.live()
		l.give(s.mem)
		l.segs = l.segs[:len(l.segs)-1]
	}
	if len(l.segs) > 0 && l.last() >= min {
		s := l.segs[len(l.segs)-1]
		l.used -= s.live()
		s.head, s.count = s.offset(int(min-s.base)), int(min-s.base)
		l.used += s.live()
	}
}

// trailing returns how many of the newest entries fit into n bytes.
func (l *memLog) trailing(n int) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var entries uint64
	for _, s := range slices.Backward(l.segs) {
		if live := s.live(); live <= n {
			n -= live
			entries += uint64(s.count - s.dead)
			continue
		}
		for i := s.count - 1; i >= s.dead && s.head-s.offset(i)+offsetBytes*(s.count-i) <= n; i-- {
			entries++
		}
		break
	}
	return entries
}

// size returns the bytes of live entries and the bytes mapped.
func (l *memLog) size() (used, mapped int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.used, l.mapped
}

// close gives all memory back. Late readers find an empty log.
func (l *memLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		l.unmapMem(s.mem)
	}
	for _, mem := range l.spare {
		l.unmapMem(mem)
	}
	l.segs, l.spare, l.used, l.mapped, l.isClose = nil, nil, 0, 0, true
}

// last returns the newest index, 0 for none. The caller holds mu.
func (l *memLog) last() uint64 {
	if n := len(l.segs); n > 0 {
		return l.segs[n-1].last()
	}
	return 0
}

// find returns the segment that holds index, or nil. The caller holds mu.
func (l *memLog) find(index uint64) *segment {
	i, _ := slices.BinarySearchFunc(l.segs, index, func(s *segment, index uint64) int {
		if s.last() < index {
			return -1
		}
		return 1
	})
	if i == len(l.segs) || index < l.segs[i].first() {
		return nil
	}
	return l.segs[i]
}

func (s *segment) first() uint64 { return s.base + uint64(s.dead) }
func (s *segment) last() uint64  { return s.base + uint64(s.count) - 1 }

// offset returns where entry i begins.
func (s *segment) offset(i int) int {
	return int(binary.LittleEndian.Uint32(s.mem[len(s.mem)-offsetBytes*(i+1):]))
}

// live returns the bytes of live entries and their offsets.
func (s *segment) live() int {
	if s.dead == s.count {
		return 0
	}
	return s.head - s.offset(s.dead) + offsetBytes*(s.count-s.dead)
}

// fits reports whether an entry of size bytes has room.
func (s *segment) fits(size int) bool {
	return s.head+size+offsetBytes*(s.count+1) <= len(s.mem)
}

// write appends an entry that fits.
func (s *segment) write(log *raft.Log, size int) {
	at := s.mem[s.head : s.head+size]
	binary.LittleEndian.PutUint64(at, log.Term)
	binary.LittleEndian.PutUint64(at[8:], uint64(log.AppendedAt.UnixNano()))
	at[16] = byte(log.Type)
	binary.LittleEndian.PutUint32(at[17:], uint32(len(log.Data)))
	binary.LittleEndian.PutUint32(at[21:], uint32(len(log.Extensions)))
	n := copy(at[entryHeader:], log.Data)
	copy(at[entryHeader+n:], log.Extensions)
	binary.LittleEndian.PutUint32(s.mem[len(s.mem)-offsetBytes*(s.count+1):], uint32(s.head))
	s.head += size
	s.count++
}

// read copies entry i into log.
func (s *segment) read(i int, log *raft.Log) {
	at := s.mem[s.offset(i):]
	log.Term = binary.LittleEndian.Uint64(at)
	log.AppendedAt = time.Unix(0, int64(binary.LittleEndian.Uint64(at[8:])))
	log.Type = raft.LogType(at[16])
	data, ext := int(binary.LittleEndian.Uint32(at[17:])), int(binary.LittleEndian.Uint32(at[21:]))
	log.Data = append([]byte(nil), at[entryHeader:entryHeader+data]...)
	log.Extensions = append([]byte(nil), at[entryHeader+data:entryHeader+data+ext]...)
}
