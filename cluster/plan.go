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
// directory. It returns when to look again.
func (c *Cluster) plan(ctx context.Context) time.Duration {
	m, term := c.desk.lead()
	if m == nil || c.net == nil {
		return whenever
	}
	view := c.Directory()
	if term != c.desk.term {
		c.desk.term, c.desk.since = term, c.ticked.Load()
		c.pulse.succeed(view, c.desk.since)
	}
	step, due := placement.Next(view, c.sight(view, c.desk.since), c.cfg.Installs)
	if !due {
		c.desk.missing = placement.Step{}
		return whenever
	}
	if step.Kind == placement.Add && step.Group == directory.DirectoryGroup && !c.desk.overdue(step, c.ticked.Load()) {
		return whenever
	}
	if err := c.carryOut(ctx, step); err != nil {
		c.trouble(&c.desk.group, "replica not placed", err)
		return whenever
	}
	return atOnce
}

// carryOut takes a step of the placement.
func (c *Cluster) carryOut(ctx context.Context, step placement.Step) error {
	if step.Kind == placement.Leave {
		_, r, _ := c.Directory().Replica(step.Replica)
		c.cfg.Logger.Info("replica is to leave", "group", step.Group.String(), "node", r.Node, "reason", string(step.Why))
		return c.step(ctx, &directory.Command{SetReplica: &directory.SetReplica{
			Group: step.Group, ID: step.Replica, State: directory.Leaving, Seen: step.Seen}})
	}
	self, err := newIdentity(c.cfg.Rand)
	if err != nil {
		return err
	}
	if step.Why != placement.Missing {
		c.cfg.Logger.Info("replica is to be made", "group", step.Group.String(), "node", step.Node, "reason", string(step.Why))
	}
	return c.step(ctx, &directory.Command{AddReplica: &directory.AddReplica{Group: step.Group, Seen: step.Seen,
		Replica: directory.ReplicaInfo{ID: self.ID, Address: self.Addr,
			Node: step.Node, Life: step.Life, State: directory.Preparing}}})
}

// overdue reports whether a replica of the directory has been missing on a
// node for long enough to make one up. Only plan calls it.
func (d *desk) overdue(step placement.Step, tick int64) bool {
	if d.missing.Node != step.Node || d.missing.Life != step.Life {
		d.missing, d.missingSince = step, tick
	}
	return tick-d.missingSince >= ownIdentity
}

// sight is what this node sees of the others. One is dead if it was silent for
// as long as the settings say, in which this node led the directory all the
// time: who has just come to lead may not have listened before. One that others
// still hear gets more time.
func (c *Cluster) sight(view *directory.View, since int64) placement.Sight {
	s := placement.Sight{Alive: make(map[string]bool), Dead: make(map[string]bool)}
	limit, now := int64(view.Settings.DeadAfter()/timeStep), c.ticked.Load()
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range view.Nodes {
		n := &view.Nodes[i]
		if !n.Seated() {
			continue
		}
		if n.Name == c.cfg.Node {
			s.Alive[n.Name] = true
			continue
		}
		v := p.of(n, now)
		s.Alive[n.Name] = v.spoke && now-v.tick <= alive || !v.spoke && !v.old && now-v.first <= alive // it has just registered
		s.Dead[n.Name] = now-max(v.tick, v.first, since) >= c.patience(n, limit)
	}
	return s
}
