package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/internal/simnet"
)

// simScene is one shard at a moment when it has a leader, and who is who there.
// What rules of leases and of the erasure's barrier are for happens in a few
// scenes: each fault here plays one of them.
type simScene struct {
	w       *simWorld
	d       *rand.Rand
	shard   cloakroom.ShardID
	leader  *simNode
	others  []*simNode // the other voters' nodes
	away    []*simNode // nodes without a replica
	subject int        // of this scene alone, at first
	c       *simClient
}

// scene sets one up: a shard with a leader and at least two other voters on
// nodes that are up, and a subject that has just been deposited and that all
// know. nil if there is none now.
func (w *simWorld) scene(seed uint64) *simScene {
	d := rand.New(rand.NewPCG(w.seed, seed))
	shard := cloakroom.ShardID(d.IntN(w.shards))
	at := w.leader(shard)
	if at < 0 {
		return nil
	}
	s := &simScene{w: w, d: d, shard: shard, leader: w.nodes[at]}
	s.c = s.client(s.leader)
	info, _ := s.leader.serves().Directory().Group(directory.ShardGroup(shard))
	voters := make(map[string]bool)
	for _, r := range info.Replicas {
		voters[r.Node] = voters[r.Node] || r.State == directory.Voter
	}
	for _, n := range w.nodes {
		votes, there := voters[n.name]
		switch {
		case n == s.leader || n.serves() == nil:
		case votes:
			s.others = append(s.others, n)
		case !there:
			s.away = append(s.away, n)
		}
	}
	if len(s.others) < 2 || !s.deposit(time.Second) {
		return nil
	}
	<-time.After(30 * time.Millisecond) // then it is applied everywhere
	return s
}

// serves returns the cluster of a node that serves, nil if it does not.
func (n *simNode) serves() *Cluster {
	if l := n.alive(); l != nil {
		return l.serving.Load()
	}
	return nil
}

// client returns one that works for the scene.
func (s *simScene) client(n *simNode) *simClient {
	c := s.w.reader(n)
	c.name, c.draw = "s-"+n.name, rand.New(rand.NewPCG(s.d.Uint64(), 1))
	return c
}

// third returns the voter's node that is neither the leader's nor n.
func (s *simScene) third(n *simNode) *simNode {
	for _, other := range s.others {
		if other != n {
			return other
		}
	}
	return n
}

// awaitPhase waits until so much of a second is over since the world began. In
// a world where nothing else happens nodes tick at its full seconds and ask for
// leases at its halves.
func (s *simScene) awaitPhase(of time.Duration) {
	now := time.Since(s.w.truth.begin) % time.Second
	<-time.After((of - now + time.Second) % time.Second)
}

// slower returns the one of the other voters' nodes whose time goes slower.
func (s *simScene) slower() *simNode {
	if a, b := s.others[0], s.others[1]; a.uptime().rate < b.uptime().rate {
		return a
	}
	return s.others[1]
}

// deposit writes a subject of the shard that nobody worked on before.
func (s *simScene) deposit(limit time.Duration) bool {
	for s.subject == 0 || s.w.shardOf(s.subject) != s.shard {
		s.subject = int(s.w.subjects.Add(1))
	}
	return s.put(limit)
}

// put replaces the subject at the leader's node.
func (s *simScene) put(limit time.Duration) bool {
	l := s.leader.alive()
	if l == nil || l.serving.Load() == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	before := s.c.known[s.subject]
	s.c.put(ctx, l, s.subject, false)
	return s.c.known[s.subject] != before
}

// erase erases the subject at a node, and waits so long for the barrier. It
// returns a channel that is closed when that is over.
func (s *simScene) erase(n *simNode, patience time.Duration) (over chan struct{}) {
	over = make(chan struct{})
	c := s.client(n)
	c.patience = patience
	s.w.faulting.Go(func() { // ends with its patience
		defer close(over)
		l := n.alive()
		if l == nil || l.serving.Load() == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c.erase(ctx, l, s.subject)
	})
	return over
}

// gaze has somebody read the subject at a node under leases, all the time.
func (s *simScene) gaze(n *simNode, lasts time.Duration) { s.stare(n, []int{s.subject}, lasts) }

// stare is gaze at several subjects.
func (s *simScene) stare(n *simNode, subjects []int, lasts time.Duration) {
	s.watch(n, n.alive, subjects, lasts)
}

// haunt is gaze at a life, whether it is over or not.
func (s *simScene) haunt(l *simLife, lasts time.Duration) {
	s.watch(l.node, func() *simLife { return l }, []int{s.subject}, lasts)
}

