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
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// Machine is the state of one shard. One that is an [io.Closer] is closed once
// its replica has stopped and nobody reads from it any more.
type Machine interface {
	// Apply carries out an opened batch and appends one result per item.
	Apply(index uint64, batch []byte, results []command.Result) ([]command.Result, error)
	// Read fills one span per token; it may run beside Apply.
	Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records)
	Snapshot() (replica.View, error)
	Restore(r io.Reader) error
}

// shard is one data shard: its group, and the queue and the writer that serve
// it while this node leads it.
type shard struct {
	group
	cfg    *Config
	shard  cloakroom.ShardID
	queue  *queue
	writer sync.WaitGroup

	told    atomic.Int64 // newest shard time proposed, unix milliseconds
	telling atomic.Bool  // a time command is on its way
	pace    pace         // of the times told

	lanes lanes // of barriers that wait, while this node leads it
}

// newShard makes a shard without a replica and starts its writer.
func newShard(cfg *Config, id cloakroom.ShardID, generation uint32) *shard {
	s := &shard{cfg: cfg, shard: id, queue: newQueue(cfg.QueueBytes)}
	s.id = directory.ShardGroup(id)
	s.generation.Store(generation)
	s.writer.Go(s.write) // stopped by drain
	return s
}

// drain finishes what is queued and lets nothing more in.
func (s *shard) drain() {
	s.queue.close()
	s.writer.Wait()
}

// sealedMachine opens entries before its machine sees them.
type sealedMachine struct {
	Machine
	open              func(dst []byte, group, generation uint32, sealed []byte) ([]byte, error)
	group, generation uint32
	batch             []byte         // reused; Apply has one caller at a time
	told              uint64         // index of the last time; 0: none since the state was taken over
	written           *atomic.Uint64 // see member.written
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
	if tellsTime(batch) {
		// A time counts when the next one has come: one that stopped would
		// leave what has expired visible.
		index, m.told = m.told, index
	}
	if index > m.written.Load() {
		m.written.Store(index)
	}
	return results, nil
}

// Restore implements replica.Machine. What the state was written by last is
// not known then.
func (m *sealedMachine) Restore(r io.Reader) error {
	m.told = 0
	m.written.Store(0)
	return m.Machine.Restore(r)
}

// tellsTime reports whether a batch is one time command and nothing else.
func tellsTime(batch []byte) bool {
	frame, err := command.OpenBatch(batch)
	if err != nil || frame.Len() != 1 {
		return false
	}
	item, _ := frame.Next()
	return command.KindOf(item) == command.Time
}

// index returns where the entry at i stands in the shard's history.
func (s *shard) index(i uint64) cloakroom.Index {
	return cloakroom.Index{Shard: s.shard, Generation: s.generation.Load(), Index: i}
}

// setTime moves shard time to now and waits for it. This node leads.
func (c *Cluster) setTime(ctx context.Context, s *shard, now time.Time) error {
	s.told.Store(now.UnixMilli())
	s.pace.note(now, now)
	p := c.newProposal([]command.Command{{Kind: command.Time, Value: uint64(now.UnixMilli())}})
	defer c.recycle(p)
	return s.propose(ctx, p)
}
