package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/placement"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

const (
	// transfersATick bounds the leads that are moved in one tick: each costs its
	// shard a pause of a round trip or two.
	transfersATick = 8
	// transferTime bounds one of them.
	transferTime = 2 * time.Second
	// shunned is for how many ticks a group is left alone after its lead could
	// not be moved.
	shunned = 10
)

// leads lists the groups that this node leads, ascending.
func (c *Cluster) leads() (groups []uint32) {
	for _, want := range c.ledGroups(nil) {
		groups = append(groups, want.Group)
	}
	return groups
}

// leading notes which groups a node leads.
func (c *Cluster) leading(node string, groups []uint32) {
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.nodes[node]; v != nil {
		v.leads = slices.Clone(groups)
	}
}

// moved notes a lead that moved since the nodes were asked.
func (c *Cluster) moved(t placement.Transfer) {
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.nodes[t.From]; v != nil {
		v.leads = slices.DeleteFunc(v.leads, func(g uint32) bool { return groupID(g) == t.Group })
	}
	if v := p.nodes[t.To]; v != nil {
		v.leads = append(v.leads, uint32(t.Group))
	}
}

// leaders returns the node that leads each group, as far as is known here: what
// the nodes said of themselves lately, and what the replicas here know.
func (c *Cluster) leaders(view *directory.View) map[directory.GroupID]string {
	known := make(map[directory.GroupID]string)
	for g := range view.Groups() {
		if group := c.group(g); group != nil {
			if m := group.member.Load(); m != nil && m.serves() {
				if node := c.leaderNode(group, m); node != "" {
					known[g] = node
				}
			}
		}
	}
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range view.Nodes {
		n := &view.Nodes[i]
		v := p.nodes[n.Name]
		if v == nil || v.life != n.Life || !v.spoke || c.ticked.Load()-v.tick > alive {
			continue
		}
		for _, g := range v.leads {
			if _, here := known[groupID(g)]; !here {
				known[groupID(g)] = n.Name
			}
		}
	}
	return known
}

// balanceLeads moves leads where they should be, once a tick, while this node
// leads the directory, until the cluster closes.
func (c *Cluster) balanceLeads() {
	shun := make(map[directory.GroupID]int64) // :: group → tick until which it is left alone
	for {
		ring := c.ticks.Wait()
		if m, _ := c.desk.lead(); m != nil && !c.cfg.hazards.leadsStay {
			c.moveLeads(c.ctx, shun)
		}
		select {
		case <-ring:
		case <-c.ctx.Done():
			return
		}
	}
}

// moveLeads moves a few leads.
func (c *Cluster) moveLeads(ctx context.Context, shun map[directory.GroupID]int64) {
	view, tick := c.Directory(), c.ticked.Load()
	s, leads := c.sight(view, tick), c.leaders(view)
	alone := make(map[directory.GroupID]bool)
	for g, until := range shun {
		if until > tick {
			alone[g] = true
		} else {
			delete(shun, g)
		}
	}
	for range transfersATick {
		next, due := placement.NextLead(view, s, leads, alone)
		if !due || ctx.Err() != nil {
			return
		}
		alone[next.Group] = true // once a tick
		err := c.giveLead(ctx, next)
		switch {
		case err == nil:
			leads[next.Group] = next.To
			c.moved(next)
		case !errors.Is(err, wire.ErrNotLeader): // which says that this was old news
			c.cfg.Logger.Debug("lead not moved", "group", next.Group.String(), "from", next.From, "to", next.To, "error", err)
			shun[next.Group] = tick + shunned
		}
	}
}

// giveLead has the leader of a group hand its lead over.
func (c *Cluster) giveLead(ctx context.Context, t placement.Transfer) error {
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	g := c.group(t.Group)
	if g == nil {
		return cloakroom.ErrStarting
	}
	if t.From == c.cfg.Node {
		return c.handLead(ctx, g, t.Replica)
	}
	var reply wire.GiveLeadReply
	req := wire.GiveLeadRequest{Group: uint32(t.Group), Generation: g.generation.Load(), To: t.Replica}
	if err := c.net.ask(ctx, t.From, wire.GiveLead, req.Append(nil), &reply); err != nil {
		return err
	}
	return reply.Code.Err()
}

// serveGiveLead hands a lead over for the leader of the directory.
func (c *Cluster) serveGiveLead(ctx context.Context, body []byte) ([]byte, error) {
	var req wire.GiveLeadRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := early(ctx)
	defer cancel()
	err := fmt.Errorf("no group %d of that generation: %w", req.Group, cloakroom.ErrUnavailable)
	if g := c.group(groupID(req.Group)); g != nil && g.generation.Load() == req.Generation {
		err = c.handLead(ctx, g, req.To)
	}
	return (&wire.GiveLeadReply{Code: wire.CodeOf(err)}).Append(nil), nil
}

// handLead hands the lead of a group over to one of its voters.
func (c *Cluster) handLead(ctx context.Context, g *group, to string) error {
	m, _ := g.lead()
	if m == nil {
		return fmt.Errorf("%s: %w", g.id, wire.ErrNotLeader)
	}
	_, members, err := m.replica.Members()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(o replica.Member) bool { return o.ID == to && o.Voter && o.ID != m.self.ID })
	if at < 0 {
		return fmt.Errorf("%s: no other voter of that identity: %w", g.id, cloakroom.ErrConflict)
	}
	return m.replica.TransferLead(ctx, members[at].Identity)
}
