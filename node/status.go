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
// how many there are.
type status struct {
	Version  string               `json:"version"`
	Go       string               `json:"go"`
	Cluster  string               `json:"cluster"`
	Ready    bool                 `json:"ready"`
	Recovery string               `json:"recovery"`
	Memory   securemem.Status     `json:"memory"`
	Arena    securemem.ArenaStats `json:"arena"`
	Pool     securemem.PoolStats  `json:"pool"`
	Keyring  keyringStatus        `json:"keyring"`
	Schema   uint32               `json:"schema_epoch"`
	Shards   cluster.Status       `json:"groups"`
}

// keyringStatus says which keyring is in force, and nothing of its keys.
type keyringStatus struct {
	Version uint64 `json:"version"`
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
	view := n.cluster.Directory()
	return mustJSON(status{
		Version: Version(), Go: runtime.Version(), Cluster: view.ClusterID.String(), Ready: n.ready.Load(),
		Recovery: view.Settings.RecoveryMode,
		Memory:   n.memory.Status(), Arena: n.memory.Arena().Stats(), Pool: n.memory.Pool().Stats(),
		Keyring: keyringStatus{n.keys.Version()}, Schema: view.Schema.Epoch, Shards: n.cluster.Status(),
	}), nil
}
