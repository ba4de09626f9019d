// Package replica drives one copy of one Raft group: it proposes entries,
// applies committed ones to a [Machine], keeps the log within a byte budget,
// and stops by itself when its stores or its machine fail.
//
// It and wal, which keeps on disk what must not be forgotten, are the only rooms
// that import raft. What it carries is opaque to it: entries are sealed before
// they get here, so the log holds ciphertext. It lives in memory that comes in
// through [Config] as funcs, and with a [Store] on disk as well.
//
// A Replica is safe for concurrent use. See DESIGN.md for why it is not built
// from the library's own stores.
package replica

import (
	"cloakroom/cluster/bell"

	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Machine is the state a replica keeps. Apply and Restore are called from one
// goroutine at a time, never while Snapshot runs.
type Machine interface {
	// Apply carries out one entry. data must not be kept. An error means that
	// this copy can't go on (memory ran out half way); what the entry itself
	// came to, refusals included, is in the result.
	Apply(index uint64, data []byte) (any, error)
	// Snapshot returns the present state as an immutable view, at once.
	Snapshot() (View, error)
	// Restore replaces the state by what a View wrote.
	Restore(r io.Reader) error
}

// View is a state that stays as it is until Release. Writing it twice gives
// the same bytes.
type View interface {
	WriteTo(w io.Writer) (int64, error)
	Release()
}

// Identity names a replica. It is the identity of its log: a log that is lost
// takes both names with it, and a new life gets new ones.
type Identity struct {
	ID   string // Raft server ID
	Addr string // virtual address, never reused either
}

// Config is what a replica is made from.
type Config struct {
	Group      string // for log lines: "directory", "shard 3"
	Generation uint32 // of the group, from 1
	Identity   Identity
	// Found has the replica found its group, as its one voter. Otherwise it
	// waits until a leader that has added it sends it the log.
	Found   bool
	Stream  Stream // to the other replicas; Close closes it. nil reaches nobody, for a founder alone
	Machine Machine

	// SealSnapshot returns a writer that seals what goes to another replica
	// into w and is closed at the end; OpenSnapshot the reader that opens it
	// there. An error of that reader parks the replica. Default, both: plain.
	SealSnapshot func(w io.Writer, at SnapshotInfo) (io.WriteCloser, error)
	OpenSnapshot func(r io.Reader, at SnapshotInfo) (io.Reader, error)
	// SnapshotSize returns the length of what SealSnapshot writes from the
	// length of what it is given. Default: it is sealed to nowhere and counted.
	SnapshotSize func(payload int64) int64

	MapLog    func(n int) ([]byte, error) // off-heap memory for the log; n is a multiple of 4 KiB
	UnmapLog  func(mem []byte)
	LogBudget int // bytes of log kept in memory; default 64 MiB, at least 64 KiB

	// Store keeps log, term, vote and snapshots on disk; nil: nothing outlives
	// the process. With a store the replica goes on from what is there, and Found
	// founds the group only if nothing is. SealSnapshot and OpenSnapshot seal
	// what goes to disk as well.
	Store Store

	Logger *slog.Logger // default: none

	Hazards Hazards // for tests: remedies left out

	// For tests: stands between raft and the log store.
	wrapLog func(raft.LogStore) raft.LogStore
}

const (
	defaultLogBudget = 64 << 20
	minLogBudget     = 64 << 10
)

// check fills defaults and reports every fault.
func (c *Config) check() error {
	if c.LogBudget == 0 {
		c.LogBudget = defaultLogBudget
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("replica: "+text))
		}
	}
	fault(c.Identity.ID == "" || c.Identity.Addr == "", "Identity is incomplete")
	fault(c.Generation == 0, "Generation is 0")
	fault(c.Machine == nil, "Machine is missing")
	fault(c.MapLog == nil || c.UnmapLog == nil, "MapLog and UnmapLog are needed")
	fault(c.LogBudget < minLogBudget, fmt.Sprintf("LogBudget is under %d bytes", minLogBudget))
	fault(c.Stream == nil && !c.Found, "Stream is missing: only a founder can be alone")
	fault((c.SealSnapshot == nil) != (c.OpenSnapshot == nil), "SealSnapshot and OpenSnapshot go together")
	return errors.Join(faults...)
}

// Replica is one copy of one group.
type Replica struct {
	cfg     Config
	log     *memLog
	fsm     *fsm
	snaps   *snapshots
	members *roster
	streams *streams
	trans   *transport
	raft    *raft.Raft
	loud    *logSink
	torn    torn
	founds  bool        // there was nothing to go on from: it founds its group
	full    atomic.Bool // the disk is nearly

	// turn holds a token while raft owes an answer, and from shut on: raft
	// forgets its debts when it is shut down.
	turn chan struct{}

	leadTerm atomic.Uint64 // the term led with an entry of it applied; 0: none
	refused  atomic.Bool   // raft's last answer was that a transfer is under way
	probing  atomic.Bool   // asking again
	stuck    atomic.Int32  // probes in a row that got this answer
	changed  bell.Bell     // rings at what Changed promises
	snapshot bell.Bell     // rings after every attempt at a snapshot

	compactions atomic.Uint64
	reloading   sync.Mutex // raft's settings are read and written back

	parkOnce sync.Once
	parked   atomic.Pointer[error]
	haltOnce sync.Once
	started  chan struct{} // closed when start has returned
	halted   chan struct{} // closed by park and Close; stops keep, follow and watch
	down     chan struct{} // closed once raft is shut down
	gone     chan struct{} // closed at the end of Close
	// Who comes second waits for the channel, not at a sync.Once: it takes
	// time, and a bubble's clock must move on.
	shutting, closing atomic.Bool
	running           sync.WaitGroup // those three, and what waits for an answer of raft
}

