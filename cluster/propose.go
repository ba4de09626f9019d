package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
)

// memoryReserve is the share of record memory, one in so many bytes, below
// which deposits are refused, so that erasures always find room.
const memoryReserve = 10

// Propose has shard carry out commands and returns one result for each, in
// order, once they are applied, together with the index a read can wait for.
// Each command is applied whole or not at all, by itself.
//
// [cloakroom.ErrOverloaded], [cloakroom.ErrMemoryFull], [cloakroom.ErrStarting]
// and [cloakroom.ErrUnavailable] mean that nothing was done;
// [cloakroom.ErrOutcomeUnknown] that some or all of it may have been, or may
// yet be. When ctx ends first it is ErrOverloaded if the commands were still
// waiting, ErrOutcomeUnknown if they were on their way.
func (c *Cluster) Propose(ctx context.Context, shard cloakroom.ShardID, commands []command.Command) ([]command.Result, cloakroom.Index, error) {
	s, err := c.shard(shard)
	if err != nil {
		return nil, cloakroom.Index{}, err
	}
	if len(commands) == 0 {
		return nil, cloakroom.Index{}, nil
	}
	if needsMemory(commands) {
		if free, limit := c.cfg.RecordMemory(); free < limit/memoryReserve {
			return nil, cloakroom.Index{}, cloakroom.ErrMemoryFull
		}
	}
	results, index, err := s.propose(ctx, commands)
	if err != nil {
		return nil, cloakroom.Index{}, fmt.Errorf("propose to shard %d: %w", shard, err)
	}
	return results, s.index(index), nil
}

// needsMemory reports whether a command may make a shard grow.
func needsMemory(commands []command.Command) bool {
	for i := range commands {
		switch commands[i].Kind {
		case command.Put, command.Merge, command.Bind:
			return true
		}
	}
	return false
}

// propose queues commands and waits for their results.
func (s *shard) propose(ctx context.Context, commands []command.Command) ([]command.Result, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, err)
	}
	p := newProposal(commands)
	if err := s.queue.push(p); err != nil {
		p.recycle()
		return nil, 0, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if s.queue.withdraw(p) {
			p.recycle()
			return nil, 0, fmt.Errorf("%w: not proposed in time: %w", cloakroom.ErrOverloaded, ctx.Err())
		}
		// The writer still has p; it is left to it.
		return nil, 0, fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, ctx.Err())
	}
	results, index, err := p.results, p.index, p.err
	p.recycle()
	return results, index, err
}
