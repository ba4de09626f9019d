package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

const (
	// knockTime bounds one call to join: registering takes a few commits, and
	// before them all pings.
	knockTime = 5 * time.Second
	// shownTime is how long a node waits for its first view before it asks
	// again to be taken in.
	shownTime = 3 * time.Second
	// knockPause lies between two rounds over all seeds.
	knockPause = 100 * time.Millisecond
	// pings is how often a life that is registered is asked whether it lives,
	// and pingTime how long it has to say so each time. Only who is silent to
	// all of them loses the name: a busy machine stands still for a second.
	pings    = 3
	pingTime = 700 * time.Millisecond
)

// join has this node taken into the cluster of its seeds and returns when the
// directory's own view, which is here by then, says so.
func (c *Cluster) join(ctx context.Context, self replica.Identity) error {
	for {
		if err := c.knock(ctx, c.acquaintances(), self); err != nil {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, shownTime)
		err := c.views.await(soon, c.shows)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
}

// knock asks at each address to be taken in until one does, one refuses, or
// ctx ends.
func (c *Cluster) knock(ctx context.Context, addrs []string, self replica.Identity) error {
	for {
		var faults []error
		for _, addr := range addrs {
			err := c.knockAt(ctx, addr, self)
			if err == nil || errors.Is(err, cloakroom.ErrConflict) || errors.Is(err, ErrRemoved) {
				return err
			}
			faults = append(faults, err)
		}
		timer := time.NewTimer(knockPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(append(faults, ctx.Err())...)
		}
	}
}

// knockAt asks one node, and notes in the book whom it names.
func (c *Cluster) knockAt(ctx context.Context, addr string, self replica.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	req := c.joinRequest(self)
	body, who, err := c.net.CallAt(ctx, addr, uint8(wire.Join), req.Append(nil))
	if err != nil {
		return fmt.Errorf("join at %s: %w", addr, err)
	}
	var reply wire.JoinReply
	if err := reply.Decode(body); err != nil {
		return fmt.Errorf("join at %s: %w", addr, err)
	}
	if known := refusedJoin[reply.Reason]; known != nil {
		c.later.Store(reply.Boot)
		c.expelled.Store(errors.Is(known, ErrRemoved))
		return fmt.Errorf("join at %s: %w: %s", who.Node, known, reply.Text)
	}
	if err := reply.Code.Err(); err != nil {
		return fmt.Errorf("join at %s: %w: %s", who.Node, err, reply.Text)
	}
	if reply.Generation != c.desk.generation.Load() {
		return fmt.Errorf("join at %s: %w: the directory is of generation %d", who.Node, cloakroom.ErrConflict, reply.Generation)
	}
	if reply.Epoch > c.net.book.Load().epoch {
		c.net.book.Store(&book{epoch: reply.Epoch, members: reply.Members})
		c.net.Review()
	}
	return nil
}

// joinRequest says who this node is, and which replica of the directory it
// brings.
func (c *Cluster) joinRequest(self replica.Identity) wire.JoinRequest {
	req := wire.JoinRequest{Node: c.cfg.Node, Life: c.life, Address: c.net.Addr(), Zone: c.cfg.Network.Zone,
		API: c.cfg.Network.API, Boot: c.boot(), Replica: wire.Identity{ID: self.ID, Address: self.Addr}, Kept: c.knows(self.ID)}
	if prove := c.cfg.Network.Gate.Prove; prove != nil {
		req.Proof = prove(req.Node, req.Life)
	}
	return req
}

// knows reports whether the directory has listed that replica of its own: one
// that it lists no more must not be listed again.
func (c *Cluster) knows(id string) bool {
	listed := c.listedID.Load()
	return id == c.keptID || listed != nil && id == *listed
}

// serveJoin takes a node into the cluster.
func (c *Cluster) serveJoin(ctx context.Context, from peer.Peer, body []byte) ([]byte, error) {
	var req wire.JoinRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := early(ctx)
	defer cancel()
	reply := wire.JoinReply{Generation: c.desk.generation.Load()}
	err := c.welcome(ctx, from, &req)
	if err != nil {
		info, _ := c.Directory().Node(req.Node)
		reply.Text, reply.Reason, reply.Boot = err.Error(), reasonOf(err), info.Boot
	} else {
		reply.Epoch, reply.Members = directoryVoters(c.Directory())
	}
	reply.Code = wire.CodeOf(err)
	return reply.Append(nil), nil
}

// welcome registers a node and the replica of the directory that it brings.
// All of it can be asked again.
func (c *Cluster) welcome(ctx context.Context, from peer.Peer, req *wire.JoinRequest) error {
	switch {
	case from.Node != req.Node || from.Life != req.Life:
		return fmt.Errorf("the request names another node than the certificate: %w", cloakroom.ErrMalformed)
	case req.Node == c.cfg.Node:
		return fmt.Errorf("%s lives here: %w", req.Node, cloakroom.ErrConflict)
	case c.Directory().Epoch == 0:
		return cloakroom.ErrStarting
	}
	if err := c.cfg.Network.Gate.check(req); err != nil {
		return err
	}
	return c.enrol(ctx, req, directory.Digest(from.Key))
}

// enrol registers a life of a node with that TLS key, and the replica of the
// directory that it brings.
func (c *Cluster) enrol(ctx context.Context, req *wire.JoinRequest, key directory.Digest) error {
	if req.Boot == 0 {
		key = directory.Digest{} // of one life only
	}
	if err := c.repeat(ctx, func() (*directory.Command, error) { return c.register(ctx, req, key) }); err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	c.met(req.Node, req.Life)
	if err := c.forgotten(ctx, req); err != nil {
		return fmt.Errorf("register directory replica: %w", err)
	}
	if err := c.repeat(ctx, func() (*directory.Command, error) { return c.enlist(req) }); err != nil {
		return fmt.Errorf("register directory replica: %w", err)
	}
	return nil
}

// maxRepeats bounds how often a change that met a conflict is made up anew.
const maxRepeats = 8

// repeat carries out the commands that next makes up from the newest view,
// until it makes up none. A conflict is another chance: the view was old.
func (c *Cluster) repeat(ctx context.Context, next func() (*directory.Command, error)) error {
	var last error
	for range maxRepeats {
		cmd, err := next()
		if cmd == nil || err != nil {
			return err
		}
		result, err := c.ProposeDirectory(ctx, cmd)
		if err != nil {
			return err
		}
		if last = result.Err(); last != nil && !errors.Is(last, cloakroom.ErrConflict) {
			return fmt.Errorf("%v: %w", last, cloakroom.ErrConflict)
		}
	}
	return fmt.Errorf("%w: %v", cloakroom.ErrUnavailable, last)
}

// register returns the next command that registers a node, nil if it is
// registered. The life that holds the name keeps it as long as it answers.
func (c *Cluster) register(ctx context.Context, req *wire.JoinRequest, key directory.Digest) (*directory.Command, error) {
	info, there := c.Directory().Node(req.Node)
	if there && info.Life == req.Life {
		return nil, nil
	}
	switch {
	case info.State == directory.Removed:
		return nil, fmt.Errorf("%s needs a new join token: %w", req.Node, ErrRemoved)
	case info.Boot > 0 && req.Boot <= info.Boot:
		return nil, fmt.Errorf("start %d, and start %d is registered: %w", req.Boot, info.Boot, errRolledBack)
	case info.State == directory.Pending:
		return nil, fmt.Errorf("%s is pending, it must be admitted first: %w", req.Node, cloakroom.ErrDenied)
	case info.Seated() && req.Node != c.cfg.Node && c.answers(ctx, &info):
		return nil, fmt.Errorf("a node called %s lives at %s: %w", info.Name, info.Address, cloakroom.ErrConflict)
	}
	return &directory.Command{PutNode: &directory.PutNode{Replaces: info.LastLife(),
		Node: directory.NodeInfo{Name: req.Node, Life: req.Life, Address: req.Address, Zone: req.Zone,
			API: req.API, Key: key, Boot: req.Boot}}}, nil
}

// answers reports whether a registered life of a node answers. Where nobody
// listens any more that is known at once.
func (c *Cluster) answers(ctx context.Context, info *directory.NodeInfo) bool {
	if info.Address == "" {
		return false
	}
	for range pings {
		if there, sure := c.answersOnce(ctx, info); sure {
			return there
		}
	}
	return false
}

// answersOnce asks once. It is sure of a life that answers, and of one whose
// node answers as another.
func (c *Cluster) answersOnce(ctx context.Context, info *directory.NodeInfo) (there, sure bool) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	body, _, err := c.net.CallAt(ctx, info.Address, uint8(wire.Ping), (&wire.PingRequest{}).Append(nil))
	var reply wire.PingReply
	if err != nil || reply.Decode(body) != nil || reply.Node != info.Name {
		return false, false
	}
	return reply.Life == info.Life, true
}

