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

var (
	// errRolledBack says that the cluster knows a later start of this node's
	// folder: it was copied, or put back from a copy.
	errRolledBack = fmt.Errorf("the cluster knows a later start of this node: its folder was copied or rolled back: %w", cloakroom.ErrConflict)
	// errReplicaLeft says that the replica this node kept has left its group.
	errReplicaLeft = fmt.Errorf("the replica has left the group: %w", cloakroom.ErrConflict)
	// ErrRemoved says that the node is not of the cluster any more.
	ErrRemoved = fmt.Errorf("the node was removed from the cluster: %w", cloakroom.ErrDenied)
)

// refusedJoin are the errors that a node can do something about, by the reason
// that travels.
var refusedJoin = map[wire.JoinReason]error{
	wire.RolledBack: errRolledBack, wire.ReplicaLeft: errReplicaLeft, wire.NodeRemoved: ErrRemoved,
}

// reasonOf returns the reason that travels for an error.
func reasonOf(err error) wire.JoinReason {
	for reason, known := range refusedJoin {
		if errors.Is(err, known) {
			return reason
		}
	}
	return wire.NoReason
}

// comePause lies between two tries to be registered.
const comePause = 250 * time.Millisecond

// comeBack has this life of a node registered whose replica of the directory
// was kept, and returns when its own view shows it. Where the cluster knows
// better than the folder, a new replica takes the place of the one kept.
func (c *Cluster) comeBack(ctx context.Context, self replica.Identity) error {
	for {
		err := c.report(ctx, self)
		switch {
		case errors.Is(err, errRolledBack), errors.Is(err, errReplicaLeft):
			return c.beginAnew(ctx, err)
		case errors.Is(err, ErrRemoved):
			return err
		}
		soon, cancel := context.WithTimeout(ctx, comePause)
		seen := c.views.await(soon, c.shows)
		cancel()
		switch {
		case seen == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("come back: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// shows reports whether a view shows this life of the node.
func (c *Cluster) shows(v *directory.View) bool {
	n, there := v.Node(c.cfg.Node)
	return there && n.Life == c.life
}

// report asks once, here or at each of the others, for this life to be
// registered.
func (c *Cluster) report(ctx context.Context, self replica.Identity) error {
	if m, _ := c.desk.lead(); m != nil {
		req := c.joinRequest(self)
		own, err := c.cfg.Network.self(directory.NodeInfo{}, "")
		if err != nil {
			return err
		}
		return c.enrol(ctx, &req, own.Key)
	}
	var faults []error
	for _, addr := range c.acquaintances() {
		err := c.knockAt(ctx, addr, self)
		if err == nil {
			return nil
		}
		if reasonOf(err) != wire.NoReason {
			return err
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// acquaintances are the addresses of other nodes that may have the directory.
func (c *Cluster) acquaintances() []string {
	seen := map[string]bool{c.net.Addr(): true, "": true}
	var addrs []string
	add := func(addr string) {
		if !seen[addr] {
			seen[addr] = true
			addrs = append(addrs, addr)
		}
	}
	view := c.known()
	for i := range view.Nodes {
		if n := &view.Nodes[i]; n.Seated() && n.Name != c.cfg.Node {
			add(n.Address)
		}
	}
	for _, addr := range c.cfg.Network.Seeds {
		add(addr)
	}
	return addrs
}

// beginAnew gives up the replica that was kept, and joins with a new one.
func (c *Cluster) beginAnew(ctx context.Context, reason error) error {
	c.cfg.Logger.Warn("this node begins anew", "error", reason)
	if errors.Is(reason, errRolledBack) {
		boot, err := c.cfg.Disk.Raise(c.later.Load())
		if err != nil {
			return fmt.Errorf("count the start: %w", err)
		}
		c.started.Store(boot)
		c.net.SetBoot(boot)
	}
	c.dismiss(&c.desk.group, reason.Error())
	c.recalled.Store(nil)
	self, err := newIdentity(c.cfg.Rand)
	if err != nil {
		return err
	}
	m, err := c.startMember(&c.desk.group, self, false)
	if err != nil {
		return err
	}
	c.seat(&c.desk.group, m)
	return c.join(ctx, self)
}

// returning says why a node whose life is not registered may not speak for its
// durable replica of the directory: it has come back, and who registers it must
// be elected first. Its former life must be over, and the folder no copy.
func (n *network) returning(from peer.Peer, id string) error {
	view := n.c.known()
	info, there := view.Node(from.Node)
	g, r, known := view.Replica(id)
	switch {
	case !there || !info.Joined() || !known || g != directory.DirectoryGroup || r.Node != from.Node || !r.Durable:
		return errStranger
	case n.c.there(&info):
		return errStranger // the life before is there
	}
	return overtaken(&info, from)
}

// overtaken returns peer.ErrBoot if a later start of a node's folder is
// registered than the one that speaks, or the same one under another life.
func overtaken(info *directory.NodeInfo, who peer.Peer) error {
	if info.Boot > 0 && who.Life != info.Life && who.Boot <= info.Boot {
		return peer.ErrBoot
	}
	return nil
}

// meet says why the node where a replica was found may not be dealt with.
func (n *network) meet(at peer.Peer) error {
	info, _ := n.c.known().Node(at.Node)
	return overtaken(&info, at)
}
