package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Failover lets the node die that leads most shards, as in a crash, and
// returns how long it took each shard it led until a deposit was acknowledged
// again. Then the node comes back as a new life and Failover waits until the
// cluster tolerates the next loss.
func (b *Bench) Failover(ctx context.Context) ([]time.Duration, error) {
	at, led := b.busiest()
	if len(led) == 0 {
		return nil, errors.New("replicas: no node leads anything")
	}
	dead := b.nodes[at]
	b.nodes = slices.Delete(b.nodes, at, at+1)
	survivor := b.nodes[0]
	waits, faults := make([]time.Duration, len(led)), make([]error, len(led))
	start := time.Now()
	var all sync.WaitGroup
	all.Go(func() { _ = dead.cluster.Kill() })
	for i, shard := range led {
		all.Go(func() {
			faults[i] = b.depositUntil(ctx, survivor, shard)
			waits[i] = time.Since(start)
		})
	}
	all.Wait()
	dead.cluster = nil
	faults = append(faults, dead.close())
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if err := b.startNode(ctx, dead.name); err != nil {
		return nil, err
	}
	return waits, b.awaitTolerance(ctx)
}

// busiest returns the node that leads most shards, and those.
func (b *Bench) busiest() (at int, led []cloakroom.ShardID) {
	for i, n := range b.nodes {
		var mine []cloakroom.ShardID
		for shard := range cloakroom.ShardID(b.cfg.Shards) {
			if n.cluster.Leads(shard) {
				mine = append(mine, shard)
			}
		}
		if len(mine) > len(led) {
			at, led = i, mine
		}
	}
	return at, led
}

// depositUntil deposits one subject until that is acknowledged.
func (b *Bench) depositUntil(ctx context.Context, n *node, shard cloakroom.ShardID) error {
	c := []command.Command{{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Record: make([]byte, b.cfg.RecordBytes)}}}}
	draw(&c[0])
	for {
		err := n.deposit(ctx, shard, c)
		if err == nil {
			return nil
		}
		draw(&c[0]) // or it could be there already
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || ctx.Err() != nil {
			return fmt.Errorf("replicas: deposit after a death: %w", err)
		}
	}
}
