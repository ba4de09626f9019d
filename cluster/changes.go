package cluster

import (
	"context"
	"fmt"
	"sync"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/state"
	"cloakroom/cluster/wire"
)

// Watcher is told by the state of a shard what its entries change, for
// [StateConfig].
type Watcher = state.Watcher

// Change is one change that a [Watcher] is told of.
type Change = state.Change

// LoggedChange is a change with the index of its entry.
type LoggedChange = wire.SubjectChange

// ChangesPart asks one shard of another node what changed behind an entry.
type ChangesPart struct {
	Shard cloakroom.ShardID
	After uint64

	// The answer. Complete: whatever was acknowledged before the call lies
	// within Reach, or is told next if there is More.
	Changes             []LoggedChange // in the order of their entries, whole entries
	Reach               uint64         // all changes up to that entry are told
	Gap, Complete, More bool           // Gap: changes up to Reach are missing, none is told
	Err                 error
}

// changesBudget is how many changes one answer aims at; a whole entry may come
// on top.
const changesBudget = wire.MaxChanges / 2

// Changes asks the other nodes that have them for the changes of shards, in
// ascending order, each shard once. It asks once: try counts how often in a row
// the caller got no answer, and has others asked.
func (c *Cluster) Changes(ctx context.Context, parts []ChangesPart, try int) {
	if c.net == nil {
		for i := range parts {
			parts[i].Err = fmt.Errorf("changes of shard %d: nobody to ask: %w", parts[i].Shard, cloakroom.ErrUnavailable)
		}
		return
	}
	byNode := make(map[string][]*ChangesPart)
	for i := range parts {
		p := &parts[i]
		s, err := c.shard(p.Shard)
		if err != nil {
			p.Err = err
			continue
		}
		node := c.whoLeads(&s.group, "", try)
		p.Err = fmt.Errorf("changes of shard %d: %w", p.Shard, cloakroom.ErrUnavailable)
		if node != "" {
			byNode[node] = append(byNode[node], p)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	var others sync.WaitGroup
	for node, asked := range byNode {
		others.Go(func() { c.askChanges(ctx, node, asked) }) // ends with ctx, at the latest
	}
	others.Wait()
}

// askChanges asks one node for some parts and fills in the answers.
func (c *Cluster) askChanges(ctx context.Context, node string, asked []*ChangesPart) {
	var request wire.ChangesRequest
	for _, p := range asked {
		s, err := c.shard(p.Shard)
		if err != nil {
			p.Err = err
			return
		}
		request.Parts = append(request.Parts, wire.ChangesPart{Group: uint32(s.id), Generation: s.generation.Load(), After: p.After})
	}
	var reply wire.ChangesReply
	err := c.net.ask(ctx, node, wire.Changes, request.Append(nil), &reply)
	if err == nil && len(reply.Parts) != len(asked) {
		err = fmt.Errorf("%s answered %d parts of %d: %w", node, len(reply.Parts), len(asked), cloakroom.ErrUnavailable)
	}
	for i, p := range asked {
		if err != nil {
			p.Err = err
			continue
		}
		a := &reply.Parts[i]
		p.Changes, p.Reach, p.Gap, p.Complete, p.More = a.Changes, a.Reach, a.Gap, a.Complete, a.More
		if p.Err = a.Code.Err(); p.Err != nil {
			p.Err = fmt.Errorf("changes of shard %d: %w", p.Shard, p.Err)
		}
	}
}

// serveChanges answers with what this node knows of the changes of its shards.
func (c *Cluster) serveChanges(body []byte) ([]byte, error) {
	var request wire.ChangesRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	reply := wire.ChangesReply{Parts: make([]wire.ChangesAnswer, len(request.Parts))}
	budget, room := changesBudget, wire.MaxChanges
	for i, p := range request.Parts {
		a := &reply.Parts[i]
		s, err := c.shardOf(directory.GroupID(p.Group), p.Generation)
		if err == nil && c.cfg.Changes == nil {
			err = cloakroom.ErrUnavailable
		}
		if a.Code = wire.CodeOf(err); err != nil {
			continue
		}
		// Fresh first: what is acknowledged between the two is known by then.
		a.Complete = c.Fresh(s.shard)
		if budget <= 0 {
			a.Reach, a.More = p.After, true
			continue
		}
		a.Changes, a.Reach, a.Gap, a.More = c.cfg.Changes(s.shard, p.After, budget)
		if len(a.Changes) > room {
			a.Changes, a.Gap = nil, true // an entry that no answer has room for
		}
		budget -= len(a.Changes)
		room -= len(a.Changes)
	}
	return reply.Append(nil), nil
}

// Fresh reports whether the replica here has applied every erasure of a shard
// that was settled before the call, and every other write that was acknowledged
// before the call by more than the length of a lease: whether it may answer reads.
// What is looked at after the call is at least as new.
func (c *Cluster) Fresh(id cloakroom.ShardID) bool {
	if c.net == nil {
		return c.Leads(id)
	}
	s, err := c.shard(id)
	if err != nil {
		return false
	}
	c.reading.RLock()
	defer c.reading.RUnlock()
	m := s.member.Load()
	if m == nil {
		return false
	}
	until := m.lease.Until()
	return c.cfg.Uptime() < until && m.replica.InService()
}

// Generation returns that of a shard's group, 0 if the shard is not known.
func (c *Cluster) Generation(id cloakroom.ShardID) uint32 {
	s, err := c.shard(id)
	if err != nil {
		return 0
	}
	return s.generation.Load()
}
