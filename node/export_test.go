package node

import (
	"context"

	"cloakroom/cluster/directory"
)

// Revoke revokes a principal as the directory would be told to.
func (n *Node) Revoke(ctx context.Context, name string) error {
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{RevokePrincipal: &directory.RevokePrincipal{Name: name}})
	if err != nil {
		return err
	}
	return result.Err()
}

// AuditLines returns what the audit log keeps in memory.
func (n *Node) AuditLines() string { return string(n.audit.Recent(nil)) }

// MetricNames returns the names of the catalogue as Prometheus prints them.
func MetricNames() []string {
	names := make([]string, len(catalogue))
	for i, desc := range catalogue {
		names[i] = desc.String()
	}
	return names
}
