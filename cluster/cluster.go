// Package cluster is the way from a token to the replica that holds its
// record: it runs this node's replicas of the directory group and the shard
// groups, forms the entries of their logs, reads from their state, and hands
// what is led elsewhere to the node that leads it.
//
// It never sees a value or a key. Records are sealed before they get here, and
// sealing and opening of whole batches come in as funcs. Clock, randomness,
// memory and network come through [Config] too, so that a simulation can hold
// them.
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
	"cloakroom/cluster/bell"
	"cloakroom/cluster/confirm"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wal"
)

// Cluster is this node's part of the cluster.
type Cluster struct {
	cfg  Config
	life string // of this node: new at every start

	views  *views
	desk   *desk                    // the directory group
	scribe *scribe                  // erasures for its ledger
	shards atomic.Pointer[[]*shard] // nil before Start
	ready  atomic.Pointer[[]*shard] // the same; nil before Start has returned
	// reading is held while a replica's state is read, and by whoever takes a
	// member out of its group.
	reading sync.RWMutex

	refounded atomic.Uint64 // shards that began anew, by word of this node

	recalled atomic.Pointer[directory.View] // see known; nil: nothing, or not needed any more
	listedID atomic.Pointer[string]         // replica of the directory that its own view has listed
	keptID   string                         // replica of the directory whose log was on disk; set before anybody asks
	started  atomic.Uint64                  // see boot
	later    atomic.Uint64                  // boot of this node that the cluster was found to know

	net    *network      // nil: alone
	open   chan struct{} // closed once net is complete
	rounds *confirm.Rounds
	pulse  pulse

	spent struct { // identities of replicas that were ever started here
		sync.Mutex
		ids map[string]bool
	}

	claimed atomic.Int64 // record memory that commands on their way may need
	granted atomic.Int64 // all that was ever claimed, released or not
	skewed  atomic.Bool  // clocks disagree in a shard led here
	// expelled: another node said that this one was removed from the cluster.
	expelled atomic.Bool

	errands errands // of other nodes, under way here

	proposals, servings sync.Pool
	reads               readings
	leases              leases
	viewing             viewing

	mu    sync.Mutex // stage; not held while anything is waited for
	stage stage
	busy  sync.WaitGroup // Enter and Start, while they run
	ended chan struct{}  // closed when all is over

	ticks   bell.Bell    // rings once a second
	ticked  atomic.Int64 // how often
	running sync.WaitGroup
	ctx     context.Context // of everything that runs here; over with Close and Kill
	cancel  context.CancelFunc
}

// stage is how far a Cluster's life has come.
type stage uint8

const (
	opened stage = iota
	entering
	starting
	closed
)

// New is [Open] and [Cluster.Enter] in one.
func New(ctx context.Context, cfg Config) (*Cluster, error) {
	c, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := c.Enter(ctx); err != nil {
		c.end(true)
		return nil, err
	}
	return c, nil
}

// Open opens the cluster port, if there is a network, and starts no group yet:
// a node without its keys can be asked who it is, and ask others for them.
func Open(cfg Config) (*Cluster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	alone := forEver
	if cfg.Network != nil {
		alone = 0
	}
	c := &Cluster{cfg: cfg, views: newViews(alone), open: make(chan struct{}), ended: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.pulse.nodes = make(map[string]*vitals)
	c.spent.ids = make(map[string]bool)
	var err error
	if c.life, err = newLife(cfg.Rand); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	c.desk, c.scribe = newDesk(cfg.Generation, c.sealDirectory), newScribe()
	if cfg.Disk != nil {
		network := *cfg.Network
		network.Boot = cfg.Disk.Boot
		c.cfg.Network = &network
	}
	if cfg.Network != nil {
		c.started.Store(c.cfg.Network.Boot)
	}
	if cfg.Network != nil {
		if err := c.openNetwork(); err != nil {
			c.end(true)
			return nil, fmt.Errorf("start cluster: %w", err)
		}
	}
	return c, nil
}

// Enter founds a cluster, or joins the one of its seeds. It starts the
// directory group only, and returns when this node's own view of the directory
// shows the node. The shards start with [Cluster.Start]: sealing keys take
// their numbers from the directory, and shards need sealing keys.
//
// Enter can be called once; after an error only Close helps.
// [cloakroom.ErrConflict] says that a node of this name lives already.
func (c *Cluster) Enter(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx, entering)
	if err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	defer leave()
	if err := c.begin(ctx); err != nil {
		return fmt.Errorf("start cluster: %w", err)
	}
	return nil
}

