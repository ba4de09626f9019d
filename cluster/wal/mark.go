package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
)

// position is an entry's place.
type position struct{ index, term uint64 }

// marker keeps the mark: how far the log is known to be durable, in a file of
// its own. A log that ends before it has lost something. The value of its slots
// is an index and a term, 8 bytes each, little endian.
//
// It follows the log by a moment, since an entry must not wait for two fsyncs:
// what is not marked yet was durable all the same. Before the log is cut back
// it is lowered first.
type marker struct {
	store *Store
	file  *slots

	turn    chan struct{} // held while the file is written; comes before mu
	kick    chan struct{} // a token: want has changed
	halted  chan struct{}
	once    sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	want    position
	written position
}

func openMark(s *Store) (*marker, error) {
	file, value, err := openSlots(s.cfg.FS, filepath.Join(s.cfg.Dir, markName))
	if err != nil {
		return nil, fmt.Errorf("mark: %w", missing(err))
	}
	m := &marker{store: s, file: file, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), halted: make(chan struct{})}
	if len(value) > 0 {
		if len(value) != 16 {
			return nil, errors.Join(fmt.Errorf("%w: mark", ErrDamaged), file.close())
		}
		m.written = position{binary.LittleEndian.Uint64(value), binary.LittleEndian.Uint64(value[8:])}
	}
	m.want = m.written
	m.running.Go(m.follow) // ended by halt
	return m, nil
}

// missing makes damage of a file that is not there: all are made before the
// identity's.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// follow writes the mark after the log.
func (m *marker) follow() {
	for {
		select {
		case <-m.kick:
		case <-m.halted:
			return
		}
		m.flush() // retires the identity if it fails
	}
}

// raise notes that the log is durable up to at. It waits for nothing.
func (m *marker) raise(at position) {
	m.mu.Lock()
	m.want = at
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// set puts the mark to at, durable when it returns.
func (m *marker) set(at position) error {
	m.mu.Lock()
	m.want = at
	m.mu.Unlock()
	return m.flush()
}

// lower is set for a mark that stands above at.
func (m *marker) lower(at position) error {
	m.mu.Lock()
	below := max(m.want.index, m.written.index) <= at.index
	m.mu.Unlock()
	if below {
		return nil
	}
	return m.set(at)
}

// flush writes what is wanted, and returns when that is durable.
func (m *marker) flush() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	m.mu.Lock()
	want, written := m.want, m.written
	m.mu.Unlock()
	if want == written {
		return nil
	}
	if reason := m.store.Retired(); reason != nil {
		return reason
	}
	value := binary.LittleEndian.AppendUint64(nil, want.index)
	value = binary.LittleEndian.AppendUint64(value, want.term)
	if err := m.file.put(value); err != nil {
		return m.store.failed("write mark", err)
	}
	m.mu.Lock()
	m.written = want
	m.mu.Unlock()
	return nil
}

// at returns the mark on disk.
func (m *marker) at() position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.written
}

// halt ends follow and waits for it.
func (m *marker) halt() {
	m.once.Do(func() { close(m.halted) })
	m.running.Wait()
}
