package cluster

import (
	"context"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/wire"
)

// handle answers a call of another node. What can be said in a reply is said
// there; an error is only for a call that can't be read.
func (c *Cluster) handle(ctx context.Context, from peer.Peer, method uint8, body []byte) ([]byte, error) {
	select {
	case <-c.open:
	case <-ctx.Done():
		return nil, cloakroom.ErrStarting
	}
	if m := wire.Method(method); m == wire.Propose || m == wire.Change {
		c.errands.begin()
		defer c.errands.end()
	}
	switch m := wire.Method(method); m {
	case wire.Join:
		return c.serveJoin(ctx, from, body)
	case wire.Propose:
		return c.servePropose(ctx, body)
	case wire.Change:
		return c.serveChange(ctx, body)
	case wire.Read:
		return c.serveRead(ctx, body)
	case wire.Confirm:
		return c.serveConfirm(body)
	case wire.Progress:
		return c.serveProgress(body)
	case wire.Changes:
		return c.serveChanges(body)
	case wire.Lease:
		return c.serveLease(ctx, from.Node, body)
	case wire.Settle:
		return c.serveSettle(ctx, body)
	case wire.Await:
		return c.serveAwait(ctx, body)
	case wire.GiveLead:
		return c.serveGiveLead(ctx, body)
	case wire.Keys:
		return atGate(ctx, c.cfg.Network.Gate.Keys, from, body)
	case wire.Renew:
		return atGate(ctx, c.cfg.Network.Gate.Renew, from, body)
	case wire.ViewLease:
		return c.serveViewLease(ctx, from.Node, from.Life, body)
	case wire.ViewAwait:
		return c.serveViewAwait(ctx, body)
	case wire.ViewSettle:
		return c.serveViewSettle(ctx, body)
	case wire.Ping:
		return (&wire.PingReply{Node: c.cfg.Node, Life: c.life}).Append(nil), nil
	default:
		return nil, fmt.Errorf("%s: %w", m, cloakroom.ErrMalformed)
	}
}

// leaderHint returns the replica ID of a group's leader, "" if unknown.
func (g *group) leaderHint() string {
	id, _ := g.leader()
	return id.ID
}

// servePropose carries out the commands of another node, if this one leads.
func (c *Cluster) servePropose(ctx context.Context, body []byte) ([]byte, error) {
	var req wire.ProposeRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	reply := wire.ProposeReply{}
	s, err := c.shardOf(directory.GroupID(req.Group), req.Generation)
	if err == nil {
		ctx, cancel := early(ctx)
		defer cancel()
		p := c.blank()
		defer c.recycle(p)
		p.take(req.Items, req.Ends(p.ends))
		if err = c.proposeHere(ctx, s, p); err == nil {
			reply.Index, reply.Results = p.index, p.results
		} else {
			reply.Hint = s.leaderHint()
		}
	}
	reply.Code = wire.CodeOf(err)
	return reply.Append(nil), nil
}

// shardOf returns the shard of a group of that generation.
func (c *Cluster) shardOf(g directory.GroupID, generation uint32) (*shard, error) {
	id, ok := g.Shard()
	if !ok {
		return nil, cloakroom.ErrMalformed
	}
	shards := c.shards.Load()
	switch {
	case shards == nil:
		return nil, cloakroom.ErrStarting
	case int(id) >= len(*shards):
		return nil, fmt.Errorf("no %s: %w", g, cloakroom.ErrMalformed)
	case (*shards)[id].generation.Load() != generation:
		return nil, fmt.Errorf("%s is of another generation: %w", g, cloakroom.ErrUnavailable)
	}
	return (*shards)[id], nil
}

// serveConfirm says for each question whether that very replica lives here, in
// service, and has seen no later term.
func (c *Cluster) serveConfirm(body []byte) ([]byte, error) {
	questions, err := wire.OpenConfirm(body)
	if err != nil {
		return nil, err
	}
	free, limit := c.cfg.RecordMemory()
	reply := wire.ConfirmReply{Yes: make([]bool, 0, questions.Len()), Free: max(free, 0), Limit: max(limit, 0)}
	for q, more := questions.Next(); more; q, more = questions.Next() {
		reply.Yes = append(reply.Yes, c.stillIn(q.Group, q.Replica, q.Term))
	}
	if len(reply.Yes) == 0 {
		reply.Leads = c.leads()
	}
	reply.Now = c.cfg.Clock.Now().UnixMilli()
	return reply.Append(nil), nil
}

// serveProgress says how far a replica has come.
func (c *Cluster) serveProgress(body []byte) ([]byte, error) {
	var req wire.ProgressRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	reply := c.progressHere(&req)
	return reply.Append(nil), nil
}

// progressHere says how far a replica of this node has come.
func (c *Cluster) progressHere(req *wire.ProgressRequest) wire.ProgressReply {
	reply := wire.ProgressReply{Code: wire.Unavailable}
	if g := c.group(directory.GroupID(req.Group)); g != nil {
		if m := g.member.Load(); m != nil && m.self.ID == req.Replica && m.serves() {
			p := m.replica.Progress()
			reply = wire.ProgressReply{Code: wire.OK, Term: p.Term, Last: p.Last, Commit: p.Commit, Applied: p.Applied, Voter: m.votes()}
		}
	}
	return reply
}

// groupID is a group as messages number it.
func groupID(number uint32) directory.GroupID { return directory.GroupID(number) }

// group returns a group by its number, nil if it is not known here yet.
func (c *Cluster) group(id directory.GroupID) *group {
	shard, ok := id.Shard()
	if !ok {
		return &c.desk.group
	}
	shards := c.shards.Load()
	if shards == nil || int(shard) >= len(*shards) {
		return nil
	}
	return &(*shards)[shard].group
}