// begin gets the directory going.
func (c *Cluster) begin(ctx context.Context) error {
	self, kept, err := c.own()
	if err != nil {
		return err
	}
	founder := c.founds()
	m, err := c.startMember(&c.desk.group, self, founder)
	if kept && errors.Is(err, wal.ErrDamaged) {
		m, err = c.startOther(&self, err)
		kept = false
	}
	if err != nil {
		return err
	}
	c.seat(&c.desk.group, m)
	c.running.Go(c.recordErasures) // stopped by end
	switch {
	case founder:
		err = c.found(ctx, m)
	case kept:
		c.keptID = self.ID
		err = c.comeBack(ctx, self)
	default:
		if err = c.join(ctx, self); errors.Is(err, errRolledBack) {
			err = c.beginAnew(ctx, err)
		}
	}
	if err != nil || c.net == nil {
		return err
	}
	c.recalled.Store(nil)                          // the own view knows better
	c.running.Go(func() { c.tend(&c.desk.group) }) // stopped by end
	c.running.Go(c.tick)                           // stopped by end
	c.running.Go(c.renewView)                      // stopped by end
	if c.net.gossip != nil {
		c.running.Go(c.gossip) // stopped by end
	}
	c.running.Go(c.balanceLeads) // stopped by end
	return nil
}

// found writes the first command of a new cluster: who is there.
func (c *Cluster) found(ctx context.Context, m *member) error {
	founded := func(self replica.Identity) directory.GroupInfo {
		return directory.GroupInfo{Generation: c.cfg.Generation, Replicas: []directory.ReplicaInfo{
			{ID: self.ID, Address: self.Addr, Node: c.cfg.Node, Life: c.life, State: directory.Voter}}}
	}
	durable := founded(m.self)
	durable.Replicas[0].Durable = c.cfg.Disk != nil
	shards := make([]directory.ShardInfo, c.cfg.Shards)
	for i := range shards {
		self, err := newIdentity(c.cfg.Rand)
		if err != nil {
			return err
		}
		shards[i] = directory.ShardInfo{ID: cloakroom.ShardID(i), GroupInfo: founded(self)}
	}
	node := directory.NodeInfo{Name: c.cfg.Node, Life: c.life}
	if c.net != nil {
		var err error
		if node, err = c.cfg.Network.self(node, c.net.Addr()); err != nil {
			return err
		}
	}
	if err := m.replica.AwaitLead(ctx); err != nil {
		return err
	}
	if term, ok := m.replica.Lead(); ok {
		m.table.Found(term) // it is the one voter: nobody else ever led
	}
	result, err := c.ProposeDirectory(ctx, &directory.Command{Init: &directory.Init{
		ClusterID: c.cfg.ClusterID, Settings: c.cfg.Settings,
		Nodes: []directory.NodeInfo{node}, Directory: durable, Shards: shards}})
	if err != nil {
		return err
	}
	return result.Err()
}

// newIdentity makes up a name and a virtual address that nobody had before.
func newIdentity(rand io.Reader) (replica.Identity, error) {
	name, err := draw(rand)
	if err != nil {
		return replica.Identity{}, fmt.Errorf("make replica identity: %w", err)
	}
	return replica.Identity{ID: "r-" + name, Addr: "at-" + name}, nil
}

// newLife makes up what tells this start of the node from all others.
func newLife(rand io.Reader) (string, error) {
	life, err := draw(rand)
	if err != nil {
		return "", fmt.Errorf("draw life of node: %w", err)
	}
	return life, nil
}