func (s *simScene) watch(n *simNode, life func() *simLife, subjects []int, lasts time.Duration) {
	end := time.Now().Add(lasts)
	c := s.client(n)
	s.w.faulting.Go(func() { // ends with lasts
		for time.Now().Before(end) {
			<-time.After(between(c.draw, time.Millisecond, 12*time.Millisecond))
			if l := life(); l != nil && l.serving.Load() != nil {
				c.glance(l, subjects)
			}
		}
	})
}

// glance reads under a lease that is there: it does not wait long.
func (c *simClient) glance(l *simLife, subjects []int) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
	defer cancel()
	c.read(ctx, l, cloakroom.Lease, subjects...)
}

// leave cuts a node off from all others.
func (s *simScene) leave(n *simNode, cut simnet.Cut) {
	for i, other := range s.w.nodes {
		if other == n {
			s.w.isolate(i, cut)
		}
	}
	n.alone.Store(s.w.brief && cut != simnet.Open)
}

// back opens all links of a node.
func (s *simScene) back(n *simNode) { s.leave(n, simnet.Open) }

// remove takes a node's replica out of the shard by way of the directory, and
// reports whether its leader has done so.
func (s *simScene) remove(n *simNode, limit time.Duration) bool {
	c, group := s.leader.serves(), directory.ShardGroup(s.shard)
	l := n.alive()
	if c == nil || l == nil || !s.w.canLose(l, &group) {
		return false
	}
	s.w.removing.Add(1) // nothing else may go now
	defer s.w.removing.Add(-1)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	id := s.replicaOn(c, n)
	result, err := c.ProposeDirectory(ctx, &directory.Command{SetReplica: &directory.SetReplica{
		Group: group, ID: id, State: directory.Leaving}})
	if err != nil || result.Err() != nil {
		return false
	}
	return s.w.soon(limit, func() bool {
		m := c.group(group).member.Load()
		if m == nil {
			return false
		}
		prev, members, err := m.replica.Members()
		for i := range members {
			if members[i].ID == id {
				return false
			}
		}
		return err == nil && m.replica.Progress().Commit >= prev
	})
}

// replicaOn returns the identity of a node's replica of the shard that does not
// leave, "" if there is none.
func (s *simScene) replicaOn(c *Cluster, n *simNode) string {
	info, _ := c.Directory().Group(directory.ShardGroup(s.shard))
	for _, r := range info.Replicas {
		if r.Node == n.name && r.State != directory.Leaving {
			return r.ID
		}
	}
	return ""
}

// learner gives a node that has none a replica of the shard without a vote, and
// reports whether it is up to date.
func (s *simScene) learner(n *simNode, limit time.Duration) bool {
	c, group := s.leader.serves(), directory.ShardGroup(s.shard)
	there := n.serves()
	if c == nil || there == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	self, err := newIdentity(c.cfg.Rand)
	if err != nil {
		return false
	}
	view := c.Directory()
	node, _ := view.Node(n.name)
	result, err := c.ProposeDirectory(ctx, &directory.Command{AddReplica: &directory.AddReplica{Group: group, Seen: view.Epoch,
		Replica: directory.ReplicaInfo{ID: self.ID, Address: self.Addr, Node: n.name, Life: node.Life, State: directory.Preparing}}})
	if err != nil || result.Err() != nil {
		return false
	}
	return s.w.soon(limit, func() bool {
		m, lead := there.group(group).member.Load(), c.group(group).member.Load()
		return m != nil && lead != nil && m.self.ID == self.ID && m.replica.Progress().Applied >= lead.replica.Progress().Applied
	})
}

// soon is until in short steps.
func (w *simWorld) soon(d time.Duration, fine func() bool) bool {
	end := time.Now().Add(d)
	for !fine() {
		if time.Now().After(end) {
			return false
		}
		<-time.After(time.Millisecond)
	}
	return true
}

// follows reports whether a node's replica of the shard knows its leader.
func (s *simScene) follows(n *simNode) bool {
	c := n.serves()
	if c == nil {
		return false
	}
	_, known := c.group(directory.ShardGroup(s.shard)).leader()
	return known
}

// slows has a node's replica of the shard take so long for each entry.
func (s *simScene) slows(n *simNode, d time.Duration) {
	if l := n.alive(); l != nil {
		if m := l.machineOf(s.shard); m != nil {
			m.slow.Store(int64(d))
		}
	}
}

// holds has a node's replica of the shard apply nothing for a while.
func (s *simScene) holds(n *simNode, d time.Duration) {
	if l := n.alive(); l != nil {
		if m := l.machineOf(s.shard); m != nil {
			m.held.stay(d)
		}
	}
}

func (s *simScene) String() string { return fmt.Sprintf("shard %d, led by %s", s.shard, s.leader.name) }
