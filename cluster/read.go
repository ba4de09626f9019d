package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/state"
)

// Part is one shard's part of a read.
type Part struct {
	Shard  cloakroom.ShardID
	Tokens []cloakroom.Token // all of this shard
	Spans  []command.Span    // as many as tokens, filled by the read
	// Err says why the shard did not answer, [cloakroom.ErrUnavailable] if it
	// can't in time; its spans are empty then.
	Err error
}

// Read appends the records of tokens, all of one shard, to dst, one span for
// each in the order asked. It is [Cluster.ReadParts] for one part.
func (c *Cluster) Read(ctx context.Context, shard cloakroom.ShardID, level cloakroom.Level, index cloakroom.Index, tokens []cloakroom.Token, dst *command.Records) error {
	before := len(dst.Spans)
	parts := [1]Part{{Shard: shard, Tokens: tokens, Spans: dst.Extend(len(tokens))}}
	c.ReadParts(ctx, level, index, parts[:], dst)
	if parts[0].Err != nil {
		dst.Spans = dst.Spans[:before]
	}
	return parts[0].Err
}

// ReadParts reads from many shards at once, which lets their cache misses
// overlap. Parts come in ascending order of their shards, each shard once, and
// each succeeds or fails by itself. index, if it is of a part's shard and
// generation, makes that part wait until the write is applied; any other is
// ignored.
//
// While a group has one voter both levels come to the same: what was
// acknowledged is applied here, and nobody else could have acknowledged
// anything.
func (c *Cluster) ReadParts(ctx context.Context, level cloakroom.Level, index cloakroom.Index, parts []Part, dst *command.Records) {
	var shares [cloakroom.MaxShards]state.Share
	n := 0
	for i := range parts {
		p := &parts[i]
		var s *shard
		if s, p.Err = c.readable(ctx, p.Shard, level, index); p.Err != nil {
			continue
		}
		if m, ok := s.machine.(stateMachine); ok {
			shares[n] = state.Share{Machine: m.Machine, Tokens: p.Tokens, Spans: p.Spans}
			n++
		} else {
			s.machine.Read(p.Tokens, p.Spans, dst)
		}
	}
	state.ReadShares(shares[:n], dst)
	for i := range parts {
		// A replica parked meanwhile may have stopped half way through an entry.
		if p := &parts[i]; p.Err == nil && !c.Leads(p.Shard) {
			clear(p.Spans)
			p.Err = fmt.Errorf("read shard %d: lost its leader: %w", p.Shard, cloakroom.ErrUnavailable)
		}
	}
}

// readable returns the shard once it may be read at that level.
func (c *Cluster) readable(ctx context.Context, id cloakroom.ShardID, level cloakroom.Level, index cloakroom.Index) (*shard, error) {
	s, err := c.shard(id)
	if err != nil {
		return nil, err
	}
	if level > cloakroom.Linearizable {
		return nil, fmt.Errorf("read shard %d: unknown level: %w", id, cloakroom.ErrMalformed)
	}
	if index.Shard == s.id && index.Generation == s.generation && index.Index > 0 {
		if err := s.replica.AwaitApplied(ctx, index.Index); err != nil {
			return nil, fmt.Errorf("read shard %d: %w", id, err)
		}
	}
	if !s.replica.Leads() {
		return nil, fmt.Errorf("read shard %d: no leader: %w", id, cloakroom.ErrUnavailable)
	}
	return s, nil
}

// Directory returns the newest view of the directory. It is immutable.
func (c *Cluster) Directory() *directory.View { return c.desk.machine.Load() }
