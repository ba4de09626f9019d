package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom/cluster/bell"
	"cloakroom/cluster/confirm"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/wire"
)

// leaseSteps is how many times in the length of a lease it is asked for.
const leaseSteps = 6

// leaseLag is how many entries a replica may be behind when it is granted a
// lease. One that takes a snapshot is behind by all of them: it would not come
// to use its lease, and every erasure meanwhile would wait for the end of it.
const leaseLag = 1024

// leases are what a node does for the leases of its replicas.
type leases struct {
	wanted bell.Bell     // rings when a replica here may need one at once
	failed atomic.Uint64 // asks of one replica that came to nothing
	waits  sync.WaitGroup
}

// leaseLength returns L, one number for the whole cluster; 0 before the
// directory is known.
func (c *Cluster) leaseLength() time.Duration {
	return time.Duration(c.Directory().Settings.LeaseMillis) * time.Millisecond
}

// uptime is the clock that leases are measured by.
func (c *Cluster) uptime() time.Duration {
	if c.cfg.hazards.leaseWallClock {
		return time.Duration(c.cfg.Clock.Now().UnixNano())
	}
	return c.cfg.Uptime()
}

// renewLeases asks for leases for all replicas of this node, a few times in
// the length of a lease, until the cluster closes. When a replica has a new
// leader it asks for that one at once.
func (c *Cluster) renewLeases() {
	defer c.leases.waits.Wait()
	out := make(map[string]*leaseAsk)
	for {
		ring := c.leases.wanted.Wait()
		every := max(c.leaseLength()/leaseSteps, time.Millisecond)
		for node, a := range c.leaseAsks(out, every) {
			c.leases.waits.Go(func() { // ends with its own time, or c.ctx
				c.askLeases(node, a)
				a.busy.Store(false)
			})
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-ring:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// leaseAsk is what one node is asked for, and by whom.
type leaseAsk struct {
	busy atomic.Bool // on its way: the node is not asked again meanwhile
	// The leases count from here. It is before the question leaves, since the
	// granter counts from its arrival, and before the terms in it are looked at:
	// a vote from before start would not rule out a leader elected before it.
	start   time.Duration
	request wire.LeaseRequest
	members []*member
}

// leaseAsks returns whom to ask for what. A replica that asked its leader
// within the last half of a step waits for its turn: news of one group is no
// reason to ask for all.
func (c *Cluster) leaseAsks(out map[string]*leaseAsk, every time.Duration) map[string]*leaseAsk {
	asks := make(map[string]*leaseAsk)
	now := c.uptime()
	for _, s := range *c.shards.Load() {
		m := s.member.Load()
		if m == nil || !m.replica.InService() {
			continue
		}
		node := c.cfg.Node
		if !m.replica.Leads() {
			node = c.knownLeader(&s.group)
		}
		if node == "" || m.leader == node && now-m.asked < every/2 {
			continue
		}
		a := asks[node]
		if a == nil {
			if a = out[node]; a != nil && a.busy.Load() {
				continue
			}
			a = &leaseAsk{start: now}
			a.busy.Store(true)
			out[node], asks[node] = a, a
		}
		m.leader, m.asked = node, now
		a.members = append(a.members, m)
		a.request.Parts = append(a.request.Parts, wire.LeasePart{
			Group: uint32(s.id), Generation: s.generation.Load(), Term: m.replica.Term(), Applied: m.replica.AppliedIndex(), Replica: m.id})
	}
	return asks
}

// askLeases asks one node, which may be this one, and has the replicas hold
// what it grants.
func (c *Cluster) askLeases(node string, a *leaseAsk) {
	ctx, cancel := context.WithTimeout(c.ctx, c.leaseLength()/3)
	defer cancel()
	var reply wire.LeaseReply
	start := a.start
	if node == c.cfg.Node {
		c.grant(ctx, node, &a.request, &reply)
	} else if err := c.net.ask(ctx, node, wire.Lease, a.request.Append(nil), &reply); err != nil || len(reply.Parts) != len(a.members) {
		c.leases.failed.Add(uint64(len(a.members)))
		return
	}
	if c.cfg.hazards.leaseFromAnswer {
		start = c.uptime()
	}
	usable := lease.Usable(reply.Length)
	if c.cfg.hazards.leaseFullTerm {
		usable = reply.Length * 5 / 4
	}
	for i, m := range a.members {
		if p := &reply.Parts[i]; p.Code == wire.OK {
			c.hold(m, p.Index, start+usable)
		} else {
			c.leases.failed.Add(1)
		}
	}
}

// maxHolds bounds the grants of one replica that wait for their index. More
// are not needed: the first of them is over by then.
const maxHolds = leaseSteps

// hold has m answer reads until then, from the moment on when it has applied
// index.
func (c *Cluster) hold(m *member, index uint64, until time.Duration) {
	if m.replica.AppliedIndex() >= index || c.cfg.hazards.leaseUnapplied {
		m.lease.Extend(until)
		return
	}
	if m.holding.Add(1) > maxHolds {
		m.holding.Add(-1)
		return
	}
	c.leases.waits.Go(func() { // ends with the lease, with m, or with c.ctx
		defer m.holding.Add(-1)
		ctx, cancel := context.WithTimeout(c.ctx, max(until-c.uptime(), 0))
		defer cancel()
		if m.replica.AwaitApplied(ctx, index) == nil {
			m.lease.Extend(until)
		}
	})
}

// serveLease grants leases to replicas of another node.
func (c *Cluster) serveLease(ctx context.Context, node string, body []byte) ([]byte, error) {
	var request wire.LeaseRequest
	var reply wire.LeaseReply
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	c.grant(ctx, node, &request, &reply)
	return reply.Append(nil), nil
}

// grant grants leases of the groups led here to replicas of a node. Each is
// entered in the leader's table before anything is said of it, and said only
// if no newer leader had been elected when it was asked for.
func (c *Cluster) grant(ctx context.Context, node string, request *wire.LeaseRequest, reply *wire.LeaseReply) {
	ctx, cancel := context.WithTimeout(ctx, c.leaseLength()/leaseSteps)
	defer cancel()
	g := granting{c: c, node: node, length: c.leaseLength()}
	reply.Length, reply.Parts = g.length, make([]wire.LeaseAnswer, len(request.Parts))
	for i := range request.Parts {
		g.enter(&request.Parts[i], &reply.Parts[i])
	}
	if len(g.wants) > 0 {
		sure := make([]bool, len(g.wants))
		c.rounds.Confirm(ctx, g.wants, sure)
		for i, p := range g.asked {
			if !sure[i] {
				*p = wire.LeaseAnswer{Code: wire.Unavailable}
			}
		}
	}
	for _, late := range g.late {
		late()
	}
}

// granting is one call of grant.
type granting struct {
	c      *Cluster
	node   string
	length time.Duration
	wants  []confirm.Want // rounds that are still needed
	asked  []*wire.LeaseAnswer
	late   []func() // what a hazard does too late
}

// enter enters one lease and notes what is missing to grant it.
func (g *granting) enter(p *wire.LeasePart, answer *wire.LeaseAnswer) {
	s, err := g.c.shardOf(groupID(p.Group), p.Generation)
	if err != nil {
		*answer = wire.LeaseAnswer{Code: wire.CodeOf(err)}
		return
	}
	m, term := s.lead()
	if m == nil {
		*answer = wire.LeaseAnswer{Code: wire.NotLeader, Hint: s.leaderHint()}
		return
	}
	h := &g.c.cfg.hazards
	if index := m.grantIndex(); index > p.Applied && index-p.Applied > leaseLag && !h.leaseAnyLag {
		*answer = wire.LeaseAnswer{Code: wire.Unavailable} // it could not use it, and an erasure would wait for it
		return
	}
	id := string(p.Replica)
	if h.leaseByAddress {
		id = g.node
	}
	note := func(index func() uint64) uint64 {
		return m.table.Enter(term, id, g.node, g.c.uptime(), g.length, index)
	}
	*answer = wire.LeaseAnswer{Code: wire.OK}
	switch {
	case h.leaseUnentered:
		answer.Index = m.grantIndex()
	case h.leaseIndexFirst:
		answer.Index = m.grantIndex()
		g.late = append(g.late, func() { note(func() uint64 { return answer.Index }) })
	default:
		answer.Index = note(m.grantIndex)
	}
	if h.leaseNoRound || !h.leaseIndexFirst && g.c.assured(m, term, vote{p.Replica, p.Term}) {
		return
	}
	g.wants = append(g.wants, confirm.Want{Group: p.Group, Term: term})
	g.asked = append(g.asked, answer)
}

// grantIndex is the index of the lease that m grants: whatever somebody was told
// of is at or below it. The last time that was told is above. Nobody is told
// of that one, and followers hear of it as much as a second late (they are not
// nudged for it): a lease that waited for it would come with half of it gone.
func (m *member) grantIndex() uint64 {
	if written := m.written.Load(); written > 0 {
		return written
	}
	return m.replica.AppliedIndex()
}
