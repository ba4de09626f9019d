// Package wal keeps on disk what a replica must not forget across a restart:
// its log, its term and vote, and its snapshots. It sees what it keeps sealed,
// and checks it all when it is opened: a log that lost or changed anything it
// had acknowledged is damaged, and takes the identity of its replica with it.
//
// A [Store] is safe for concurrent use. See DESIGN.md for the files, their
// formats, and what a crash may leave of them.
package wal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"

	"cloakroom/cluster/disk"

	"github.com/hashicorp/raft"
)

var (
	// ErrDamaged means that what is on disk is not all that was acknowledged,
	// or can't be trusted to be. The identity is retired: set the folder aside
	// ([SetAside]) and join with a new one.
	ErrDamaged = errors.New("the log on disk is damaged")
	// ErrNone means that there is no replica in the folder: none was made, or a
	// crash came before it was.
	ErrNone = errors.New("no replica in the folder")
)

// Identity is whose files they are. ID and Addr are those of the replica, and
// die with its log.
type Identity struct {
	Group      string `json:"group"`
	Generation uint32 `json:"generation"`
	ID         string `json:"id"`
	Addr       string `json:"addr"`
}

// Snapshot says what a snapshot is of.
type Snapshot struct {
	Index, Term uint64 // of the last entry in it
}

// Config is what a store is made from.
type Config struct {
	FS  disk.FS
	Dir string // of this replica alone; its parent must exist
	// Identity is whose folder it is. Open takes the one it finds if this is
	// zero, and refuses another as damage: the folder was copied.
	Identity Identity
	// Boot is the number of this start of the node, and only grows. Open refuses
	// a folder that has seen a later one: the node's own file is an old copy.
	Boot uint64
	// Seen is the latest boot that opened the folder, as whoever opens it has noted
	// elsewhere once Open had returned. A folder that knows only earlier ones was
	// put back from a copy: damage. 0: not known.
	Seen uint64

	// Check verifies a command as it stands in the log, sealed. Open calls it for
	// each, in order, those the snapshot holds as well included; an error is
	// damage. nil: only checksums are looked at.
	Check func(index uint64, entry []byte) error
	// CheckSnapshot reads a snapshot to its end, sealed as it is, and returns an
	// error if it can't be opened. It is called by Open, and for each snapshot
	// before an older one goes. nil: only checksums are looked at.
	CheckSnapshot func(r io.Reader, of Snapshot) error

	SegmentSize int    // bytes of one file of the log; default 4 MiB
	Floor       uint64 // free bytes under which the store is [Store.Full]; default 256 MiB
	Logger      *slog.Logger
}

const (
	defaultSegment = 4 << 20
	minSegment     = 4 << 10
	defaultFloor   = 256 << 20
)

// check fills defaults and reports every fault.
func (c *Config) check() error {
	if c.SegmentSize == 0 {
		c.SegmentSize = defaultSegment
	}
	if c.Floor == 0 {
		c.Floor = defaultFloor
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("wal: "+text))
		}
	}
	fault(c.FS == nil, "FS is missing")
	fault(c.Dir == "", "Dir is missing")
	fault(c.Boot == 0, "Boot is 0")
	fault(c.SegmentSize < minSegment, fmt.Sprintf("SegmentSize is under %d bytes", minSegment))
	return errors.Join(faults...)
}

// Store is an open folder of a replica. The replica has it for itself.
type Store struct {
	cfg   Config
	self  Identity
	log   *log
	term  *termFile
	mark  *marker
	snaps *Snapshots

	retired atomic.Pointer[error]
}

// Create makes the folder of a new replica and opens it. What a crash left of
// an earlier Create is taken away; a folder with a replica is an error.
func Create(cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Identity.ID == "" || cfg.Identity.Addr == "" || cfg.Identity.Generation == 0 {
		return nil, errors.New("wal: Identity is incomplete")
	}
	if err := create(&cfg); err != nil {
		return nil, fmt.Errorf("make replica folder %s: %w", cfg.Dir, err)
	}
	return Open(cfg)
}

