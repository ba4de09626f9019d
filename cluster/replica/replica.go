// Package replica drives one copy of one Raft group: it proposes entries,
// applies committed ones to a [Machine], keeps the log within a byte budget,
// and stops by itself when its stores or its machine fail.
//
// It is the only room that imports raft. What it carries is opaque to it:
// batches are sealed before they get here, so the log holds ciphertext, and it
// lives in memory that comes in through [Config] as funcs.
//
// A Replica is safe for concurrent use. See DESIGN.md for why it is not built
// from the library's own stores.
package replica

import (
	"context"
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
	// Voters is the configuration a new group starts with. For now that is
	// this replica alone.
	Voters  []Identity
	Machine Machine

	MapLog    func(n int) ([]byte, error) // off-heap memory for the log; n is a multiple of 4 KiB
	UnmapLog  func(mem []byte)
	LogBudget int // bytes of log kept in memory; default 64 MiB, at least 64 KiB

	Logger *slog.Logger // default: none

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
	fault(len(c.Voters) != 1 || c.Voters[0] != c.Identity, "Voters must be this replica alone")
	return errors.Join(faults...)
}

// Replica is one copy of one group.
type Replica struct {
	cfg   Config
	log   *memLog
	fsm   *fsm
	snaps *snapshots
	trans *loop
	raft  *raft.Raft

	// applying is held while raft owes an answer to Apply or Barrier, and by
	// shut: raft forgets its debts when it is shut down.
	applying sync.Mutex

	leading  atomic.Bool // elected, and an entry of the own term is applied
	changed  bell        // rings when leading, parked or closed changes
	snapshot bell        // rings after every attempt at a snapshot

	compactions atomic.Uint64

	parkOnce  sync.Once
	parked    atomic.Pointer[error]
	closeOnce sync.Once
	started   chan struct{} // closed when start has returned
	closed    chan struct{} // stops keep
	shutOnce  sync.Once
	running   sync.WaitGroup // keep, and the shut that a park starts
}

// New starts a replica of a new group and asks for its election at once; it
// does not wait for it ([Replica.AwaitLead] does).
func New(cfg Config) (*Replica, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, started: make(chan struct{}), closed: make(chan struct{})}
	r.log = newMemLog(cfg.MapLog, cfg.UnmapLog, cfg.LogBudget)
	r.fsm = &fsm{machine: cfg.Machine, park: r.park, termAt: r.log.term}
	r.trans = newLoop(cfg.Identity.Addr)
	err := r.start()
	close(r.started)
	if err != nil {
		r.running.Wait()
		r.log.close()
		return nil, fmt.Errorf("start replica of %s: %w", cfg.Group, err)
	}
	r.running.Go(r.keep) // stopped by Close, or by park
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
	var logs raft.LogStore = r.log
	if r.cfg.wrapLog != nil {
		logs = r.cfg.wrapLog(logs)
	}
	guard := &guard{park: r.park}
	guardedLogs := &guardedLog{guard: guard, store: logs}
	stable := &guardedStable{guard: guard, store: newMemStable()}
	r.snaps = newSnapshots(r.fsm, r.cfg.MapLog, r.cfg.UnmapLog)
	conf := settings(r.cfg.Identity.ID, raftLogger(r.cfg.Logger, r.cfg.Group))
	var voters raft.Configuration
	for _, v := range r.cfg.Voters {
		voters.Servers = append(voters.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	if err := raft.BootstrapCluster(conf, guardedLogs, stable, r.snaps, r.trans, voters); err != nil {
		return err
	}
	if r.raft, err = raft.NewRaft(conf, r.fsm, guardedLogs, stable, r.snaps, r.trans); err != nil {
		return err
	}
	guard.live.Store(true)
	r.trans.elect(r.cfg.Identity)
	return nil
}

// AwaitLead waits until this replica leads its group and has applied
// everything committed before.
func (r *Replica) AwaitLead(ctx context.Context) error {
	for {
		ring := r.changed.wait()
		if err := r.stopped(); err != nil {
			return err
		}
		if r.leading.Load() {
			return nil
		}
		select {
		case <-ring:
		case <-ctx.Done():
			return fmt.Errorf("wait for the lead of %s: %w", r.cfg.Group, ctx.Err())
		}
	}
}

// Leads reports whether this replica leads and can answer.
func (r *Replica) Leads() bool {
	return r.leading.Load() && r.parked.Load() == nil
}

// Close stops the replica and gives its log memory back. It waits for the
// entry in flight and for every goroutine it started.
func (r *Replica) Close() error {
	r.closeOnce.Do(func() {
		close(r.closed)
		r.leading.Store(false)
		r.changed.ring()
		r.snapshot.ring()
		r.shut()
		r.running.Wait()
		r.snaps.close()
		r.log.close()
	})
	return nil
}

// shut stops raft once it owes no answer.
func (r *Replica) shut() {
	r.shutOnce.Do(func() {
		r.applying.Lock()
		defer r.applying.Unlock()
		if err := r.raft.Shutdown().Error(); err != nil {
			r.cfg.Logger.Warn("raft did not stop cleanly", "group", r.cfg.Group, "error", err)
		}
	})
}
