package cluster

import (
	"sync/atomic"

	"cloakroom"
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
	return max(limit/memoryReserve, min(limit/2, int64(len(c.Directory().Shards))*shardSlack))
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

// claim reserves memory for commands that may make a shard led here grow by
// that many bytes; it returns nil for none, and [cloakroom.ErrMemoryFull] if
// they would touch the reserve of a node that holds a replica of the shard.
func (c *Cluster) claim(s *shard, bytes int64) (*claim, error) {
	if bytes == 0 {
		return nil, nil
	}
	free, limit := c.cfg.RecordMemory()
	claimed := c.claimed.Add(bytes)
	granted := c.granted.Add(bytes)
	if limit > 0 && free-claimed < c.reserve(limit) || c.net != nil && c.fuller(s, granted) {
		c.claimed.Add(-bytes)
		return nil, cloakroom.ErrMemoryFull
	}
	return &claim{total: &c.claimed, bytes: bytes}, nil
}

// fuller reports whether another node that holds a replica of s would touch
// its reserve, once all that was granted here since it was last asked has
// reached it. What other leaders granted meanwhile is the reserve's to bear:
// every node is asked once a second.
func (c *Cluster) fuller(s *shard, granted int64) bool {
	info, _ := c.Directory().Group(s.id)
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range info.Replicas {
		r := &info.Replicas[i]
		v := p.nodes[r.Node]
		if v == nil || v.life != r.Life || v.limit == 0 {
			continue
		}
		if v.free-(granted-v.granted) < c.reserve(v.limit) {
			return true
		}
	}
	return false
}
