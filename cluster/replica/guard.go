package replica

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// guard stands between raft and a store. raft panics when it can't write its
// term or read a committed entry; a guard parks the replica instead, and ends
// the goroutine that asked where an error would make raft panic.
type guard struct {
	park func(error)
	live atomic.Bool // raft's own goroutines are calling
}

// try runs f and turns a panic into an error. Every error but "not found" and
// "full" parks the replica.
func (g *guard) try(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: store panicked: %v", what, p)
		}
		if err != nil && err != raft.ErrLogNotFound && err.Error() != errNotFound.Error() && !errors.Is(err, errLogFull) {
			g.park(err)
		}
	}()
	return f()
}

// must is try for calls whose failure raft answers with a panic. Goexit runs
// raft's deferred calls, which answer what was in flight.
func (g *guard) must(what string, f func() error) error {
	err := g.try(what, f)
	if err != nil && err != raft.ErrLogNotFound && g.live.Load() {
		runtime.Goexit()
	}
	return err
}

// guardedLog is a LogStore behind a guard.
type guardedLog struct {
	*guard
	store   raft.LogStore
	members *roster
	torn    *torn
	before  func() // comes before entries are stored; nil: nothing does
}

// IsMonotonic tells raft that indexes have no gaps here.
func (s *guardedLog) IsMonotonic() bool { return true }

func (s *guardedLog) FirstIndex() (n uint64, err error) {
	err = s.try("first index", func() error { n, err = s.store.FirstIndex(); return err })
	return n, err
}

func (s *guardedLog) LastIndex() (n uint64, err error) {
	err = s.try("last index", func() error { n, err = s.store.LastIndex(); return err })
	return n, err
}

func (s *guardedLog) GetLog(index uint64, log *raft.Log) error {
	return s.must("get log", func() error {
		err := s.store.GetLog(index, log)
		if err == raft.ErrLogNotFound {
			return s.torn.missing(index)
		}
		return err
	})
}

func (s *guardedLog) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

func (s *guardedLog) StoreLogs(logs []*raft.Log) error {
	found, err := configurationsIn(logs)
	if err != nil {
		return err // the sender's fault, no reason to park
	}
	if s.before != nil {
		s.before()
	}
	err = s.try("store logs", func() error { return s.store.StoreLogs(logs) })
	if err == nil {
		s.members.stored(found)
		s.torn.stored.Add(1)
	}
	return err
}

func (s *guardedLog) DeleteRange(min, max uint64) error {
	last, _ := s.store.LastIndex()
	err := s.try("delete logs", func() error { return s.store.DeleteRange(min, max) })
	if err == nil && max >= last {
		s.members.truncated(min)
	}
	return err
}

// guardedStable is a StableStore behind a guard.
type guardedStable struct {
	*guard
	store raft.StableStore
}

func (s *guardedStable) Set(key, val []byte) error {
	return s.try("set", func() error { return s.store.Set(key, val) })
}

func (s *guardedStable) Get(key []byte) (val []byte, err error) {
	err = s.try("get", func() error { val, err = s.store.Get(key); return err })
	return val, err
}

func (s *guardedStable) SetUint64(key []byte, val uint64) error {
	return s.must("set number", func() error { return s.store.SetUint64(key, val) })
}

func (s *guardedStable) GetUint64(key []byte) (val uint64, err error) {
	err = s.try("get number", func() error { val, err = s.store.GetUint64(key); return err })
	return val, err
}
