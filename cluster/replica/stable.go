package replica

import (
	"errors"
	"sync"
)

// errNotFound is compared by its text in raft.
var errNotFound = errors.New("not found")

// memStable keeps term and vote in memory. They are lost with the process,
// and so is the identity they belong to: a new life gets a new one.
type memStable struct {
	mu      sync.Mutex
	values  map[string][]byte
	numbers map[string]uint64
}

func newMemStable() *memStable {
	return &memStable{values: make(map[string][]byte), numbers: make(map[string]uint64)}
}

func (s *memStable) Set(key, val []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[string(key)] = append([]byte(nil), val...)
	return nil
}

func (s *memStable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	val, ok := s.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return append([]byte(nil), val...), nil
}

func (s *memStable) SetUint64(key []byte, val uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers[string(key)] = val
	return nil
}

func (s *memStable) GetUint64(key []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	val, ok := s.numbers[string(key)]
	if !ok {
		return 0, errNotFound
	}
	return val, nil
}
