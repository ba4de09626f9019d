package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
)

// Erase deposits subjects and erases them one after the other through a node
// that leads nothing, and returns how long each erasure took until it could be
// acknowledged: committed, in the ledger, and settled.
func (b *Bench) Erase(ctx context.Context, times int) ([]time.Duration, error) {
	at := b.nodes[len(b.nodes)-1]
	waits := make([]time.Duration, times)
	for i := range waits {
		var err error
		if waits[i], err = b.eraseOne(ctx, at, cloakroom.ShardID(i%b.cfg.Shards)); err != nil {
			return nil, err
		}
	}
	return waits, nil
}

// EraseWhileOneStands does the same, through the leader, just after another
// node was stopped in the middle of everything, and lets that node go on each
// time.
func (b *Bench) EraseWhileOneStands(ctx context.Context, times int) ([]time.Duration, error) {
	waits := make([]time.Duration, times)
	for i := range waits {
		at, led := b.busiest()
		if len(led) == 0 {
			return nil, errors.New("replicas: no node leads anything")
		}
		other := b.nodes[(at+1)%len(b.nodes)]
		if err := other.awaitLeases(ctx, b.cfg.Shards); err != nil {
			return nil, err
		}
		other.gate.shut()
		var err error
		waits[i], err = b.eraseOne(ctx, b.nodes[at], led[i%len(led)])
		other.gate.reopen()
		if err := errors.Join(err, b.awaitTolerance(ctx)); err != nil {
			return nil, err
		}
	}
	return waits, nil
}

// awaitLeases waits until a node holds a lease of every shard, since one that
// has none holds up no erasure.
func (n *node) awaitLeases(ctx context.Context, shards int) error {
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for {
		held := 0
		for _, s := range n.cluster.Status().Shards {
			if s.Lease.Valid > 0 {
				held++
			}
		}
		if held == shards {
			return nil
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return fmt.Errorf("replicas: %s holds %d leases: %w", n.name, held, ctx.Err())
		}
	}
}

// eraseOne deposits a subject and times its erasure.
func (b *Bench) eraseOne(ctx context.Context, n *node, shard cloakroom.ShardID) (time.Duration, error) {
	c := []command.Command{{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Record: make([]byte, b.cfg.RecordBytes)}}}}
	draw(&c[0])
	if err := n.deposit(ctx, shard, c); err != nil {
		return 0, fmt.Errorf("replicas: deposit: %w", err)
	}
	c[0].Kind, c[0].Fields[0].Record = command.Erase, nil
	start := time.Now()
	results, index, err := n.cluster.Propose(ctx, shard, c)
	if err == nil && results[0].Code != command.Erased {
		err = fmt.Errorf("the shard answered %s", results[0].Code)
	}
	if err != nil {
		return 0, fmt.Errorf("replicas: erase: %w", err)
	}
	var ledger error
	var both sync.WaitGroup
	both.Go(func() {
		ledger = n.cluster.RecordErasure(ctx, directory.Erasure{Subject: c[0].Subject, Shard: shard,
			Generation: index.Generation, Index: index.Index, At: time.Now().UnixMilli()})
	})
	err = n.cluster.Settle(ctx, index)
	both.Wait()
	if err := errors.Join(err, ledger); err != nil {
		return 0, fmt.Errorf("replicas: settle: %w", err)
	}
	return time.Since(start), nil
}

// ReadThroughADeath reads at the survivors, one shard after the other under a
// lease, while the node dies that leads most shards. It returns how many reads
// there were and the time of the slowest. Then the node comes back.
func (b *Bench) ReadThroughADeath(ctx context.Context) (reads int, slowest time.Duration, err error) {
	at, led := b.busiest()
	if len(led) == 0 {
		return 0, 0, errors.New("replicas: no node leads anything")
	}
	dead := b.nodes[at]
	b.nodes = slices.Delete(b.nodes, at, at+1)
	for _, n := range b.nodes {
		if err := n.awaitLeases(ctx, b.cfg.Shards); err != nil {
			return 0, 0, err
		}
	}
	var over atomic.Bool
	results := make([]reader, len(b.nodes))
	var readers sync.WaitGroup
	for i, n := range b.nodes {
		readers.Go(func() { results[i].run(ctx, n, b.cfg.Shards, &over) }) // ends with over
	}
	faults := []error{dead.cluster.Kill()}
	for _, shard := range led {
		faults = append(faults, b.depositUntil(ctx, b.nodes[0], shard))
	}
	over.Store(true)
	readers.Wait()
	dead.cluster = nil
	faults = append(faults, dead.close())
	for _, r := range results {
		reads, slowest = reads+r.reads, max(slowest, r.slowest)
		faults = append(faults, r.err)
	}
	faults = append(faults, b.startNode(ctx, dead.name))
	if err := errors.Join(faults...); err != nil {
		return 0, 0, err
	}
	return reads, slowest, b.awaitTolerance(ctx)
}

// reader reads again and again and remembers the slowest.
type reader struct {
	reads   int
	slowest time.Duration
	err     error
}

// readPause spaces reads out: the machine has an election to do meanwhile.
const readPause = time.Millisecond

func (r *reader) run(ctx context.Context, n *node, shards int, over *atomic.Bool) {
	var records command.Records
	tokens := make([]cloakroom.Token, 8)
	pause := time.NewTicker(readPause)
	defer pause.Stop()
	for shard := 0; !over.Load() && r.err == nil; shard = (shard + 1) % shards {
		records.Reset()
		start := time.Now()
		r.err = n.cluster.Read(ctx, cloakroom.ShardID(shard), cloakroom.Lease, cloakroom.Index{}, tokens, &records)
		r.slowest = max(r.slowest, time.Since(start))
		r.reads++
		<-pause.C
	}
}
