package cluster

import (
	"slices"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/replica"
)

// Status is what an operator sees of the groups from this node.
type Status struct {
	// Ready: this node's replicas vote where they should, and every group has
	// a leader in sight.
	Ready     bool
	Node      string
	Life      string
	Directory GroupStatus
	// View is the lease of the directory's view here, and how many nodes hold one
	// that the replica of the directory here granted.
	View     LeaseStatus
	Shards   []ShardStatus // none before Start has returned
	Erasures int           // rows of the directory's ledger, in the replica here
	// ClockSkew: no majority of clocks agrees in a shard led here, or the only
	// one was set, so that nothing expires there.
	ClockSkew bool
	// DiskFull: the disk of this node's replica of the directory has so little
	// room left that, leading, it refuses all but what must not wait.
	DiskFull bool
}

// Role is what this node's replica of a group is.
type Role string

// The roles.
const (
	Absent     Role = "absent"      // none lives here
	CatchingUp Role = "catching-up" // it has no vote yet
	Follower   Role = "follower"
	Leader     Role = "leader"
	Parked     Role = "parked" // out of service, to be replaced
)

// GroupStatus is where one group stands, as seen from this node.
type GroupStatus struct {
	replica.Status        // of the local replica; zero if there is none
	Role           Role   // of the local replica
	Leader         string // node that leads, "" if unknown
	Members        []MemberStatus
	// Majority: of the voters, enough to go on were heard lately. Without, the
	// group answers nothing.
	Majority bool
	// Tolerates is how many more of the voters may be lost before the group
	// stops: those heard lately less a majority, never below 0.
	Tolerates int
	// Lag is how many entries the local replica knows committed and has not
	// applied.
	Lag uint64
}

// MemberStatus is one replica of a group.
type MemberStatus struct {
	Node  string
	Life  string                 // of the node, when it took the replica
	State directory.ReplicaState // what the directory says
	Alive bool                   // its node was heard lately
}

// ShardStatus is one shard's.
type ShardStatus struct {
	GroupStatus
	QueueBytes int // commands that wait here
	Lease      LeaseStatus
	Subjects   int // living
	Erased     int // marks of erased subjects
	Records    int // subject records, marks and field records
}

// LeaseStatus is the read lease of one replica, and what it granted.
type LeaseStatus struct {
	// Valid is how long the replica here may still answer reads by itself; 0:
	// it may not. A node that is alone needs no lease and has all of one.
	Valid time.Duration
	// Granted is how many replicas hold a lease that the replica here granted,
	// its own included.
	Granted int
}

// leaseStatus returns the leases of a shard as far as they are of this node.
func (c *Cluster) leaseStatus(s *shard) (l LeaseStatus) {
	m := s.member.Load()
	switch {
	case m == nil || !m.replica.InService():
	case c.net == nil:
		l.Valid = lease.Usable(c.leaseLength())
	default:
		now := c.uptime()
		l.Valid, l.Granted = max(m.lease.Until()-now, 0), m.table.Len(now)
	}
	return l
}

// Life returns what tells this start of the node from all others.
func (c *Cluster) Life() string { return c.life }

// Status returns where every group stands.
func (c *Cluster) Status() Status {
	s := Status{Node: c.cfg.Node, Life: c.life, ClockSkew: c.skewed.Load(), View: c.viewStatus()}
	var ready bool
	if m := c.desk.member.Load(); m != nil {
		s.Erasures = m.ledger.ErasureCount()
		s.DiskFull = m.replica.Full()
	}
	s.Directory, ready = c.groupStatus(&c.desk.group)
	shards := c.ready.Load()
	if shards == nil {
		return s
	}
	s.Ready = ready
	for _, shard := range *shards {
		status := ShardStatus{QueueBytes: shard.queue.size(), Lease: c.leaseStatus(shard)}
		status.GroupStatus, ready = c.groupStatus(&shard.group)
		status.Subjects, status.Erased, status.Records = c.count(shard)
		s.Ready = s.Ready && ready
		s.Shards = append(s.Shards, status)
	}
	return s
}

// count returns what the local replica of a shard holds.
func (c *Cluster) count(s *shard) (subjects, erased, records int) {
	c.reading.RLock()
	defer c.reading.RUnlock()
	if m := s.member.Load(); m != nil {
		if counting, ok := m.machine.(interface{ Count() (int, int, int) }); ok {
			return counting.Count()
		}
	}
	return 0, 0, 0
}

// groupStatus returns where a group stands, and whether this node's part in it
// is in order.
func (c *Cluster) groupStatus(g *group) (s GroupStatus, ready bool) {
	view := c.Directory()
	info, _ := view.Group(g.id)
	voters, present, here := 0, 0, false
	for i := range info.Replicas {
		r := &info.Replicas[i]
		node, _ := view.Node(r.Node)
		alive := view.Lives(r) && c.there(&node)
		s.Members = append(s.Members, MemberStatus{Node: r.Node, Life: r.Life, State: r.State, Alive: alive})
		if r.Node == c.cfg.Node && r.State != directory.Leaving {
			here = true
		}
		if r.State == directory.Preparing {
			continue
		}
		voters++ // one that leaves counts until it is gone
		if alive && r.State == directory.Voter {
			present++
		}
	}
	s.Majority, s.Tolerates = present >= voters/2+1, max(0, present-(voters/2+1))
	s.Role = Absent
	if m := g.member.Load(); m != nil {
		s.Status = m.replica.Status()
		s.Role, s.Lag = roleOf(m)
		s.Leader = c.leaderNode(g, m)
	} else if hint := g.hint.Load(); hint != nil {
		s.Leader = *hint
	}
	fit := s.Role == Leader || s.Role == Follower || s.Role == Absent && !here ||
		s.Role == CatchingUp && voters >= view.Settings.Replication // a learner has nothing to wait for
	return s, fit && s.Leader != ""
}

// leaderNode returns the node that leads as m knows it, "" if it knows none.
func (c *Cluster) leaderNode(g *group, m *member) string {
	if m.replica.Leads() {
		return c.cfg.Node
	}
	if id, known := g.leader(); known && id.ID != m.self.ID {
		return c.nodeOf(id.ID)
	}
	return ""
}

// roleOf returns what m is in its group, and how far it is behind.
func roleOf(m *member) (Role, uint64) {
	p := m.replica.Progress()
	lag := p.Commit - min(p.Commit, p.Applied)
	switch {
	case !m.serves():
		return Parked, lag
	case m.replica.Leads():
		return Leader, 0
	}
	if m.votes() {
		return Follower, lag
	}
	return CatchingUp, lag
}

// votes reports whether m has a vote, as far as it knows.
func (m *member) votes() bool {
	_, members, err := m.replica.Members()
	return err == nil && slices.ContainsFunc(members, func(o replica.Member) bool { return o.ID == m.self.ID && o.Voter })
}
