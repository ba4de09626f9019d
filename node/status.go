package node

import (
	"context"
	"runtime"

	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/securemem"
)

// status is what an operator sees of the node: nothing about any subject but
// how many there are. Sizes are in bytes.
type status struct {
	Version  string           `json:"version"`
	Go       string           `json:"go"`
	Cluster  string           `json:"cluster"`
	Nodes    []nodeStatus     `json:"nodes"`
	Ready    bool             `json:"ready"`
	Recovery string           `json:"recovery"`
	Subjects int              `json:"subjects"`
	Erased   int              `json:"erased"`
	Ledger   int              `json:"ledger"` // erasures recorded, in the replica of the directory here
	Schema   uint32           `json:"schema_epoch"`
	Keyring  uint64           `json:"keyring_version"`
	Memory   securemem.Status `json:"memory"`
	Arena    arenaStatus      `json:"arena"`
	Pool     poolStatus       `json:"pool"`
	Audit    auditStatus      `json:"audit"`
	groupsStatus
}

type arenaStatus struct {
	Limit         int64   `json:"limit"`
	Mapped        int64   `json:"mapped"`
	Used          int64   `json:"used"`
	Free          int64   `json:"free"`
	Fragmentation float64 `json:"fragmentation"` // free slots in mapped chunks, as a share
}

type poolStatus struct {
	Total   int    `json:"total"`
	InUse   int    `json:"in_use"`
	Waiting int    `json:"waiting"` // requests in line
	Refused uint64 `json:"refused"` // requests since the start
}

type auditStatus struct {
	Entries uint64 `json:"entries"`
	Denied  uint64 `json:"denied"`
	Lost    uint64 `json:"lost"`
}

// groupsStatus is where the Raft groups stand, as this node sees it.
type groupsStatus struct {
	Node      string        `json:"node"`
	ClockSkew bool          `json:"clock_skew"` // clocks disagree: nothing expires in a shard led here
	ViewMS    int64         `json:"view_ms"`    // how long requests may still be decided by the view of the directory here
	Directory groupStatus   `json:"directory"`
	Shards    []shardStatus `json:"shards"`
}

// nodeStatus is one registered node.
type nodeStatus struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"` // of its cluster port
	Alive   bool   `json:"alive"`             // heard lately
}

type groupStatus struct {
	Leader     string         `json:"leader,omitempty"` // node; absent while nobody is known to lead
	Role       string         `json:"role"`             // of the replica here
	Leading    bool           `json:"leading"`
	Majority   bool           `json:"majority"`  // of the voters, enough to go on were heard lately
	Tolerates  int            `json:"tolerates"` // further replicas it goes on without
	Members    []memberStatus `json:"members"`
	Generation uint32         `json:"generation"`
	Term       uint64         `json:"term"`
	Applied    uint64         `json:"applied"`
	Lag        uint64         `json:"lag"` // entries known committed and not applied here
	LogBytes   int            `json:"log_bytes"`
	Parked     string         `json:"parked,omitempty"`
}

// memberStatus is one replica of a group.
type memberStatus struct {
	Node  string `json:"node"`
	State string `json:"state"` // preparing, voter or leaving
	Alive bool   `json:"alive"`
}

type shardStatus struct {
	Shard int `json:"shard"`
	groupStatus
	QueueBytes int   `json:"queue_bytes"`
	LeaseMS    int64 `json:"lease_ms"` // how long the replica here may still answer reads by itself
	Leases     int   `json:"leases"`   // granted by the replica here
	Subjects   int   `json:"subjects"` // in the replica here
	Erased     int   `json:"erased"`
}

// Status returns the operator's view of the node, as JSON.
func (n *Node) Status(ctx context.Context, req *api.Request) ([]byte, error) {
	c := req.Caller.(*caller)
	entry, err := n.operate(ctx, req, c, policy.Status)
	if err != nil {
		return nil, err
	}
	entry.Outcome = outcomeOf(nil)
	if err := n.audit.Write(ctx, &entry); err != nil {
		return nil, err
	}
	return mustJSON(n.status()), nil
}

func (n *Node) status() status {
	view, all := n.cluster.Directory(), n.cluster.Status()
	arena, pool, log := n.memory.Arena().Stats(), n.memory.Pool().Stats(), n.audit.Stats()
	s := status{
		Version: Version(), Go: runtime.Version(), Cluster: view.ClusterID.String(), Ready: n.ready.Load(),
		Nodes:    nodesOf(view, &all),
		Recovery: view.Settings.RecoveryMode, Schema: view.Schema.Epoch, Keyring: n.keys.Version(),
		Ledger:       all.Erasures,
		Memory:       n.memory.Status(),
		Arena:        arenaStatus{arena.Limit, arena.Mapped, arena.Used, arena.Free, arena.Fragmentation},
		Pool:         poolStatus{pool.Total, pool.InUse, pool.Waiting, pool.Refused},
		Audit:        auditStatus{log.Entries, log.Denied, log.Lost},
		groupsStatus: groups(&all),
	}
	for i := range s.Shards {
		s.Subjects += s.Shards[i].Subjects
		s.Erased += s.Shards[i].Erased
	}
	return s
}

// groups returns where the Raft groups stand.
func groups(all *cluster.Status) groupsStatus {
	s := groupsStatus{
		Node: all.Node, ClockSkew: all.ClockSkew, ViewMS: all.View.Valid.Milliseconds(),
		Directory: groupOf(&all.Directory), Shards: make([]shardStatus, len(all.Shards)),
	}
	for i := range all.Shards {
		shard := &all.Shards[i]
		s.Shards[i] = shardStatus{
			Shard: i, groupStatus: groupOf(&shard.GroupStatus), QueueBytes: shard.QueueBytes,
			LeaseMS: shard.Lease.Valid.Milliseconds(), Leases: shard.Lease.Granted,
			Subjects: shard.Subjects, Erased: shard.Erased,
		}
	}
	return s
}

// nodesOf lists the registered nodes. One is alive if any of its replicas was
// heard of lately.
func nodesOf(view *directory.View, all *cluster.Status) []nodeStatus {
	alive := map[string]bool{all.Node: true}
	note := func(g *cluster.GroupStatus) {
		for _, m := range g.Members {
			alive[m.Node] = alive[m.Node] || m.Alive
		}
	}
	note(&all.Directory)
	for i := range all.Shards {
		note(&all.Shards[i].GroupStatus)
	}
	list := make([]nodeStatus, len(view.Nodes))
	for i, node := range view.Nodes {
		list[i] = nodeStatus{node.Name, node.Address, alive[node.Name]}
	}
	return list
}

func groupOf(s *cluster.GroupStatus) groupStatus {
	g := groupStatus{
		Leader: s.Leader, Role: string(s.Role), Leading: s.Role == cluster.Leader, Majority: s.Majority, Tolerates: s.Tolerates,
		Members: make([]memberStatus, len(s.Members)), Generation: s.Generation, Term: s.Term,
		Applied: s.Applied, Lag: s.Lag, LogBytes: s.LogBytes, Parked: s.Parked,
	}
	for i, m := range s.Members {
		g.Members[i] = memberStatus{m.Node, string(m.State), m.Alive}
	}
	return g
}
