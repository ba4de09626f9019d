package replica

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// snapshots is a SnapshotStore that stores no data. What raft calls a snapshot
// is here a mark in the log: the state is in memory already, so taking one
// writes nothing, and opening one streams the state as it is at that moment,
// with the index of that moment. Only a snapshot received from elsewhere holds
// bytes, until the machine has read them.
type snapshots struct {
	fsm      *fsm
	mapMem   func(int) ([]byte, error)
	unmapMem func([]byte)

	mu     sync.Mutex
	serial uint64
	latest *stored // nil: none
}

// stored is what List shows.
type stored struct {
	meta     raft.SnapshotMeta
	received *spool // nil once read, and for marks
}

func newSnapshots(fsm *fsm, mapMem func(int) ([]byte, error), unmapMem func([]byte)) *snapshots {
	return &snapshots{fsm: fsm, mapMem: mapMem, unmapMem: unmapMem}
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64,
	config raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return &sink{store: s, spool: spool{mapMem: s.mapMem, unmapMem: s.unmapMem},
		meta: raft.SnapshotMeta{
			Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, s.serial),
			Index: index, Term: term, Configuration: config, ConfigurationIndex: configIndex,
		}}, nil
}

// List implements raft.SnapshotStore: the newest finished one.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil {
		return nil, nil
	}
	meta := s.latest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open implements raft.SnapshotStore. The first Open of a received snapshot
// reads what was received; every other one streams the live state, and the
// meta it returns says which index that is.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil || s.latest.meta.ID != id {
		return nil, nil, fmt.Errorf("open snapshot %s: not the newest", id)
	}
	meta := s.latest.meta
	if spool := s.latest.received; spool != nil {
		s.latest.received = nil
		return &meta, &receivedReader{spool: spool, fsm: s.fsm, meta: meta}, nil
	}
	view, at, err := s.fsm.live()
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	meta.Index, meta.Term = at.Index, at.Term
	meta.Configuration, meta.ConfigurationIndex = at.Configuration, at.ConfigurationIndex
	// raft wants the length first. A view doesn't change, so it is written
	// twice, once to nowhere, rather than kept.
	if meta.Size, err = view.WriteTo(io.Discard); err != nil {
		view.Release()
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return &meta, streamView(view), nil
}

// liveSnapshot is what the machine hands raft when it takes a snapshot.
type liveSnapshot struct{}

// Persist implements raft.FSMSnapshot: it leaves a mark and no bytes.
func (liveSnapshot) Persist(to raft.SnapshotSink) error {
	mark, ok := to.(*sink)
	if !ok {
		return errors.New("persist snapshot: not one of ours")
	}
	mark.live = true
	return nil
}

// Release implements raft.FSMSnapshot.
func (liveSnapshot) Release() {}

// sink is a snapshot being written; it shows in List after Close only.
type sink struct {
	store *snapshots
	meta  raft.SnapshotMeta
	live  bool // a mark: the state is in the machine
	spool spool
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) { return k.spool.write(p) }

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	k.spool.free()
	return nil
}

// Close implements raft.SnapshotSink.
func (k *sink) Close() error {
	next := &stored{meta: k.meta}
	if !k.live {
		next.meta.Size = k.spool.size
		next.received = &k.spool
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	if old := k.store.latest; old != nil && old.received != nil {
		old.received.free()
	}
	k.store.latest = next
	return nil
}

// close frees a received snapshot nobody read.
func (s *snapshots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil && s.latest.received != nil {
		s.latest.received.free()
		s.latest.received = nil
	}
}

// streamView writes view into a pipe and returns the end to read from. Closing
// that end stops the writer, waits for it and releases the view.
func streamView(view View) io.ReadCloser {
	r, w := io.Pipe()
	stream := &viewReader{PipeReader: r, view: view, done: make(chan struct{})}
	go func() { // stopped by viewReader.Close
		defer close(stream.done)
		_, err := view.WriteTo(w)
		w.CloseWithError(err)
	}()
	return stream
}

// viewReader is the reading end of a view's stream.
type viewReader struct {
	*io.PipeReader
	view View
	done chan struct{}
	once sync.Once
}

func (v *viewReader) Close() error {
	v.once.Do(func() {
		v.PipeReader.Close()
		<-v.done
		v.view.Release()
	})
	return nil
}
