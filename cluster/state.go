package cluster

import (
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/state"
)

// StateConfig says what the state of one shard is made of.
type StateConfig = state.Config

// StateMachine makes the state of one shard, for [Config.Machine]. The slab is
// closed with it.
func StateMachine(cfg StateConfig) (Machine, error) {
	m, err := state.New(cfg)
	if err != nil {
		if cfg.Slab != nil {
			cfg.Slab.Close()
		}
		return nil, err
	}
	return stateMachine{m, cfg.Slab.Close}, nil
}

// stateMachine fits the shard machine to what a shard drives.
type stateMachine struct {
	*state.Machine
	free func() // gives the memory back
}

// Close implements [io.Closer]. Nobody uses the machine or a view any more.
func (m stateMachine) Close() error {
	m.free()
	return nil
}

// Snapshot implements [Machine]. A nil *state.View must not become a View.
func (m stateMachine) Snapshot() (replica.View, error) {
	view, err := m.Machine.Snapshot()
	if err != nil {
		return nil, err
	}
	return view, nil
}

// Read implements [Machine].
func (m stateMachine) Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records) {
	share := [1]state.Share{{Machine: m.Machine, Tokens: tokens, Spans: spans}}
	state.ReadShares(share[:], dst, 0)
}

// Count returns how many subjects live in the shard, how many marks of erased
// ones it keeps, and how many records these and all fields take.
func (m stateMachine) Count() (subjects, erased, records int) {
	stats := m.Stats()
	return stats.Subjects, stats.Erased, stats.Records
}

// sweeping is what a machine must be able to do for [Cluster.Expired].
type sweeping interface {
	Time() uint64
	Expired(after cloakroom.Token, now uint32, limit int, dst []cloakroom.Token) []cloakroom.Token
	Living(after cloakroom.Token, limit int, dst []cloakroom.Token) []cloakroom.Token
}

// Expired returns, in token order, the subject tokens of at most limit
// subjects after the given one whose expiry is at or before the given time, in
// unix seconds by shard time. This node leads the shard.
func (c *Cluster) Expired(shard cloakroom.ShardID, after cloakroom.Token, before uint32, limit int) (tokens []cloakroom.Token, err error) {
	err = c.sweep(shard, func(m sweeping) { tokens = m.Expired(after, before, limit, nil) })
	return tokens, err
}

// Living returns, in token order, the subject tokens of at most limit living
// subjects after the given one. This node leads the shard.
func (c *Cluster) Living(shard cloakroom.ShardID, after cloakroom.Token, limit int) (tokens []cloakroom.Token, err error) {
	err = c.sweep(shard, func(m sweeping) { tokens = m.Living(after, limit, nil) })
	return tokens, err
}

// sweep hands look the machine of a shard that this node leads.
func (c *Cluster) sweep(shard cloakroom.ShardID, look func(sweeping)) error {
	s, err := c.shard(shard)
	if err != nil {
		return err
	}
	c.reading.RLock()
	defer c.reading.RUnlock()
	member, _ := s.lead()
	if member == nil {
		return fmt.Errorf("sweep shard %d: %w", shard, errMoved)
	}
	m, ok := member.machine.(sweeping)
	if !ok {
		return fmt.Errorf("sweep shard %d: its machine knows no expiry", shard)
	}
	look(m)
	return nil
}

// ShardTime returns how late it is in a shard, in unix milliseconds, as far as
// the replica here has heard; 0 if there is none.
func (c *Cluster) ShardTime(shard cloakroom.ShardID) uint64 {
	s, err := c.shard(shard)
	if err != nil {
		return 0
	}
	c.reading.RLock()
	defer c.reading.RUnlock()
	if member := s.member.Load(); member != nil {
		if m, ok := member.machine.(sweeping); ok {
			return m.Time()
		}
	}
	return 0
}
