package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// keeping is what looking after this node's replica of a group remembers.
type keeping struct {
	c *Cluster
	g *group

	known string               // the replica that the directory was last seen to list
	nodes []directory.NodeInfo // that connections were last reviewed by

	since   int64 // tick of the last start
	strikes int   // lives in a row that ended soon after their start

	silent int   // ticks in a row without a leader of the directory in sight
	last   int64 // the tick counted last

	leader string // of the group, a replica's ID
}

// follow asks for a lease when somebody else leads the group than before, and
// notes in a new leader's table when it began to lead.
func (k *keeping) follow() {
	m := k.g.member.Load()
	if m == nil || m.machine == nil {
		return // no shard
	}
	if node := k.c.leaderNode(k.g, m); node != "" {
		k.g.remember(node) // for when there is no replica here any more
	}
	leader := ""
	if term, ok := m.replica.Lead(); ok {
		m.table.Lead(term, k.c.uptime())
		leader = m.self.ID
	} else if id, known := m.replica.Leader(); known && id.ID != m.self.ID {
		leader = id.ID
	}
	if leader != k.leader {
		k.leader = leader
		k.c.leases.wanted.Ring()
	}
}

// keep brings this node's replica to what the directory says and returns when
// to look again.
func (k *keeping) keep(ctx context.Context) time.Duration {
	c, g := k.c, k.g
	if c.net == nil {
		return whenever // alone: nothing ever changes
	}
	k.begun()
	m := g.member.Load()
	want, listed := c.wanted(g, m)
	if m == nil {
		return k.begin(ctx, want)
	}
	if listed && k.known != m.self.ID {
		k.known = m.self.ID
		if g.id == directory.DirectoryGroup {
			c.listedID.Store(&m.self.ID)
		}
	}
	switch {
	case !m.serves():
		return k.replace(ctx, m)
	case k.known == m.self.ID && !listed, want != nil && want.ID != m.self.ID:
		c.dismiss(g, "the directory has it no more") // dropped, or superseded
		return atOnce
	case g.id == directory.DirectoryGroup:
		return k.seek(ctx, m)
	}
	return whenever
}

// review has the port cut the connections of lives that are over.
func (k *keeping) review() {
	if k.c.net == nil {
		return
	}
	if nodes := k.c.Directory().Nodes; !slices.Equal(nodes, k.nodes) {
		k.nodes = nodes
		k.c.net.Review()
	}
}

// wanted returns the replica of g that this life of the node should have, nil
// if none, and whether the directory lists m in any state. A replica that ran
// here before m is not wanted any more: the view is old, as it is while a
// replica of the directory that this node drew itself has yet to be listed.
func (c *Cluster) wanted(g *group, m *member) (want *directory.ReplicaInfo, listed bool) {
	info, _ := c.Directory().Group(g.id)
	for i := range info.Replicas {
		r := &info.Replicas[i]
		mine := m != nil && r.ID == m.self.ID
		listed = listed || mine
		if r.Node == c.cfg.Node && r.State != directory.Leaving && (mine || r.Life == c.life && !c.isSpent(r.ID)) {
			want = r
		}
	}
	return want, listed
}

// begin brings a replica here where there is none. Without one of the
// directory no view would ever name another.
func (k *keeping) begin(ctx context.Context, want *directory.ReplicaInfo) time.Duration {
	switch {
	case want != nil && want.State == directory.Voter:
		return k.lead(ctx, replica.Identity{ID: want.ID, Addr: want.Address}) // no voter was ever started before it was preparing
	case want != nil:
		return k.start(replica.Identity{ID: want.ID, Addr: want.Address})
	case k.g.id == directory.DirectoryGroup:
		return k.rejoin(ctx)
	}
	return whenever
}

// start starts a replica that waits to be contacted.
func (k *keeping) start(self replica.Identity) time.Duration {
	m, err := k.c.startMember(k.g, self, false)
	if err != nil {
		k.c.trouble(k.g, "replica not started", err)
		return whenever
	}
	k.since = k.c.ticked.Load()
	k.c.seat(k.g, m)
	return atOnce
}

