package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/wire"
)

// Propose has shard carry out commands and returns one result for each, in
// order, once they are applied, together with the index a read can wait for.
// Each command is applied whole or not at all, by itself. The shard's leader
// may be on any node; while there is none, Propose waits for one.
//
// [cloakroom.ErrOverloaded], [cloakroom.ErrMemoryFull], [cloakroom.ErrStarting]
// and [cloakroom.ErrUnavailable] mean that nothing was done;
// [cloakroom.ErrOutcomeUnknown] that some or all of it may have been, or may
// yet be. When ctx ends first it is ErrUnavailable if there was no leader,
// ErrOverloaded if the commands were still waiting for their turn, and
// ErrOutcomeUnknown if they were on their way.
func (c *Cluster) Propose(ctx context.Context, shard cloakroom.ShardID, commands []command.Command) ([]command.Result, cloakroom.Index, error) {
	s, err := c.shard(shard)
	if err != nil {
		return nil, cloakroom.Index{}, err
	}
	if len(commands) == 0 {
		return nil, cloakroom.Index{}, nil
	}
	p := c.newProposal(commands)
	defer c.recycle(p)
	if err := c.carry(ctx, &s.group, &proposing{c, s, p}); err != nil {
		return nil, cloakroom.Index{}, fmt.Errorf("propose to shard %d: %w", shard, err)
	}
	return p.results, s.index(p.index), nil
}

// proposing is the errand of Propose.
type proposing struct {
	c *Cluster
	s *shard
	p *proposal
}

func (e *proposing) here(ctx context.Context) error { return e.c.proposeHere(ctx, e.s, e.p) }

func (e *proposing) there(ctx context.Context, node string) (string, error) {
	return e.c.proposeThere(ctx, node, e.s, e.p)
}

// proposeHere claims memory for p and proposes it to the local replica.
func (c *Cluster) proposeHere(ctx context.Context, s *shard, p *proposal) (err error) {
	p.renew()
	if p.claim, err = c.claim(s, p.growth()); err != nil {
		return err
	}
	return s.propose(ctx, p)
}

// propose queues p and waits for its results. The claim of p is released
// here, or left to the writer.
func (s *shard) propose(ctx context.Context, p *proposal) error {
	if err := ctx.Err(); err != nil {
		p.claim.release()
		return fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, err)
	}
	if err := s.queue.push(p); err != nil {
		p.claim.release()
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
	}
	if s.queue.withdraw(p) {
		p.claim.release()
		return fmt.Errorf("%w: not proposed in time: %w", cloakroom.ErrOverloaded, ctx.Err())
	}
	p.left = true // the writer still has it
	return fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, ctx.Err())
}

// maxForward bounds the items of one call, in bytes: a larger message would
// hold up all others on the same connection.
const maxForward = 2 << 20

// proposeThere sends p to a node that may lead its shard, in as many calls as
// it takes.
func (c *Cluster) proposeThere(ctx context.Context, node string, s *shard, p *proposal) (hint string, err error) {
	p.renew()
	for from := 0; from < len(p.ends); {
		to := from + 1
		for to < len(p.ends) && to-from < wire.MaxItems && p.ends[to]-p.start(from) <= maxForward {
			to++
		}
		if hint, err = c.forward(ctx, node, s, p, from, to); err != nil {
			if from > 0 {
				err = fmt.Errorf("%w: applied in part: %w", cloakroom.ErrOutcomeUnknown, hide(err))
			}
			return hint, err
		}
		from = to
	}
	return "", nil
}

// forward sends the items of p from one to before another.
func (c *Cluster) forward(ctx context.Context, node string, s *shard, p *proposal, from, to int) (hint string, err error) {
	req := wire.ProposeRequest{Group: uint32(s.id), Generation: s.generation.Load(),
		Count: to - from, Items: p.items[p.start(from):p.ends[to-1]]}
	var reply wire.ProposeReply
	if from == 0 && to == len(p.ends) {
		reply.Results = p.results // room for all
	}
	if err := c.net.ask(ctx, node, wire.Propose, req.Append(nil), &reply); err != nil {
		return "", elsewhere(err)
	}
	if reply.Code != wire.OK {
		return c.nodeOf(reply.Hint), elsewhere(reply.Code.Err())
	}
	if len(reply.Results) != to-from {
		return "", fmt.Errorf("%s answered %d of %d commands: %w", node, len(reply.Results), to-from, cloakroom.ErrOutcomeUnknown)
	}
	p.index = reply.Index
	if from == 0 {
		p.results = reply.Results
	} else {
		p.results = append(p.results, reply.Results...)
	}
	return "", nil
}
