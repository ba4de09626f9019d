package cluster

import (
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster/command"
)

// memoryReserve is the share of record memory, one byte in so many, that
// deposits leave alone, so that erasures always find room.
const memoryReserve = 10

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
	if limit > 0 && free-claimed < limit/memoryReserve {
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
