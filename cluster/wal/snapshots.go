package wal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"cloakroom/cluster/disk"

	"github.com/hashicorp/raft"
)

// Snapshots keeps the newest snapshot of a replica. It implements
// raft.SnapshotStore. A file, its name term, index and a number as hex digits
// and ".snap":
//
//	offset  bytes  what (little endian)
//	0       8      magic "cksnap01"
//	8       4      length of the meta data, n
//	12      n      meta data, JSON
//	12+n    …      the snapshot, sealed as it came
//	end-32  32     SHA-256 over all before it
//
// It is written under another name, made durable, read back and checked, and
// then renamed; only then the older one goes.
type Snapshots struct {
	store *Store

	turn   chan struct{} // held by who finishes a snapshot; comes before mu
	mu     sync.Mutex
	latest *snapshotFile // nil: none
	serial uint64
}

// snapshotFile is a finished snapshot.
type snapshotFile struct {
	name string // path
	meta raft.SnapshotMeta
	from int64 // where the content begins
}

const (
	snapshotMagic  = "cksnap01"
	snapshotSuffix = ".snap"
	maxMeta        = 1 << 20
)

// snapshotMeta is the meta data in a file.
type snapshotMeta struct {
	Replica       []byte `json:"replica"` // hash of the identity: it is nobody else's
	Index         uint64 `json:"index"`
	Term          uint64 `json:"term"`
	Configuration []byte `json:"configuration"` // as raft encodes it
	ConfigIndex   uint64 `json:"configuration_index"`
}

// errOlder refuses a snapshot below the newest.
var errOlder = errors.New("a later snapshot is there")

// openSnapshots checks the newest snapshot and removes others.
func openSnapshots(s *Store) (*Snapshots, error) {
	k := &Snapshots{store: s, turn: make(chan struct{}, 1)}
	entries, err := s.cfg.FS.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var old []string
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), snapshotSuffix) {
			continue
		}
		file, serial, err := k.read(filepath.Join(s.cfg.Dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", entry.Name(), err)
		}
		k.serial = max(k.serial, serial)
		if k.latest != nil && k.latest.meta.Index > file.meta.Index {
			old = append(old, file.name)
			continue
		}
		if k.latest != nil {
			old = append(old, k.latest.name)
		}
		k.latest = file
	}
	for _, name := range old { // a crash came before they went
		if err := s.cfg.FS.Remove(name); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func snapshotName(term, index, serial uint64) string {
	return fmt.Sprintf("%016x-%016x-%08x%s", term, index, serial, snapshotSuffix)
}

// newest returns what the newest snapshot is of, zero if there is none.
func (k *Snapshots) newest() Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.latest == nil {
		return Snapshot{}
	}
	return Snapshot{k.latest.meta.Index, k.latest.meta.Term}
}

// read checks a finished snapshot: its checksum, its name, whose it is, and
// what CheckSnapshot says.
func (k *Snapshots) read(name string) (*snapshotFile, uint64, error) {
	var term, index, serial uint64
	base := filepath.Base(name)
	if _, err := fmt.Sscanf(base, "%016x-%016x-%08x"+snapshotSuffix, &term, &index, &serial); err != nil ||
		snapshotName(term, index, serial) != base {
		return nil, 0, fmt.Errorf("%w: its name", ErrDamaged)
	}
	file, err := k.verify(name)
	if err != nil {
		return nil, 0, err
	}
	if file.meta.Term != term || file.meta.Index != index {
		return nil, 0, fmt.Errorf("%w: it is of another entry", ErrDamaged)
	}
	file.meta.ID = strings.TrimSuffix(base, snapshotSuffix)
	return file, serial, nil
}

// verify reads a file to its end.
func (k *Snapshots) verify(name string) (*snapshotFile, error) {
	f, err := k.store.cfg.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	meta, from, err := decodeMeta(io.TeeReader(f, sum), k.store.self)
	if err != nil {
		return nil, err
	}
	meta.Size = info.Size() - from - sha256.Size
	if meta.Size < 0 {
		return nil, fmt.Errorf("%w: short", ErrDamaged)
	}
	content := io.TeeReader(io.LimitReader(f, meta.Size), sum)
	var refused error
	if k.store.cfg.CheckSnapshot != nil {
		refused = k.store.cfg.CheckSnapshot(content, Snapshot{meta.Index, meta.Term})
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return nil, err
	}
	end, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(end, sum.Sum(nil)) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	if refused != nil {
		return nil, fmt.Errorf("%w: open: %w", ErrDamaged, refused)
	}
	return &snapshotFile{name: name, meta: *meta, from: from}, nil
}

func encodeMeta(meta *raft.SnapshotMeta, id Identity) []byte {
	text, err := json.Marshal(snapshotMeta{Replica: id.hash(), Index: meta.Index, Term: meta.Term,
		Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigIndex: meta.ConfigurationIndex})
	if err != nil {
		panic(err) // bytes and numbers
	}
	head := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), uint32(len(text)))
	return append(head, text...)
}

