package node

import (
	"context"
	"encoding/base64"
	"fmt"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/node/operator"
)

// Nodes lists the nodes of the cluster, removed ones included, as this one sees
// them.
func (n *Node) Nodes(ctx context.Context) ([]operator.Node, error) {
	if n.cluster == nil {
		return nil, cloakroom.ErrStarting
	}
	view, leads := n.cluster.Directory(), map[string]int{}
	for _, node := range n.cluster.Leaders() {
		leads[node]++
	}
	list := make([]operator.Node, 0, len(view.Nodes))
	for i := range view.Nodes {
		info := &view.Nodes[i]
		node := operator.Node{Name: info.Name, State: info.State.String(), Address: info.Address, API: info.API, Zone: info.Zone,
			Fingerprint: fingerprintOf(info.Key), Alive: n.cluster.Alive(info.Name), Here: info.Name == n.cluster.Status().Node,
			Boot: info.Boot, Replicas: view.Holds(info.Name), Leads: leads[info.Name]}
		if info.State == directory.Draining {
			status, err := n.cluster.DrainStatus(info.Name)
			if err != nil {
				return nil, err
			}
			node.Drain = drainOf(&status)
		}
		list = append(list, node)
	}
	return list, nil
}

// fingerprintOf returns the text form of the digest of a node's TLS key, "" for
// none.
func fingerprintOf(key directory.Digest) string {
	if key == (directory.Digest{}) {
		return ""
	}
	return "sha256:" + base64.RawURLEncoding.EncodeToString(key[:])
}

// drainOf says for people how far a drain is.
func drainOf(s *cluster.DrainStatus) *operator.Drain {
	d := &operator.Drain{LeadersOnly: s.LeadersOnly, Done: s.Done, Left: s.Replicas, Nowhere: len(s.Stuck) > 0}
	switch {
	case s.LeadersOnly:
		d.Left = s.Leads
	case d.Nowhere && s.Done:
		d.Detail = fmt.Sprintf("%d replicas have no other node to go to: add a node; the leads are gone", len(s.Stuck))
	case d.Nowhere:
		d.Detail = fmt.Sprintf("%d replicas have no other node to go to: add a node", len(s.Stuck))
	case !s.Done:
		d.Detail = fmt.Sprintf("%d replicas and %d leads are left", s.Replicas, s.Leads)
	}
	return d
}

// Drain has replicas and leads leave a node, or only leads; cancel ends that.
// It returns at once: [Node.Nodes] tells how far it is.
func (n *Node) Drain(ctx context.Context, caller, name string, leadersOnly, cancel bool) error {
	if n.cluster == nil {
		return cloakroom.ErrStarting
	}
	return n.cluster.Drain(ctx, name, leadersOnly, cancel)
}

// Remove ends a node's membership: one that is empty, or, with dead, one that
// will not come back.
func (n *Node) Remove(ctx context.Context, caller, name string, dead bool) error {
	if n.cluster == nil {
		return cloakroom.ErrStarting
	}
	return n.cluster.Remove(ctx, name, dead)
}

// SafeToStop reports whether every group goes on without a node, and if not,
// why.
func (n *Node) SafeToStop(ctx context.Context, name string) (safe bool, reasons []string, err error) {
	if n.cluster == nil {
		return false, nil, cloakroom.ErrStarting
	}
	if _, there := n.cluster.Directory().Node(name); !there {
		return false, nil, fmt.Errorf("no node called %s: %w", name, cloakroom.ErrNotFound)
	}
	safe, reasons = n.cluster.SafeToStop(name)
	return safe, reasons, nil
}
