package cluster

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/replica"
)

// Machine is the state of one shard.
type Machine interface {
	// Apply carries out an opened batch and appends one result per item.
	Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error)
	// Read fills one span per token; it may run beside Apply.
	Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records)
	Snapshot() (replica.View, error)
	Restore(r io.Reader) error
}

// shard is one data shard: its queue, its writer, its replica and its state.
type shard struct {
	cfg        *Config
	id         cloakroom.ShardID
	generation uint32
	machine    Machine
	replica    *replica.Replica
	queue      *queue
	writer     sync.WaitGroup

	told    atomic.Int64 // newest shard time proposed, unix milliseconds
	telling atomic.Bool  // a time command is on its way
}

// openShard starts a shard's replica and its writer.
func openShard(cfg *Config, id cloakroom.ShardID, self replica.Identity) (*shard, error) {
	machine, err := cfg.Machine(id)
	if err != nil {
		return nil, fmt.Errorf("make state of shard %d: %w", id, err)
	}
	s := &shard{cfg: cfg, id: id, generation: cfg.Generation, machine: machine, queue: newQueue(cfg.QueueBytes)}
	s.replica, err = replica.New(replica.Config{
		Group: fmt.Sprintf("shard %d", id), Generation: cfg.Generation,
		Identity: self, Found: true,
		Machine: &sealedMachine{Machine: machine, open: cfg.OpenBatch, group: uint32(id), generation: cfg.Generation},
		MapLog:  cfg.MapLog, UnmapLog: cfg.UnmapLog, LogBudget: cfg.LogBudget, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.writer.Go(s.write) // stopped by close
	return s, nil
}

// close finishes what is queued and stops the replica.
func (s *shard) close() {
	s.queue.close()
	s.writer.Wait()
	if err := s.replica.Close(); err != nil {
		s.cfg.Logger.Warn("replica did not close", "shard", s.id, "error", err)
	}
}

// sealedMachine opens entries before its machine sees them.
type sealedMachine struct {
	Machine
	open              func(dst []byte, group, generation uint32, sealed []byte) ([]byte, error)
	group, generation uint32
	batch             []byte // reused; Apply has one caller at a time
}

// Apply implements replica.Machine. An entry that can't be opened here may be
// opened by the others, so it stops this replica.
func (m *sealedMachine) Apply(index uint64, data []byte) (any, error) {
	batch, err := m.open(m.batch[:0], m.group, m.generation, data)
	if err != nil {
		return nil, fmt.Errorf("open batch: %w", err)
	}
	m.batch = batch
	if cap(m.batch) > 2*cloakroom.MaxEntryBytes {
		m.batch = nil
	}
	// Fresh for every entry: the proposer reads it while the next is applied.
	var results []command.Result
	if frame, err := command.OpenBatch(batch); err == nil {
		results = make([]command.Result, 0, frame.Len())
	}
	if results, err = m.Machine.Apply(index, batch, results); err != nil {
		return nil, err
	}
	return results, nil
}

// index returns where the entry at i stands in the shard's history.
func (s *shard) index(i uint64) cloakroom.Index {
	return cloakroom.Index{Shard: s.id, Generation: s.generation, Index: i}
}

// setTime moves shard time to now and waits for it.
func (s *shard) setTime(ctx context.Context, now time.Time) error {
	s.told.Store(now.UnixMilli())
	_, _, err := s.propose(ctx, []command.Command{{Kind: command.Time, Value: uint64(now.UnixMilli())}}, nil)
	return err
}