// Open opens the folder of a replica after it has read and checked everything
// in it. It returns [ErrNone] or [ErrDamaged] as they say; after any other
// error the folder may be opened again later.
func Open(cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	if err := s.open(); err != nil {
		if s.mark != nil {
			s.mark.halt()
		}
		s.closeFiles()
		if errors.Is(err, syscall.EIO) && !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, fmt.Errorf("open replica folder %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// open reads, checks and mends. The identity's file is last: it takes note of
// the boot that could use what is there.
func (s *Store) open() error {
	label, err := readLabel(s.cfg.FS, s.cfg.Dir)
	if err != nil {
		return err
	}
	if err := label.admit(&s.cfg); err != nil {
		return err
	}
	s.self = label.Identity
	if err := notRetired(s.cfg.FS, s.cfg.Dir); err != nil {
		return err
	}
	if err := dropTemps(s.cfg.FS, s.cfg.Dir); err != nil {
		return err
	}
	if s.term, err = openTerm(s); err != nil {
		return err
	}
	if s.snaps, err = openSnapshots(s); err != nil {
		return err
	}
	if s.mark, err = openMark(s); err != nil {
		return err
	}
	if s.log, err = openLog(s); err != nil {
		return err
	}
	if label.Boot == s.cfg.Boot {
		return nil
	}
	label.Boot = s.cfg.Boot
	return writeLabel(s.cfg.FS, s.cfg.Dir, label)
}

// Identity returns whose folder it is.
func (s *Store) Identity() Identity { return s.self }

// Snapshots returns where the snapshots are.
func (s *Store) Snapshots() raft.SnapshotStore { return s.snaps }

// Last returns the newest entry, or the newest snapshot's last one if the log
// ends before: how far this replica has come for good. It never goes back but
// by a leader's word.
func (s *Store) Last() (term, index uint64) {
	term, index = s.log.lastDurable()
	if of := s.snaps.newest(); of.Index > index {
		return of.Term, of.Index
	}
	return term, index
}

// Full reports whether the disk has less than the floor free, or would not say.
// Nothing but what makes room, or must not wait, should be written then.
func (s *Store) Full() bool {
	free, err := s.cfg.FS.Free(s.cfg.Dir)
	return err != nil || free < s.cfg.Floor
}

// Retired returns why the identity must not be used any more, nil if it may.
func (s *Store) Retired() error {
	if reason := s.retired.Load(); reason != nil {
		return *reason
	}
	return nil
}

// failed decides what an error of the disk means, and returns it. A write that
// found the disk full has done nothing. After any other error, and after an
// fsync that failed for whatever reason, nobody knows what is on the disk: the
// identity is retired, also for the next start, as far as that can be noted.
func (s *Store) failed(what string, err error) error {
	var sync *unsynced
	if errors.Is(err, syscall.ENOSPC) && !errors.As(err, &sync) {
		return fmt.Errorf("%s: %w", what, err)
	}
	// What went wrong is told and not wrapped: the disk may be full as well, but
	// that is no longer the point.
	return s.retire(fmt.Errorf("%s: %w: %s", what, ErrDamaged, err.Error()))
}

// unsynced is an error of an fsync.
type unsynced struct{ err error }

func (u *unsynced) Error() string { return "not durable: " + u.err.Error() }
func (u *unsynced) Unwrap() error { return u.err }

// synced makes what was written to f durable.
func synced(f disk.File) error {
	if err := f.Sync(); err != nil {
		return &unsynced{err}
	}
	return nil
}

// syncedDir makes the names in a folder durable.
func syncedDir(fsys disk.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return &unsynced{err}
	}
	return nil
}

// retire notes that the identity is done with. Only the first reason counts.
func (s *Store) retire(reason error) error {
	if !s.retired.CompareAndSwap(nil, &reason) {
		return *s.retired.Load()
	}
	s.cfg.Logger.Error("replica's identity retired", "group", s.self.Group, "replica", s.self.ID, "error", reason)
	if err := noteRetired(s.cfg.FS, s.cfg.Dir, reason); err != nil {
		s.cfg.Logger.Error("retirement not noted on disk", "group", s.self.Group, "replica", s.self.ID, "error", err)
	}
	return reason
}

// Close makes the mark durable and closes the files. Nothing else may be under
// way.
func (s *Store) Close() error {
	s.mark.halt()
	var err error
	if s.Retired() == nil {
		err = s.mark.flush()
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	var faults []error
	if s.log != nil {
		faults = append(faults, s.log.close())
	}
	if s.mark != nil {
		faults = append(faults, s.mark.file.close())
	}
	if s.term != nil {
		faults = append(faults, s.term.file.close())
	}
	return errors.Join(faults...)
}
