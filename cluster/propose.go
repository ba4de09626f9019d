package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
)

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
	claim, err := c.claim(commands)
	if err != nil {
		return nil, cloakroom.Index{}, err
	}
	results, index, err := s.propose(ctx, commands, claim)
	if err != nil {
		return nil, cloakroom.Index{}, fmt.Errorf("propose to shard %d: %w", shard, err)
	}
	return results, s.index(index), nil
}

// propose queues commands and waits for their results. It releases claim, or
// leaves that to the writer.
func (s *shard) propose(ctx context.Context, commands []command.Command, claim *claim) ([]command.Result, uint64, error) {
	if err := ctx.Err(); err != nil {
		claim.release()
		return nil, 0, fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, err)
	}
	p := newProposal(commands)
	p.claim = claim
	if err := s.queue.push(p); err != nil {
		claim.release()
		p.recycle()
		return nil, 0, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if s.queue.withdraw(p) {
			claim.release()
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
