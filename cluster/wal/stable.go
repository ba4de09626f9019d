package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// termFile holds the replica's term and its vote. The value of its slots:
//
//	offset  bytes  what (little endian)
//	0       8      current term
//	8       8      term of the last vote
//	16      …      whom it was for: the candidate's virtual address
//
// Both places are written each time: a vote that is forgotten is given twice.
type termFile struct {
	store *Store
	file  *slots

	turn chan struct{} // held while the file is written; comes before mu
	mu   sync.Mutex
	now  vote
	said uint64 // term of a vote whose candidate comes next
}

type vote struct {
	term, voteTerm uint64
	candidate      string
}

// The keys of raft.
const (
	keyTerm      = "CurrentTerm"
	keyVoteTerm  = "LastVoteTerm"
	keyCandidate = "LastVoteCand"
)

// errNotFound is compared by its text in raft.
var errNotFound = errors.New("not found")

func openTerm(s *Store) (*termFile, error) {
	file, value, err := openSlots(s.cfg.FS, filepath.Join(s.cfg.Dir, termName))
	if err != nil {
		return nil, fmt.Errorf("term: %w", missing(err))
	}
	t := &termFile{store: s, file: file, turn: make(chan struct{}, 1)}
	if len(value) == 0 {
		return t, nil
	}
	if len(value) < 16 {
		return nil, errors.Join(fmt.Errorf("%w: term", ErrDamaged), file.close())
	}
	t.now = vote{binary.LittleEndian.Uint64(value), binary.LittleEndian.Uint64(value[8:]), string(value[16:])}
	// A crash may have come between the two places.
	if file.sound != [2]bool{true, true} {
		s.cfg.Logger.Warn("one of two places for the term is not up to date; written again", "group", s.self.Group)
		if err := file.putBoth(value); err != nil {
			return nil, errors.Join(s.failed("write term", err), file.close())
		}
	}
	return t, nil
}

func (v vote) encode() []byte {
	value := binary.LittleEndian.AppendUint64(nil, v.term)
	value = binary.LittleEndian.AppendUint64(value, v.voteTerm)
	return append(value, v.candidate...)
}

// set makes a change durable.
func (t *termFile) set(change func(*vote)) error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if reason := t.store.Retired(); reason != nil {
		return reason
	}
	t.mu.Lock()
	next := t.now
	t.mu.Unlock()
	change(&next)
	if len(next.candidate) > maxSlot-16 {
		return errors.New("the candidate's address is too long")
	}
	if err := t.file.putBoth(next.encode()); err != nil {
		return t.store.failed("write term", err)
	}
	t.mu.Lock()
	t.now, t.said = next, 0
	t.mu.Unlock()
	return nil
}

// SetUint64 implements raft.StableStore for the keys that raft has. The term of
// a vote waits for the candidate, which raft sets next: only the two together
// are a vote.
func (s *Store) SetUint64(key []byte, n uint64) error {
	t := s.term
	switch string(key) {
	case keyTerm:
		return t.set(func(v *vote) { v.term = n })
	case keyVoteTerm:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.said = n
		return s.Retired()
	}
	return fmt.Errorf("set %q: unknown key", key)
}

// Set implements raft.StableStore for the keys that raft has.
func (s *Store) Set(key, value []byte) error {
	if string(key) != keyCandidate {
		return fmt.Errorf("set %q: unknown key", key)
	}
	t := s.term
	t.mu.Lock()
	said := t.said
	t.mu.Unlock()
	return t.set(func(v *vote) {
		v.candidate = string(value)
		if said != 0 {
			v.voteTerm = said
		}
	})
}

// GetUint64 implements raft.StableStore.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	t := s.term
	t.mu.Lock()
	defer t.mu.Unlock()
	n := uint64(0)
	switch string(key) {
	case keyTerm:
		n = t.now.term
	case keyVoteTerm:
		n = t.now.voteTerm
	}
	if n == 0 {
		return 0, errNotFound
	}
	return n, nil
}

// Get implements raft.StableStore.
func (s *Store) Get(key []byte) ([]byte, error) {
	t := s.term
	t.mu.Lock()
	defer t.mu.Unlock()
	if string(key) != keyCandidate || t.now.candidate == "" {
		return nil, errNotFound
	}
	return []byte(t.now.candidate), nil
}