// forgotten says that req's replica was listed and is no more: it must not come
// again. Where this node's view does not have it, which may be from before it
// was listed, the leader of the directory is asked, by a command that can change
// nothing: the group has changed since epoch 1.
func (c *Cluster) forgotten(ctx context.Context, req *wire.JoinRequest) error {
	if _, _, there := c.Directory().Replica(req.Replica.ID); there || !req.Kept {
		return nil
	}
	result, err := c.ProposeDirectory(ctx, &directory.Command{SetReplica: &directory.SetReplica{
		Group: directory.DirectoryGroup, ID: req.Replica.ID, State: directory.Voter, Seen: 1}})
	if err == nil && result.Code == directory.NotFound {
		return errReplicaLeft
	}
	return err
}

// enlist returns the next command that makes req's directory replica the one
// of its node, nil if it is.
func (c *Cluster) enlist(req *wire.JoinRequest) (*directory.Command, error) {
	view := c.Directory()
	if _, r, there := view.Replica(req.Replica.ID); there && r.State == directory.Leaving {
		return nil, errReplicaLeft
	}
	for _, r := range view.Directory.Replicas {
		switch {
		case r.Node != req.Node || r.State == directory.Leaving:
		case r.ID == req.Replica.ID:
			return nil, nil
		default: // of a life or a replica that is over
			return &directory.Command{SetReplica: &directory.SetReplica{
				Group: directory.DirectoryGroup, ID: r.ID, State: directory.Leaving}}, nil
		}
	}
	return &directory.Command{AddReplica: &directory.AddReplica{Group: directory.DirectoryGroup, Seen: view.Epoch,
		Replica: directory.ReplicaInfo{ID: req.Replica.ID, Address: req.Replica.Address,
			Node: req.Node, Life: req.Life, State: directory.Preparing}}}, nil
}

// directoryVoters lists the living voters of the directory, for the book of
// another node, and says of which epoch they are.
func directoryVoters(view *directory.View) (epoch uint64, members []wire.Member) {
	for i := range view.Directory.Replicas {
		r := &view.Directory.Replicas[i]
		if n, there := view.Node(r.Node); there && view.Lives(r) && n.Seated() && r.State == directory.Voter && len(members) < wire.MaxMembers {
			members = append(members, wire.Member{ID: r.ID, Address: r.Address, Node: n.Name, Life: n.Life, NodeAddress: n.Address})
		}
	}
	return view.Epoch, members
}
