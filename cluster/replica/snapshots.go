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
	cfg *Config
	fsm *fsm

	mu      sync.Mutex
	serial  uint64
	latest  *stored       // nil: none
	marking chan struct{} // not nil: raft has a mark and did not note it yet; closed by marked
}

// stored is what List shows.
type stored struct {
	meta     raft.SnapshotMeta
	received *spool // nil once read, and for marks
	plain    bool   // received, but not sealed
}

func newSnapshots(cfg *Config, fsm *fsm) *snapshots { return &snapshots{cfg: cfg, fsm: fsm} }

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64,
	config raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return &sink{store: s, spool: spool{mapMem: s.cfg.MapLog, unmapMem: s.cfg.UnmapLog},
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
	if s.latest == nil || s.latest.meta.ID != id {
		s.mu.Unlock()
		return nil, nil, fmt.Errorf("open snapshot %s: not the newest", id)
	}
	meta, received, plain := s.latest.meta, s.latest.received, s.latest.plain
	s.latest.received = nil
	s.mu.Unlock()
	if received != nil {
		return &meta, s.openReceived(received, plain, meta), nil
	}
	stream, err := s.openLive(&meta)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return &meta, stream, nil
}

// openReceived reads a received snapshot, opened if it came sealed.
func (s *snapshots) openReceived(from *spool, plain bool, meta raft.SnapshotMeta) *receivedReader {
	r := &receivedReader{spool: from, fsm: s.fsm, meta: meta, back: s.cfg.Hazards.TakenBack}
	if !plain && s.cfg.OpenSnapshot != nil {
		r.open = func(sealed io.Reader) (io.Reader, error) {
			return s.cfg.OpenSnapshot(sealed, s.info(&meta, nil))
		}
	}
	return r
}

// openLive streams the present state and puts into meta where it stands.
func (s *snapshots) openLive(meta *raft.SnapshotMeta) (io.ReadCloser, error) {
	view, at, err := s.fsm.live()
	if err != nil {
		return nil, err
	}
	meta.Index, meta.Term = at.Index, at.Term
	meta.Configuration, meta.ConfigurationIndex = at.Configuration, at.ConfigurationIndex
	sealed := &sealedView{view: view, seal: s.cfg.SealSnapshot, info: s.info(meta, view)}
	// raft wants the length first. A view doesn't change, so it is written
	// twice, once to nowhere, rather than kept.
	if meta.Size, err = sealed.size(s.cfg.SnapshotSize); err != nil {
		view.Release()
		return nil, err
	}
	size := meta.Size
	return streamView(view, func(w io.Writer) error {
		exact := &exactWriter{w: w, left: size}
		if err := sealed.writeTo(exact); err != nil {
			return err
		}
		return exact.done()
	}), nil
}

func (s *snapshots) info(meta *raft.SnapshotMeta, view View) SnapshotInfo {
	return SnapshotInfo{Group: s.cfg.Group, Generation: s.cfg.Generation,
		Index: meta.Index, Term: meta.Term, View: view}
}

// marked tells that raft has noted the mark it took, or gave up.
func (s *snapshots) marked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marking != nil {
		close(s.marking)
		s.marking = nil
	}
}

// liveSnapshot is what the machine hands raft when it takes a snapshot.
type liveSnapshot struct{}

// Persist implements raft.FSMSnapshot: it leaves a mark and no bytes. raft
// closes the sink itself.
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
	plain bool // not sealed
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
//
// raft takes a snapshot beside its main loop and notes its index afterwards,
// without looking whether a snapshot of a later index was installed meanwhile
// (raft issue 248). A replica whose index goes back would vote for a leader
// that lacks what it has acknowledged. So a mark below the newest snapshot is
// refused, and an installed one waits while raft notes a mark.
func (k *sink) Close() error {
	if k.live {
		return k.store.mark(k.meta)
	}
	k.meta.Size = k.spool.size
	k.store.receive(&stored{meta: k.meta, received: &k.spool, plain: k.plain})
	return nil
}

// mark notes a snapshot without bytes.
func (s *snapshots) mark(meta raft.SnapshotMeta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil && s.latest.meta.Index > meta.Index {
		return fmt.Errorf("snapshot at %d: a later one was installed", meta.Index)
	}
	s.latest = &stored{meta: meta}
	if s.marking == nil {
		s.marking = make(chan struct{})
	}
	return nil
}

// receive notes a snapshot that came from elsewhere.
func (s *snapshots) receive(next *stored) {
	s.mu.Lock()
	for s.marking != nil {
		marking := s.marking
		s.mu.Unlock()
		<-marking
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if old := s.latest; old != nil && old.received != nil {
		old.received.free()
	}
	s.latest = next
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
