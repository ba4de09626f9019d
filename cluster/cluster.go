// Package cluster is the way from a token to the replica that holds its
// record: it runs the directory group and the shard groups of this process,
// forms the entries of their logs, and reads from their state.
//
// It never sees a value or a key. Records are sealed before they get here, and
// sealing and opening of whole batches come in as funcs. Clock, randomness and
// memory come through [Config] too, so that a simulation can hold them.
//
// A Cluster is safe for concurrent use.
package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// Cluster is this process's part of the cluster: for now all of it.
type Cluster struct {
	cfg   Config
	desk  *desk              // the directory group
	cards []replica.Identity // of the shards' replicas

	claimed atomic.Int64 // record memory that commands on their way may need

	mu     sync.Mutex
	stage  stage
	ready  atomic.Pointer[[]*shard] // nil before Start has returned
	ticker sync.WaitGroup
	stop   chan struct{} // stops tick
}

// stage is how far a Cluster's life has come.
type stage uint8

const (
	made stage = iota
	starting
	started
	closed
)

// New starts the directory group and writes its first command. The shards
// start with [Cluster.Start]: sealing keys take their numbers from the
// directory, and shards need sealing keys.
func New(ctx context.Context, cfg Config) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, stop: make(chan struct{})}
	ids := make([]replica.Identity, cfg.Shards+1)
	for i := range ids {
		id, err := newIdentity(cfg.Rand)
		if err != nil {
			return nil, fmt.Errorf("start cluster: %w", err)
		}
		ids[i] = id
	}
	c.cards = ids[1:]
	var err error
	if c.desk, err = openDesk(&c.cfg, ids[0]); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	if err := c.initialise(ctx); err != nil {
		c.desk.close()
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	return c, nil
}

// newIdentity makes up a name and a virtual address that nobody had before.
func newIdentity(rand io.Reader) (replica.Identity, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return replica.Identity{}, fmt.Errorf("make replica identity: %w", err)
	}
	name := hex.EncodeToString(b[:])
	return replica.Identity{ID: "r-" + name, Addr: "at-" + name}, nil
}

// newLife makes up what tells this start of the node from all others.
func newLife(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("draw life of node: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// initialise tells the directory who is there.
func (c *Cluster) initialise(ctx context.Context) error {
	life, err := newLife(c.cfg.Rand)
	if err != nil {
		return err
	}
	founded := func(self replica.Identity) directory.GroupInfo {
		return directory.GroupInfo{Generation: c.cfg.Generation, Replicas: []directory.ReplicaInfo{
			{ID: self.ID, Address: self.Addr, Node: c.cfg.Node, Life: life, State: directory.Voter}}}
	}
	shards := make([]directory.ShardInfo, c.cfg.Shards)
	for i := range shards {
		shards[i] = directory.ShardInfo{ID: cloakroom.ShardID(i), GroupInfo: founded(c.cards[i])}
	}
	if err := c.desk.replica.AwaitLead(ctx); err != nil {
		return err
	}
	result, err := c.desk.propose(ctx, &directory.Command{Init: &directory.Init{
		ClusterID: c.cfg.ClusterID, Settings: c.cfg.Settings,
		Nodes:     []directory.NodeInfo{{Name: c.cfg.Node, Life: life}},
		Directory: founded(c.desk.self), Shards: shards}})
	if err != nil {
		return err
	}
	return result.Err()
}

// Start starts all shard groups at once and returns when each has a leader
// and knows the time. It can be called once; after an error only Close helps.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage != made {
		return errors.New("start shards: started before, or closed")
	}
	c.stage = starting
	shards := make([]*shard, c.cfg.Shards)
	faults := make([]error, c.cfg.Shards)
	var wg sync.WaitGroup
	for i := range shards {
		wg.Go(func() { shards[i], faults[i] = c.startShard(ctx, cloakroom.ShardID(i)) })
	}
	wg.Wait()
	if err := errors.Join(faults...); err != nil {
		closeShards(shards)
		return fmt.Errorf("start shards: %w", err)
	}
	c.ready.Store(&shards)
	c.stage = started
	c.ticker.Go(c.tick) // stopped by Close
	return nil
}

// startShard brings one shard to where it answers.
func (c *Cluster) startShard(ctx context.Context, id cloakroom.ShardID) (*shard, error) {
	s, err := openShard(&c.cfg, id, c.cards[id])
	if err != nil {
		return nil, err
	}
	err = s.replica.AwaitLead(ctx)
	if err == nil {
		err = s.setTime(ctx, c.cfg.Clock.Now())
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Close refuses new work, finishes what is queued, and stops every group. It
// leaves no goroutine and no log memory behind.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == closed {
		return nil
	}
	c.stage = closed
	close(c.stop)
	c.ticker.Wait()
	if shards := c.ready.Load(); shards != nil {
		closeShards(*shards)
	}
	c.desk.close() // last: sealing a batch may ask it for a number
	return nil
}

// closeShards closes those that are there, all at once.
func closeShards(shards []*shard) {
	var wg sync.WaitGroup
	for _, s := range shards {
		if s != nil {
			wg.Go(s.close)
		}
	}
	wg.Wait()
}

// shard returns the group of a shard, if it answers.
func (c *Cluster) shard(id cloakroom.ShardID) (*shard, error) {
	shards := c.ready.Load()
	if shards == nil {
		return nil, cloakroom.ErrStarting
	}
	if int(id) >= len(*shards) {
		return nil, fmt.Errorf("no shard %d: %w", id, cloakroom.ErrMalformed)
	}
	return (*shards)[id], nil
}

// ShardOf returns the shard that owns slot.
func (c *Cluster) ShardOf(slot cloakroom.Slot) cloakroom.ShardID {
	return c.desk.machine.Load().ShardOf(slot)
}

// Leads reports whether a replica of this process leads the shard, so that
// background work on it (wiping what expired) is this process's to do.
func (c *Cluster) Leads(id cloakroom.ShardID) bool {
	s, err := c.shard(id)
	return err == nil && s.replica.Leads()
}
