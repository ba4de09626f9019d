package node

import (
	"context"
	"runtime"

	"cloakroom/cluster"
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
	Ready    bool             `json:"ready"`
	Recovery string           `json:"recovery"`
	Subjects int              `json:"subjects"`
	Erased   int              `json:"erased"`
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

// groupsStatus is where the Raft groups stand.
type groupsStatus struct {
	Directory groupStatus   `json:"directory"`
	Shards    []shardStatus `json:"shards"`
}

type groupStatus struct {
	Leading    bool   `json:"leading"`
	Generation uint32 `json:"generation"`
	Term       uint64 `json:"term"`
	Applied    uint64 `json:"applied"`
	LogBytes   int    `json:"log_bytes"`
	Tolerates  int    `json:"tolerates"` // lost replicas it goes on without
	Parked     string `json:"parked,omitempty"`
}

type shardStatus struct {
	Shard int `json:"shard"`
	groupStatus
	QueueBytes int `json:"queue_bytes"`
	Subjects   int `json:"subjects"`
	Erased     int `json:"erased"`
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
	view := n.cluster.Directory()
	arena, pool, log := n.memory.Arena().Stats(), n.memory.Pool().Stats(), n.audit.Stats()
	s := status{
		Version: Version(), Go: runtime.Version(), Cluster: view.ClusterID.String(), Ready: n.ready.Load(),
		Recovery: view.Settings.RecoveryMode, Schema: view.Schema.Epoch, Keyring: n.keys.Version(),
		Memory:       n.memory.Status(),
		Arena:        arenaStatus{arena.Limit, arena.Mapped, arena.Used, arena.Free, arena.Fragmentation},
		Pool:         poolStatus{pool.Total, pool.InUse, pool.Waiting, pool.Refused},
		Audit:        auditStatus{log.Entries, log.Denied, log.Lost},
		groupsStatus: n.groups(),
	}
	for i := range s.Shards {
		s.Subjects += s.Shards[i].Subjects
		s.Erased += s.Shards[i].Erased
	}
	return s
}

// groups returns where the Raft groups of this node stand.
func (n *Node) groups() groupsStatus {
	all := n.cluster.Status()
	s := groupsStatus{Directory: groupOf(&all.Directory), Shards: make([]shardStatus, len(all.Shards))}
	for i := range all.Shards {
		shard := &all.Shards[i]
		s.Shards[i] = shardStatus{
			Shard: i, groupStatus: groupOf(&shard.GroupStatus), QueueBytes: shard.QueueBytes,
			Subjects: shard.Subjects, Erased: shard.Erased,
		}
	}
	return s
}

// groupOf describes a group of one voter, which tolerates no loss.
func groupOf(s *cluster.GroupStatus) groupStatus {
	return groupStatus{
		Leading: s.Leading, Generation: s.Generation, Term: s.Term,
		Applied: s.Applied, LogBytes: s.LogBytes, Parked: s.Parked,
	}
}