// decodeMeta reads what stands before the content, and how long that is.
func decodeMeta(r io.Reader, id Identity) (meta *raft.SnapshotMeta, length int64, err error) {
	defer func() {
		if recover() != nil { // raft's decoder of a configuration
			err = fmt.Errorf("%w: configuration", ErrDamaged)
		}
	}()
	head := make([]byte, len(snapshotMagic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, short(err)
	}
	n := binary.LittleEndian.Uint32(head[len(snapshotMagic):])
	if string(head[:len(snapshotMagic)]) != snapshotMagic || n > maxMeta {
		return nil, 0, fmt.Errorf("%w: head", ErrDamaged)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, 0, short(err)
	}
	var m snapshotMeta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, 0, fmt.Errorf("%w: meta data: %w", ErrDamaged, err)
	}
	if !bytes.Equal(m.Replica, id.hash()) {
		return nil, 0, fmt.Errorf("%w: it is another replica's", ErrDamaged)
	}
	return &raft.SnapshotMeta{Version: 1, Index: m.Index, Term: m.Term,
		Configuration: raft.DecodeConfiguration(m.Configuration), ConfigurationIndex: m.ConfigIndex,
	}, int64(len(head) + len(text)), nil
}

// short makes damage of a file that ends too early.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: short", ErrDamaged)
	}
	return err
}

// List implements raft.SnapshotStore: the newest one.
func (k *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.latest == nil {
		return nil, nil
	}
	meta := k.latest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open implements raft.SnapshotStore. It returns the content, sealed as it
// came, which was checked before.
func (k *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.latest == nil || k.latest.meta.ID != id {
		return nil, nil, fmt.Errorf("open snapshot %s: not the newest", id)
	}
	f, err := k.store.cfg.FS.Open(k.latest.name)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	meta := k.latest.meta
	return &meta, &snapshotReader{Reader: io.NewSectionReader(f, k.latest.from, meta.Size), file: f}, nil
}

// snapshotReader reads the content of a snapshot's file.
type snapshotReader struct {
	io.Reader
	file disk.File
}

func (c *snapshotReader) Close() error { return c.file.Close() }

// Create implements raft.SnapshotStore.
func (k *Snapshots) Create(_ raft.SnapshotVersion, index, term uint64,
	config raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if reason := k.store.Retired(); reason != nil {
		return nil, reason
	}
	k.mu.Lock()
	k.serial++
	name := snapshotName(term, index, k.serial)
	k.mu.Unlock()
	w := &snapshotWriter{store: k, sum: sha256.New(), name: filepath.Join(k.store.cfg.Dir, name),
		meta: raft.SnapshotMeta{Version: 1, ID: strings.TrimSuffix(name, snapshotSuffix),
			Index: index, Term: term, Configuration: config, ConfigurationIndex: configIndex}}
	f, err := k.store.cfg.FS.Create(w.name + disk.TempSuffix)
	if err != nil {
		return nil, k.store.failed("create snapshot", err)
	}
	w.f = f
	if _, err := w.Write(encodeMeta(&w.meta, k.store.self)); err != nil {
		return nil, errors.Join(err, w.Cancel())
	}
	return w, nil
}

// snapshotWriter is a snapshot being written.
type snapshotWriter struct {
	store *Snapshots
	f     disk.File // nil: closed
	sum   hash.Hash
	name  string
	meta  raft.SnapshotMeta
}

// ID implements raft.SnapshotSink.
func (w *snapshotWriter) ID() string { return w.meta.ID }

func (w *snapshotWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.sum.Write(p[:n])
	if err != nil {
		return n, w.store.store.failed("write snapshot", err)
	}
	return n, nil
}

// Cancel implements raft.SnapshotSink.
func (w *snapshotWriter) Cancel() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	if gone := w.store.store.cfg.FS.Remove(w.name + disk.TempSuffix); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// Close implements raft.SnapshotSink: it makes the snapshot the newest, durably.
// One that is older than the newest is refused.
func (w *snapshotWriter) Close() error {
	if w.f == nil {
		return fs.ErrClosed
	}
	k := w.store
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if newest := k.newest(); newest.Index > w.meta.Index {
		return errors.Join(fmt.Errorf("snapshot at %d: %w", w.meta.Index, errOlder), w.Cancel())
	}
	file, err := w.finish()
	if err != nil {
		return errors.Join(err, w.Cancel())
	}
	k.mu.Lock()
	old := k.latest
	k.latest = file
	k.mu.Unlock()
	if old == nil {
		return nil
	}
	if err := k.store.cfg.FS.Remove(old.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return k.store.failed("remove snapshot", err)
	}
	return nil
}

// finish makes the file durable, checks it, and gives it its name.
func (w *snapshotWriter) finish() (*snapshotFile, error) {
	s := w.store.store
	if _, err := w.f.Write(w.sum.Sum(nil)); err != nil {
		return nil, s.failed("write snapshot", err)
	}
	if err := synced(w.f); err != nil {
		return nil, s.failed("write snapshot", err)
	}
	file, err := w.store.verify(w.name + disk.TempSuffix)
	if err != nil {
		return nil, fmt.Errorf("check snapshot: %w", err)
	}
	file.name, file.meta.ID = w.name, w.meta.ID
	err = w.f.Close()
	w.f = nil
	if err == nil {
		err = s.cfg.FS.Rename(w.name+disk.TempSuffix, w.name)
	}
	if err == nil {
		err = syncedDir(s.cfg.FS, s.cfg.Dir)
	}
	if err != nil {
		return nil, s.failed("finish snapshot", err)
	}
	return file, nil
}
