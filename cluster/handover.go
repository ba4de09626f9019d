package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// handOverTime bounds the giving away of all leads at Close.
const handOverTime = time.Second

// errands counts the changes that other nodes have had this one make.
type errands struct{ began, ended atomic.Int64 }

func (e *errands) begin() { e.began.Add(1) }
func (e *errands) end()   { e.ended.Add(1) }

const (
	// quiet is how long no errand must come for the port to close: whoever asks
	// knows the new leaders by then, and the last answers are on their way.
	quiet = 50 * time.Millisecond
	// quietTries bounds the waiting for it.
	quietTries = 10
)

// quieten waits until nobody asks this node for changes any more: who has asked
// and loses the connection before the answer must say that the outcome is
// unknown.
func (c *Cluster) quieten() {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for range quietTries {
		began := c.errands.began.Load()
		<-timer.C
		timer.Reset(quiet)
		if now := c.errands.began.Load(); now == began && c.errands.ended.Load() == now {
			return
		}
	}
}

// handOver gives away every lead that another node can take, all at once, so
// that an orderly end costs nobody an election.
func (c *Cluster) handOver(shards []*shard) {
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	groups := []*group{&c.desk.group}
	for _, s := range shards {
		groups = append(groups, &s.group)
	}
	given := make(map[string]int) // :: node → leads it was given
	var wg sync.WaitGroup
	for _, g := range groups {
		m, _ := g.lead()
		if m == nil {
			continue
		}
		if to, ok := c.successorOf(m, given); ok {
			wg.Go(func() { m.replica.TransferLead(ctx, to) }) //nolint:errcheck // an election will do
		}
	}
	wg.Wait()
}

// successor returns a voter of the group that may take m's lead.
func (c *Cluster) successor(m *member) (replica.Identity, bool) {
	return c.successorOf(m, make(map[string]int))
}

// successorOf returns a voter of the group that may take m's lead: another one
// that does not leave, on a node that was heard lately; not on one that is
// draining if there is another, and on the one that was given the fewest. It
// counts its choice.
func (c *Cluster) successorOf(m *member, given map[string]int) (best replica.Identity, found bool) {
	_, members, err := m.replica.Members()
	if err != nil {
		return replica.Identity{}, false
	}
	view := c.Directory()
	var on directory.NodeInfo
	better := func(node *directory.NodeInfo) bool {
		if willing := node.State != directory.Draining; found && willing != (on.State != directory.Draining) {
			return willing
		}
		return !found || given[node.Name] < given[on.Name]
	}
	for _, other := range members {
		_, r, known := view.Replica(other.ID)
		node, there := view.Node(r.Node)
		if other.Voter && other.ID != m.self.ID && known && there && r.State != directory.Leaving &&
			view.Lives(&r) && c.there(&node) && better(&node) {
			best, on, found = other.Identity, node, true
		}
	}
	if found {
		given[on.Name]++
	}
	return best, found
}
