package cluster

import (
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Deposits leave a part of record memory alone, so that erasures always find
// room, and so that what was let in can be stored: records of another size
// than before take a piece of memory of their own in each shard, of which they
// fill only a part.
const (
	memoryReserve = 10      // one byte in so many, at least
	shardSlack    = 2 << 20 // for each shard: one such piece for each size of record
)

// reserve returns how much of record memory deposits leave alone. A memory too
// small for the slack of all shards keeps half of it.
func (c *Cluster) reserve(limit int64) int64 {
	return max(limit/memoryReserve, min(limit/2, int64(c.cfg.Shards)*shardSlack))
}

// claim is record memory that commands on their way may need. The memory
// itself shows them only once they are applied, and many can be on their way.
type claim struct {
	total *atomic.Int64 // of all claims
	bytes int64
}

// release gives a claim up. There is none to give up if c is nil.
func (c *claim) release() {
	if c != nil {
		c.total.Add(-c.bytes)
	}
}

// claim reserves memory for commands that may make a shard grow; it returns
// nil if none does, and [cloakroom.ErrMemoryFull] if they would touch the
// reserve.
func (c *Cluster) claim(commands []command.Command) (*claim, error) {
	bytes := growth(commands)
	if bytes == 0 {
		return nil, nil
	}
	free, limit := c.cfg.RecordMemory()
	claimed := c.claimed.Add(bytes)
	if limit > 0 && free-claimed < c.reserve(limit) {
		c.claimed.Add(-bytes)
		return nil, cloakroom.ErrMemoryFull
	}
	return &claim{total: &c.claimed, bytes: bytes}, nil
}

// growth returns by how much a shard may grow for commands, in bytes; their
// encoded size is a little more than what is kept of them.
func growth(commands []command.Command) int64 {
	n := 0
	for i := range commands {
		switch commands[i].Kind {
		case command.Put, command.Merge, command.Bind:
			n += commands[i].Size()
		}
	}
	return int64(n)
}