// New starts a replica. A founder asks for its election at once; New does not
// wait for it ([Replica.AwaitLead] does).
func New(cfg Config) (*Replica, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, turn: make(chan struct{}, 1),
		started: make(chan struct{}), halted: make(chan struct{}), down: make(chan struct{}), gone: make(chan struct{})}
	r.members = &roster{changed: r.changed.Ring}
	r.log = newMemLog(cfg.MapLog, cfg.UnmapLog, cfg.LogBudget)
	r.fsm = &fsm{turn: newTurn(), machine: cfg.Machine, park: r.park, termAt: r.log.term, members: r.members, keeps: cfg.Store != nil}
	r.snaps = newSnapshots(&r.cfg, r.fsm)
	r.streams = newStreams(cfg.Identity.Addr, cfg.Stream)
	err := r.start()
	close(r.started)
	if err != nil {
		r.abandon()
		return nil, fmt.Errorf("start replica of %s: %w", cfg.Group, err)
	}
	r.watchDisk()
	r.running.Go(r.keep)   // these end when the replica is halted,
	r.running.Go(r.follow) // by Close or by park
	r.running.Go(r.watch)
	if r.founds || r.alone() {
		r.running.Go(r.elect) // ends with raft's answer
	}
	return r, nil
}

// start bootstraps the stores and hands them to raft.
func (r *Replica) start() (err error) {
	// NewRaft panics on a log it can't read.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft panicked: %v", p)
		}
	}()
	logs, stable, err := r.stores()
	if err != nil {
		return err
	}
	if r.cfg.wrapLog != nil {
		logs = r.cfg.wrapLog(logs)
	}
	guard := &guard{park: r.park}
	guardedLogs := &guardedLog{guard: guard, store: logs, members: r.members, torn: &r.torn, before: r.cfg.Hazards.beforeStore(r.cfg.Group)}
	guardedStable := &guardedStable{guard: guard, store: stable}
	logger, loud := raftLogger(r.cfg.Logger, r.cfg.Group)
	r.loud = loud
	r.trans = newTransport(r.streams, logger, r.cfg.Hazards)
	conf := settings(r.cfg.Identity.ID, logger)
	if r.founds {
		founder := configuration([]Member{{Identity: r.cfg.Identity, Voter: true}})
		if err := found(guardedLogs, guardedStable, founder); err != nil {
			return err
		}
	}
	if err := r.revive(conf, guardedLogs, guardedStable); err != nil {
		return err
	}
	if r.raft, err = raft.NewRaft(conf, r.fsm, guardedLogs, guardedStable, r.snaps, r.trans); err != nil {
		return err
	}
	observer := raft.NewObserver(nil, false, func(*raft.Observation) bool {
		r.changed.Ring() // in raft's own goroutine; a bell waits for nobody
		return false
	})
	r.raft.RegisterObserver(observer)
	r.torn.raft.Store(r.raft)
	guard.live.Store(true)
	return nil
}

// stores returns where raft keeps its log, its term and its vote, with what is
// on disk in memory, and notes whether there is anything.
func (r *Replica) stores() (raft.LogStore, raft.StableStore, error) {
	if r.cfg.Store == nil {
		r.founds = r.cfg.Found
		return r.log, newMemStable(), nil
	}
	if reason := r.cfg.Store.Retired(); reason != nil {
		return nil, nil, reason
	}
	logs := &durableLog{memLog: r.log, store: r.cfg.Store}
	if err := logs.load(r.members); err != nil {
		return nil, nil, fmt.Errorf("load log: %w", err)
	}
	if err := r.snaps.load(); err != nil {
		return nil, nil, fmt.Errorf("load snapshot: %w", err)
	}
	last, _ := r.log.LastIndex()
	r.founds = r.cfg.Found && last == 0 && r.snaps.latest == nil
	return logs, r.cfg.Store, nil
}

// abandon gives back what start took.
func (r *Replica) abandon() {
	r.halt()
	r.streams.cut()
	if r.trans != nil {
		r.trans.Close()
	}
	r.streams.Close()
	r.running.Wait()
	r.streams.serving.Wait()
	r.snaps.close()
	r.log.close()
}

// alone reports whether the replica is its group's one voter.
func (r *Replica) alone() bool {
	_, members := r.members.latest()
	return len(members) == 1 && members[0] == Member{Identity: r.cfg.Identity, Voter: true}
}

// elect has a founder lead at once.
func (r *Replica) elect() {
	if err := r.trans.elect(r.cfg.Identity); err != nil && r.stopped() == nil {
		r.cfg.Logger.Warn("founder waits for a timeout to be elected", "group", r.cfg.Group, "error", err)
	}
}

// Close stops the replica and gives its log memory back. It waits for every
// goroutine it started, and for a second for the entry in flight; if that one
// does not come to its end by then it is answered with an unknown outcome.
func (r *Replica) Close() error {
	if r.closing.Swap(true) {
		<-r.gone
		return nil
	}
	defer close(r.gone)
	r.halt()
	r.changed.Ring()
	r.snapshot.Ring()
	r.shut()
	r.running.Wait()
	r.streams.serving.Wait()
	r.snaps.close()
	r.log.close()
	return nil
}

// shut stops raft once it owes no answer, and returns when it has stopped. The
// connections go first: raft waits for its goroutines, and one of them may be
// reading a snapshot.
func (r *Replica) shut() {
	if r.shutting.Swap(true) {
		<-r.down
		return
	}
	defer close(r.down)
	r.lastTurn()
	r.loud.hush()
	r.streams.cut()
	if err := r.raft.Shutdown().Error(); err != nil {
		r.cfg.Logger.Warn("raft did not stop cleanly", "group", r.cfg.Group, "error", err)
	}
}