// draw returns 32 random hex digits.
func draw(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// Start starts the shard groups. A founder starts all of them at once and
// returns when it leads each and each knows the time. A joiner returns when
// every shard has a leader that answers it; its own replicas come up meanwhile
// ([Cluster.Status] tells when). Start can be called once; after an error only
// Close helps.
func (c *Cluster) Start(ctx context.Context) error {
	ctx, leave, err := c.enter(ctx, starting)
	if err != nil {
		return fmt.Errorf("start shards: %w", err)
	}
	defer leave()
	view := c.Directory()
	shards := make([]*shard, len(view.Shards))
	for i := range shards {
		shards[i] = newShard(&c.cfg, cloakroom.ShardID(i), view.Shards[i].Generation)
	}
	founder := c.founds()
	if founder {
		if err := c.startFounded(ctx, view, shards); err != nil {
			c.endShards(shards)
			return fmt.Errorf("start shards: %w", err)
		}
	}
	c.shards.Store(&shards) // other nodes are answered from now on
	if c.net == nil {
		c.running.Go(c.tick) // stopped by end
	} else {
		for _, s := range shards {
			c.running.Go(func() { c.tend(&s.group) }) // stopped by end
		}
		c.running.Go(c.renewLeases) // stopped by end
	}
	if !founder {
		if err := c.reachAll(ctx, shards); err != nil {
			return fmt.Errorf("start shards: %w", err)
		}
	}
	if err := c.awaitView(ctx); err != nil {
		return fmt.Errorf("start shards: %w", err)
	}
	c.ready.Store(&shards)
	return nil
}

// errStage says that a stage of a Cluster's life was reached before.
var errStage = errors.New("started before, or closed")

// enter takes the life of c to the next stage. The context it returns ends
// with c too; leave must be called when the work of the stage is done.
func (c *Cluster) enter(ctx context.Context, next stage) (_ context.Context, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage != next-1 {
		return nil, nil, errStage
	}
	c.stage = next
	c.busy.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(c.ctx, cancel)
	return ctx, func() {
		release()
		cancel()
		c.busy.Done()
	}, nil
}

// shut takes the life of c to its end. It returns false if that was reached
// before.
func (c *Cluster) shut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.stage != closed
	c.stage = closed
	return first
}

// startFounded starts the founder's replicas, all at once.
func (c *Cluster) startFounded(ctx context.Context, view *directory.View, shards []*shard) error {
	faults := make([]error, len(shards))
	var wg sync.WaitGroup
	for i, s := range shards {
		r := view.Shards[i].Replicas[0] // the founder's own: nobody was placed before
		wg.Go(func() { faults[i] = c.startShard(ctx, s, replica.Identity{ID: r.ID, Addr: r.Address}) })
	}
	wg.Wait()
	return errors.Join(faults...)
}

// startShard brings one founded shard to where it answers.
func (c *Cluster) startShard(ctx context.Context, s *shard, self replica.Identity) error {
	m, err := c.startMember(&s.group, self, true)
	if err != nil {
		return err
	}
	c.seat(&s.group, m)
	if err := m.replica.AwaitLead(ctx); err != nil {
		return err
	}
	if term, ok := m.replica.Lead(); ok {
		m.table.Found(term) // it is the one voter: nobody else ever led
	}
	return c.setTime(ctx, s, c.cfg.Clock.Now())
}

// Close refuses new work, finishes what is queued, and stops every group. It
// leaves no goroutine and no log memory behind.
func (c *Cluster) Close() error { return c.end(false) }

// Kill ends the node like a crash: every connection is cut first, nobody is
// told, and what is queued gets no answer that says it was done. It leaves no
// goroutine and no memory behind either.
func (c *Cluster) Kill() error { return c.end(true) }

func (c *Cluster) end(crash bool) error {
	if crash && c.net != nil {
		c.net.Cut()
	}
	c.cancel()
	if !c.shut() {
		<-c.ended
		return nil
	}
	defer close(c.ended)
	c.busy.Wait()
	c.running.Wait()
	var shards []*shard
	if table := c.shards.Load(); table != nil {
		shards = *table
	}
	if crash {
		for _, s := range shards {
			s.queue.refuse(errClosing)
		}
	}
	drain(shards)
	c.desk.close() // after the shards: sealing a batch may ask it for a number
	if c.net != nil && !crash {
		c.handOver(shards)
		c.quieten()
	}
	if c.net != nil {
		c.rounds.Close()
		c.net.Close()
	}
	c.endShards(shards)
	c.retire(&c.desk.group)
	return nil
}

// drain lets shards finish what is queued, all at once.
func drain(shards []*shard) {
	var wg sync.WaitGroup
	for _, s := range shards {
		wg.Go(s.drain)
	}
	wg.Wait()
}

// endShards drains shards and ends their replicas, all at once.
func (c *Cluster) endShards(shards []*shard) {
	drain(shards)
	var wg sync.WaitGroup
	for _, s := range shards {
		wg.Go(func() { c.retire(&s.group) })
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

// Leads reports whether a replica of this node leads the shard, so that
// background work on it (wiping what expired) is this node's to do.
func (c *Cluster) Leads(id cloakroom.ShardID) bool {
	s, err := c.shard(id)
	if err != nil {
		return false
	}
	m, _ := s.lead()
	return m != nil
}
