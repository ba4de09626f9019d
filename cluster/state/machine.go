package state

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// Config says what a machine is made of.
type Config struct {
	// Slab holds the records and the index. The machine is its only user;
	// closing it, after the machine, is the caller's.
	Slab *securemem.Slab
	// Watch is told what changes; nil: nobody is.
	Watch Watcher
}

// Machine is one replica's copy of a shard.
type Machine struct {
	slab  *securemem.Slab
	watch Watcher // nil: none

	// turn is held by who applies, snapshots or restores. It comes before mu.
	turn    sync.Mutex
	digest  digest          // guarded by turn
	command command.Command // guarded by turn: scratch
	plan    plan            // guarded by turn: scratch
	changes []Change        // guarded by turn: of the entry that is being applied

	// mu is held for writing in stretches of at most stretch commands.
	mu      sync.RWMutex
	index   *index
	applied uint64   // of the last entry applied
	hash    [32]byte // over all entries applied
	time    uint64   // unix milliseconds
	schema  uint32   // highest epoch seen
	counts  counts
	views   int             // not yet released
	parked  []securemem.Ref // freed while a view may read them
	failed  error           // set once: the replica must stop
}

// New returns an empty machine.
func New(cfg Config) (*Machine, error) {
	if cfg.Slab == nil {
		return nil, errors.New("shard machine: Slab is missing")
	}
	x, err := newIndex(cfg.Slab)
	if err != nil {
		return nil, fmt.Errorf("shard machine: %w", err)
	}
	return &Machine{slab: cfg.Slab, watch: cfg.Watch, index: x, digest: newDigest()}, nil
}

// Stats are the counters of a machine at one moment.
type Stats struct {
	Subjects   int      // living
	Erased     int      // erased marks, those of aliases included
	Linked     int      // handles and aliases
	Records    int      // all index entries: subjects, marks, links and field records
	Segments   int      // of the index
	IndexBytes int64    // pages of the index, without those only views hold
	Load       float64  // share of the index's places that is taken
	Applied    uint64   // log index
	Hash       [32]byte // of the applied prefix
	Time       uint64   // shard time, unix milliseconds
	Schema     uint32   // highest schema epoch seen
	Views      int      // snapshots not yet released
	Parked     int      // slots kept for them, to be wiped after
	Slab       securemem.SlabStats
}

// Stats returns the machine's counters.
func (m *Machine) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	x := m.index
	return Stats{
		Subjects: m.counts.living, Erased: m.counts.erased, Linked: m.counts.linked, Records: x.count,
		Segments: len(x.segments(nil)), IndexBytes: int64(x.pages) * int64(pageBytes),
		Load:    float64(x.count) / float64(x.pages*pageEntries),
		Applied: m.applied, Hash: m.hash, Time: m.time, Schema: m.schema,
		Views: m.views, Parked: len(m.parked), Slab: m.slab.Stats(),
	}
}

// Hash returns the rolling hash of the applied prefix: replicas that applied
// the same entries have the same hash.
func (m *Machine) Hash() [32]byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.hash
}

// Applied returns the log index of the last entry applied.
func (m *Machine) Applied() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.applied
}

// Time returns the shard time in unix milliseconds, 0 before the first.
func (m *Machine) Time() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.time
}

// Err returns why the machine stopped, nil while it runs. Once it stopped,
// nothing may be read from it either: its last command may be half done.
func (m *Machine) Err() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.failed
}

// Subject returns a copy of the subject record under a subject token, erased
// marks and aliases included.
func (m *Machine) Subject(token cloakroom.Token) (command.SubjectRecord, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	k := newKey(&token)
	record, entry, ok := m.find(&k)
	if !ok || entry&subject == 0 || command.IsHandle(record) {
		return command.SubjectRecord{}, false
	}
	return decodeSubject(bytes.Clone(record)), true
}

// decodeSubject reads a subject record that this machine stored.
func decodeSubject(record []byte) command.SubjectRecord {
	s, err := command.DecodeSubject(record)
	if err != nil {
		panic("state: stored subject record does not decode")
	}
	return s
}

// livingExpiry returns the expiry of what is stored as a subject, 0 if it has
// none or is no living subject.
func livingExpiry(record []byte) uint32 {
	if command.IsHandle(record) {
		return 0
	}
	s := decodeSubject(record)
	if s.Erased {
		return 0
	}
	return s.Expiry
}
