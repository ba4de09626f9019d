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
//
// With a [Store], taking one writes it there, and so is a received one. What is
// there is read when the replica starts; what others are sent is the present
// state all the same.
type snapshots struct {
	cfg  *Config
	fsm  *fsm
	disk raft.SnapshotStore // nil: none
	turn turn               // held while one is made the newest; comes before mu

	mu      sync.Mutex
	serial  uint64
	latest  *stored       // nil: none
	marking chan struct{} // not nil: raft has a mark and did not note it yet; closed by marked
}

// stored is what List shows.
type stored struct {
	meta     raft.SnapshotMeta
	received *spool // nil once read, and for marks
	unread   bool   // on disk, and the machine has to read it
	plain    bool   // received, but not sealed
}

func newSnapshots(cfg *Config, fsm *fsm) *snapshots {
	s := &snapshots{cfg: cfg, fsm: fsm, turn: newTurn()}
	if cfg.Store != nil {
		s.disk = cfg.Store.Snapshots()
	}
	return s
}

// load notes the snapshot that is on disk when the replica starts.
func (s *snapshots) load() error {
	metas, err := s.disk.List()
	if err != nil || len(metas) == 0 {
		return err
	}
	s.latest = &stored{meta: *metas[0], unread: true}
	return nil
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64,
	config raft.Configuration, configIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	k := &sink{store: s, meta: raft.SnapshotMeta{
		Version: version, Index: index, Term: term, Configuration: config, ConfigurationIndex: configIndex}}
	if s.disk != nil {
		file, err := s.disk.Create(version, index, term, config, configIndex, trans)
		if err != nil {
			return nil, s.failed(err)
		}
		k.file, k.meta.ID = file, file.ID()
		return k, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	k.meta.ID = fmt.Sprintf("%d-%d-%d", term, index, s.serial)
	k.spool = spool{mapMem: s.cfg.MapLog, unmapMem: s.cfg.UnmapLog}
	return k, nil
}

// failed parks the replica if the store has retired its identity.
func (s *snapshots) failed(err error) error {
	if s.cfg.Store != nil && s.cfg.Store.Retired() != nil {
		s.fsm.park(err)
	}
	return err
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
	latest := *s.latest
	s.latest.received, s.latest.unread = nil, false
	s.mu.Unlock()
	meta := latest.meta
	if latest.received != nil {
		return &meta, s.openReceived(&spoolReader{spool: latest.received}, latest.plain, meta), nil
	}
	if latest.unread {
		_, file, err := s.disk.Open(id)
		if err != nil {
			return nil, nil, err
		}
		return &meta, s.openReceived(file, false, meta), nil
	}
	stream, err := s.openLive(&meta)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return &meta, stream, nil
}

// openReceived reads a received snapshot, opened if it came sealed.
func (s *snapshots) openReceived(from io.ReadCloser, plain bool, meta raft.SnapshotMeta) *receivedReader {
	r := &receivedReader{from: from, fsm: s.fsm, meta: meta, back: s.cfg.Hazards.TakenBack}
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
type liveSnapshot struct{ view View } // nil without a store

// Persist implements raft.FSMSnapshot: it leaves a mark, and writes the view to
// disk if there is one. raft closes the sink itself.
func (l liveSnapshot) Persist(to raft.SnapshotSink) error {
	mark, ok := to.(*sink)
	if !ok {
		return errors.New("persist snapshot: not one of ours")
	}
	mark.live = true
	if l.view == nil {
		return nil
	}
	sealed := &sealedView{view: l.view, seal: mark.store.cfg.SealSnapshot, info: mark.store.info(&mark.meta, l.view)}
	if _, err := sealed.size(mark.store.cfg.SnapshotSize); err != nil { // which notes the length of the payload
		return err
	}
	return sealed.writeTo(mark)
}

// Release implements raft.FSMSnapshot.
func (l liveSnapshot) Release() {
	if l.view != nil {
		l.view.Release()
	}
}

// sink is a snapshot being written; it shows in List after Close only.
type sink struct {
	store *snapshots
	meta  raft.SnapshotMeta
	live  bool // a mark: the state is in the machine
	plain bool // not sealed
	spool spool
	file  raft.SnapshotSink // on disk; nil without a store
}

func (k *sink) ID() string { return k.meta.ID }

// errPlainOnDisk refuses to write down what is not sealed.
var errPlainOnDisk = errors.New("a state that is not sealed can't be restored into a group with a store")

func (k *sink) Write(p []byte) (int, error) {
	switch {
	case k.file == nil:
		return k.spool.write(p)
	case k.plain:
		return 0, errPlainOnDisk
	}
	n, err := k.file.Write(p)
	if err != nil {
		return n, k.store.failed(err)
	}
	return n, nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	k.spool.free()
	if k.file != nil {
		return k.file.Cancel()
	}
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
		return k.store.mark(k)
	}
	return k.store.receive(k)
}

// finish makes the sink's file durable, if it has one.
func (k *sink) finish() error {
	if k.file == nil {
		return nil
	}
	if err := k.file.Close(); err != nil {
		return k.store.failed(err)
	}
	return nil
}

// mark notes a snapshot of the machine's own state.
func (s *snapshots) mark(k *sink) error {
	s.turn.take()
	defer s.turn.leave()
	s.mu.Lock()
	if s.latest != nil && s.latest.meta.Index > k.meta.Index {
		s.mu.Unlock()
		return errors.Join(fmt.Errorf("snapshot at %d: a later one was installed", k.meta.Index), k.Cancel())
	}
	if s.marking == nil {
		s.marking = make(chan struct{})
	}
	s.mu.Unlock()
	if err := k.finish(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = &stored{meta: k.meta}
	return nil
}

// receive notes a snapshot that came from elsewhere.
func (s *snapshots) receive(k *sink) error {
	s.turn.take()
	defer s.turn.leave()
	for marking := s.underWay(); marking != nil; marking = s.underWay() {
		s.turn.leave()
		<-marking
		s.turn.take()
	}
	if err := k.finish(); err != nil {
		return err
	}
	next := &stored{meta: k.meta, plain: k.plain, unread: k.file != nil}
	if k.file == nil {
		next.meta.Size, next.received = k.spool.size, &k.spool
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.latest; old != nil && old.received != nil {
		old.received.free()
	}
	s.latest = next
	return nil
}

// underWay returns what is closed when raft has noted the mark it took, nil if
// it took none.
func (s *snapshots) underWay() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marking
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
