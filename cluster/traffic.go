package cluster

import (
	"sync/atomic"
	"time"

	"cloakroom/cluster/wire"
)

// Traffic is what passes between this node and the others, counted since the
// start. All of it is empty where there is one node.
type Traffic struct {
	Connections int               // open at the cluster port
	Calls       map[string]uint64 // made from here, by method: propose and read are requests taken to a leader elsewhere
	Refused     map[string]uint64 // handshakes refused here, by reason
	Clocks      []ClockStatus
	// LeaseFailures are leases that replicas here asked a leader for and did
	// not get.
	LeaseFailures uint64
	// ViewFailures are leases of the directory's view that this node asked for
	// and did not get.
	ViewFailures uint64
	// Spoken is how many other nodes the gossip has alive.
	Spoken int
	// GossipDropped are packets of gossip that found no way.
	GossipDropped uint64
}

// ClockStatus is how a node's clock looked from here when it last answered.
type ClockStatus struct {
	Node   string
	Ahead  time.Duration // of the clock here
	Before time.Duration // since then
}

// calls counts calls by their method.
type calls [wire.Last + 1]atomic.Uint64

func (c *calls) count(m wire.Method) {
	if int(m) < len(c) {
		c[m].Add(1)
	}
}

// Traffic returns the counters.
func (c *Cluster) Traffic() Traffic {
	t := Traffic{Calls: map[string]uint64{}, Refused: map[string]uint64{}}
	if c.net == nil {
		return t
	}
	stats := c.net.Stats()
	t.LeaseFailures, t.ViewFailures = c.leases.failed.Load(), c.viewing.failed.Load()
	t.Connections, t.Refused = stats.Connections, stats.Refused
	for m := wire.Join; m <= wire.Last; m++ {
		t.Calls[m.String()] = c.net.calls[m].Load()
	}
	if c.net.gossip != nil {
		spoken := c.net.gossip.Stats()
		t.Spoken, t.GossipDropped = spoken.Alive, spoken.Dropped
	}
	for _, r := range c.rounds.Clocks() {
		t.Clocks = append(t.Clocks, ClockStatus{Node: r.Node, Ahead: r.Offset, Before: r.Age})
	}
	return t
}
