package cluster

import (
	"context"
	"errors"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Settle is the barrier of an erasure: it returns nil once no replica answers
// a read that starts later from a state before at, which is the index that
// [Cluster.Propose] returned for the write.
//
// [cloakroom.ErrOutcomeUnknown] says that ctx ended first: some replica may
// still answer from before. Calling it again is always right.
// [cloakroom.ErrMalformed] is for an index that is none of this shard.
func (c *Cluster) Settle(ctx context.Context, at cloakroom.Index) error {
	s, err := c.shard(at.Shard)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if at.Index == 0 || at.Generation != s.generation {
		return fmt.Errorf("settle shard %d: no index of this generation: %w", at.Shard, cloakroom.ErrMalformed)
	}
	if c.net == nil {
		return nil // the one replica has applied what it acknowledged
	}
	err = c.Read(ctx, at.Shard, cloakroom.Linearizable, at, nil, &command.Records{})
	if errors.Is(err, cloakroom.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, err)
	}
	if err != nil {
		return fmt.Errorf("settle shard %d: %w", at.Shard, err)
	}
	return nil
}
