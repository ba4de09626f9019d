package cluster

// Leave gives away what this node leads, to nodes that can take it, and returns
// when they have or within a second. The node stays a member that answers and
// passes on, until Close; callers may well be gone by then.
func (c *Cluster) Leave() {
	if c.net == nil {
		return
	}
	if table := c.shards.Load(); table != nil {
		c.handOver(*table)
	}
}
