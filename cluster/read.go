package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
)

// Read appends the records of tokens, all of one shard, to dst, one span for
// each in the order asked. index, if it is of this shard and generation, makes
// it wait until that write is applied; any other is ignored.
//
// While a group has one voter both levels come to the same: what was
// acknowledged is applied here, and nobody else could have acknowledged
// anything. [cloakroom.ErrUnavailable] means that the shard can't answer in
// time.
func (c *Cluster) Read(ctx context.Context, shard cloakroom.ShardID, level cloakroom.Level, index cloakroom.Index, tokens []cloakroom.Token, dst *command.Records) error {
	s, err := c.shard(shard)
	if err != nil {
		return err
	}
	if level > cloakroom.Linearizable {
		return fmt.Errorf("read shard %d: unknown level: %w", shard, cloakroom.ErrMalformed)
	}
	if index.Shard == s.id && index.Generation == s.generation && index.Index > 0 {
		if err := s.replica.AwaitApplied(ctx, index.Index); err != nil {
			return fmt.Errorf("read shard %d: %w", shard, err)
		}
	}
	if !s.replica.Leads() {
		return fmt.Errorf("read shard %d: no leader: %w", shard, cloakroom.ErrUnavailable)
	}
	records, spans := len(dst.Buf), len(dst.Spans)
	s.machine.Read(tokens, dst)
	// A replica parked meanwhile may have stopped half way through an entry.
	if !s.replica.Leads() {
		dst.Buf, dst.Spans = dst.Buf[:records], dst.Spans[:spans]
		return fmt.Errorf("read shard %d: lost its leader: %w", shard, cloakroom.ErrUnavailable)
	}
	return nil
}

// Directory returns the newest view of the directory. It is immutable.
func (c *Cluster) Directory() *directory.View { return c.desk.machine.Load() }
