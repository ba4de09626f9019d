package cluster

import (
	"context"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// refound begins a shard anew, empty, whose voters' lives are all over, if this
// node leads the directory: their logs were in memory, so what it held is gone
// for certain. While one of them may still live nothing is done: a partition
// must not cost anybody what a majority has. It returns when to look again.
func (c *Cluster) refound(ctx context.Context) time.Duration {
	if m, _ := c.desk.lead(); m == nil || c.net == nil {
		return whenever
	}
	view := c.Directory()
	for i := range view.Shards {
		g := directory.ShardGroup(view.Shards[i].ID)
		if !view.Lost(g) || c.mayVote(ctx, view, g) {
			continue
		}
		node, there := c.leastLoaded(view)
		if !there {
			return whenever
		}
		if err := c.refoundOn(ctx, view, g, node); err != nil {
			c.trouble(&c.desk.group, "lost shard not founded anew", err)
			return whenever
		}
		return atOnce
	}
	return whenever
}

// Refounded counts the shards that this node, leading the directory, had begin
// anew because all that had their content were gone.
func (c *Cluster) Refounded() uint64 { return c.refounded.Load() }

// refoundOn begins a shard anew on a node.
func (c *Cluster) refoundOn(ctx context.Context, view *directory.View, g directory.GroupID, node *directory.NodeInfo) error {
	self, err := newIdentity(c.cfg.Rand)
	if err != nil {
		return err
	}
	err = c.step(ctx, &directory.Command{RefoundGroup: &directory.RefoundGroup{Group: g, Seen: view.Epoch,
		Replica: directory.ReplicaInfo{ID: self.ID, Address: self.Addr, Node: node.Name, Life: node.Life, State: directory.Voter}}})
	if err != nil {
		return err
	}
	c.refounded.Add(1)
	was, _ := view.Group(g)
	c.cfg.Logger.Warn("all voters of a shard are gone, and what it held with them: it begins anew, empty",
		"group", g.String(), "generation", was.Generation+1, "node", node.Name)
	if shard, ok := g.Shard(); ok && c.cfg.Refounded != nil {
		c.cfg.Refounded(shard, was.Generation+1)
	}
	return nil
}

// mayVote reports whether a replica of a lost group that the directory has as
// preparing may have got a vote before its leader could say so, or does not
// answer: then it may have what the others lost.
func (c *Cluster) mayVote(ctx context.Context, view *directory.View, g directory.GroupID) bool {
	info, _ := view.Group(g)
	for i := range info.Replicas {
		r := &info.Replicas[i]
		if r.State != directory.Preparing || !view.Lives(r) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTime)
		var reply wire.ProgressReply
		req := wire.ProgressRequest{Group: uint32(g), Replica: r.ID}
		var err error
		if r.Node == c.cfg.Node {
			reply = c.progressHere(&req)
		} else {
			err = c.net.ask(ctx, r.Node, wire.Progress, req.Append(nil), &reply)
		}
		cancel()
		if err != nil || reply.Voter {
			return true
		}
	}
	return false
}

// leastLoaded returns the node with the fewest replicas of those that are
// there, the first by name of several.
func (c *Cluster) leastLoaded(view *directory.View) (best *directory.NodeInfo, there bool) {
	load := make(map[string]int)
	for g := range view.Groups() {
		info, _ := view.Group(g)
		for i := range info.Replicas {
			if r := &info.Replicas[i]; r.State != directory.Leaving && view.Lives(r) {
				load[r.Node]++
			}
		}
	}
	for i := range view.Nodes {
		n := &view.Nodes[i]
		if n.Seated() && !n.Emptying() && c.there(n) && (best == nil || load[n.Name] < load[best.Name]) {
			best = n
		}
	}
	return best, best != nil
}

// begun brings a group into its newest generation: what this node has of one
// that is over ends.
func (k *keeping) begun() {
	info, there := k.c.Directory().Group(k.g.id)
	if !there || info.Generation <= k.g.generation.Load() {
		return
	}
	k.c.retire(k.g)
	k.g.generation.Store(info.Generation)
	k.known = ""
}

// lead brings a shard that was founded anew here to where it answers.
func (k *keeping) lead(ctx context.Context, self replica.Identity) time.Duration {
	shard, ok := k.g.id.Shard()
	if !ok {
		return whenever
	}
	shards := k.c.shards.Load()
	if shards == nil {
		return whenever
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	m, err := k.c.startMember(k.g, self, true)
	if err == nil {
		k.since = k.c.ticked.Load()
		k.c.seat(k.g, m)
		err = m.replica.AwaitLead(ctx)
	}
	if err == nil {
		err = k.c.setTime(ctx, (*shards)[shard], k.c.cfg.Clock.Now())
	}
	if err != nil {
		k.c.trouble(k.g, "shard not begun anew", err)
		return whenever
	}
	return atOnce
}
