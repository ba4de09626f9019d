package cluster

import (
	"context"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/placement"
)

// ownIdentity is how many ticks a node has to bring the replica of the
// directory that it drew itself, as joiners do, before one is made up for it.
// A node that is dead by then would hold up all later steps.
const ownIdentity = 3

// plan carries out the next step of the placement, if this node leads the
// directory: it makes up a replica and registers it. It returns when to look
// again.
func (c *Cluster) plan(ctx context.Context) time.Duration {
	if m, _ := c.desk.lead(); m == nil || c.net == nil {
		return whenever
	}
	step, missing := placement.Next(c.Directory())
	if !missing {
		c.desk.missing = placement.Step{}
		return whenever
	}
	if step.Group == directory.DirectoryGroup && !c.desk.overdue(step, c.ticked.Load()) {
		return whenever
	}
	self, err := newIdentity(c.cfg.Rand)
	if err == nil {
		err = c.step(ctx, &directory.Command{AddReplica: &directory.AddReplica{Group: step.Group, Seen: step.Seen,
			Replica: directory.ReplicaInfo{ID: self.ID, Address: self.Addr,
				Node: step.Node, Life: step.Life, State: directory.Preparing}}})
	}
	if err != nil {
		c.trouble(&c.desk.group, "replica not placed", err)
		return whenever
	}
	return atOnce
}

// overdue reports whether a replica of the directory has been missing on a
// node for long enough to make one up. Only plan calls it.
func (d *desk) overdue(step placement.Step, tick int64) bool {
	if d.missing.Node != step.Node || d.missing.Life != step.Life {
		d.missing, d.missingSince = step, tick
	}
	return tick-d.missingSince >= ownIdentity
}