const (
	// soon is how many ticks a replica must live for the next one not to wait.
	soon = 60
	// maxWait is the longest that a replica waits for its successor, in ticks.
	maxWait = 64
)

// early reports whether it is too early to replace a parked replica. One that
// fails again and again, because memory is short, must not have the whole
// state sent to it once a second: each time it waits twice as long.
func (k *keeping) early() bool {
	return k.c.ticked.Load()-k.since < min(int64(1)<<k.strikes-1, maxWait)
}

// replaced counts a life that has ended.
func (k *keeping) replaced() {
	if k.c.ticked.Load()-k.since < soon {
		k.strikes = min(k.strikes+1, 10)
	} else {
		k.strikes = 0
	}
}

// replace sees to it that a parked replica leaves and makes room for a new
// one. The last voter stays as it is: it has nobody to catch up from.
func (k *keeping) replace(ctx context.Context, m *member) time.Duration {
	if k.early() {
		return whenever
	}
	if k.g.id == directory.DirectoryGroup {
		if len(k.c.others()) > 0 {
			k.replaced()
			k.c.dismiss(k.g, "the replica was parked")
			return atOnce
		}
		return whenever
	}
	err := k.c.step(ctx, &directory.Command{SetReplica: &directory.SetReplica{
		Group: k.g.id, ID: m.self.ID, State: directory.Leaving}})
	if err != nil && !errors.Is(err, cloakroom.ErrNotFound) {
		k.c.trouble(k.g, "parked replica stays", err)
		return whenever
	}
	k.replaced()
	k.c.retire(k.g)
	return atOnce
}

// rejoin brings a new replica of the directory here. This node sees no new
// view without one, so it draws the identity itself and knocks like a new node.
func (k *keeping) rejoin(ctx context.Context) time.Duration {
	if len(k.c.others()) == 0 {
		return whenever
	}
	self, err := newIdentity(k.c.cfg.Rand)
	if err != nil {
		k.c.trouble(k.g, "replica not replaced", err)
		return whenever
	}
	if k.start(self) == atOnce {
		k.visit(ctx, self) //nolint:errcheck // it was told, and knocks again
	}
	return whenever
}

// maxSilence is how many ticks the directory may be without a leader in sight
// before its whereabouts are asked for.
const maxSilence = 3

// seek looks for the leader of the directory where the own view may be too
// old to let it in: it came back with a life this node has not heard of.
func (k *keeping) seek(ctx context.Context, m *member) time.Duration {
	tick := k.c.ticked.Load()
	if tick == k.last {
		return whenever
	}
	k.last = tick
	if _, known := m.replica.Leader(); known {
		k.silent = 0
		return whenever
	}
	if k.silent++; k.silent >= maxSilence {
		k.silent = 0
		if errors.Is(k.visit(ctx, m.self), errReplicaLeft) && m.self.ID == k.known {
			k.c.dismiss(k.g, "the replica has left the directory, and was not told")
			return atOnce
		}
	}
	return whenever
}

// visit knocks once at every other node that holds a voter of the directory,
// until one answers or knows that the replica has left.
func (k *keeping) visit(ctx context.Context, self replica.Identity) error {
	var last error
	for _, addr := range k.c.others() {
		last = k.c.knockAt(ctx, addr, self)
		if last == nil || errors.Is(last, errReplicaLeft) {
			return last
		}
		if ctx.Err() == nil {
			k.c.trouble(k.g, "directory not found", last)
		}
	}
	return last
}

// others returns the addresses of the nodes with a voter of the directory, but
// for this one.
func (c *Cluster) others() []string {
	var addrs []string
	_, voters := directoryVoters(c.Directory())
	for _, m := range voters {
		if m.Node != c.cfg.Node {
			addrs = append(addrs, m.NodeAddress)
		}
	}
	return addrs
}
