package cluster

import (
	"context"
	"net"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/gossip"
	"cloakroom/cluster/peer"
)

// What the gossip says of other nodes is taken for what it is. That a node
// answered a ping of this one counts as heard. That others still hear a node
// which this one does not is a reason to wait before it is replaced
// ([Cluster.spokenOf]). Nothing is decided by it, and all works without.

// newGossip makes the gossip of n, and has the port take connections for it.
func (n *network) newGossip(conf *peer.Config) error {
	c := n.c
	g, err := gossip.New(gossip.Config{
		Self: gossip.Member{Node: c.cfg.Node, Life: c.life}, Cluster: [16]byte(c.cfg.ClusterID),
		Members: c.gossipers, Now: c.cfg.Clock.Now, Logger: c.cfg.Logger,
		Heard: c.heardFrom,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.DialGossip(ctx, node) // the port is opened after this
		},
	})
	if err != nil {
		return err
	}
	n.gossip = g
	conf.Gossip = func(conn net.Conn, from peer.Peer) {
		g.Serve(conn, gossip.Member{Node: from.Node, Life: from.Life})
	}
	return nil
}

// gossipers lists the registered lives of all nodes.
func (c *Cluster) gossipers() []gossip.Member {
	nodes := c.Directory().Nodes
	members := make([]gossip.Member, 0, len(nodes))
	for i := range nodes {
		if nodes[i].Seated() {
			members = append(members, gossip.Member{Node: nodes[i].Name, Life: nodes[i].Life})
		}
	}
	return members
}

// heardFrom notes that a life of a node has answered, if it is the registered one.
func (c *Cluster) heardFrom(m gossip.Member) {
	if info, there := c.Directory().Node(m.Node); there && info.Life == m.Life {
		c.heard(m.Node, 0, 0, 0)
	}
}

// spokenOf reports whether word has it that the registered life of a node is
// alive: some node hears it, this one or another.
func (c *Cluster) spokenOf(info *directory.NodeInfo) bool {
	return c.net != nil && c.net.gossip != nil && c.net.gossip.Alive(gossip.Member{Node: info.Name, Life: info.Life})
}

// reprieve is how many times longer a silent node is waited for that others
// still hear: it may be this node that is cut off from it. Not for ever, since
// nobody who decides reaches it.
const reprieve = 3

// patience is for how many ticks a node may be silent before it is dead.
func (c *Cluster) patience(info *directory.NodeInfo, limit int64) int64 {
	if c.spokenOf(info) {
		return reprieve * limit
	}
	return limit
}

// gossip takes part in the gossip until the cluster closes. A node that was
// removed says so to the others, who then need not look for it.
func (c *Cluster) gossip() {
	g := c.net.gossip
	defer g.Close()
	if err := g.Start(); err != nil {
		c.cfg.Logger.Warn("no gossip: nodes are known by their own answers alone", "error", err)
		return
	}
	left := false
	for {
		changed := c.views.changed.Wait()
		if info, _ := c.Directory().Node(c.cfg.Node); info.State == directory.Removed && !left {
			left = true
			if err := g.Leave(); err != nil {
				c.cfg.Logger.Debug("the others were not told that this node is gone", "error", err)
			}
		}
		g.Look()
		select {
		case <-changed:
		case <-c.ctx.Done():
			return
		}
	}
}
