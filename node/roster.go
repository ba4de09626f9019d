package node

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cloakroom/cluster/directory"
	"cloakroom/node/folder"
)

// roster is what a node's folder keeps of the directory in clear: who the
// nodes are, so that it knows whom to ask, and whom it may give the keys to,
// before the directory itself is there again. members.json, format 1: one JSON
// object.
//
// mac is HMAC-SHA-256 under the source key of the rest: what a node decides by
// it nobody can write who does not have the keys. Until it has them itself it
// decides nothing by it but whom to ask.
type roster struct {
	Format  int                  `json:"format"`
	Cluster directory.ID         `json:"cluster"`
	Epoch   uint64               `json:"epoch"` // of the directory
	Window  uint32               `json:"handover_s"`
	Nodes   []directory.NodeInfo `json:"nodes"` // by name
	MAC     directory.Digest     `json:"mac"`

	proven bool // mac is right
}

const (
	rosterFormat = 1
	// maxRosterBytes bounds members.json.
	maxRosterBytes = 1 << 20
)

// rosterContext keeps this MAC apart from others under the source key.
const rosterContext = "members"

func (m *roster) node(name string) (directory.NodeInfo, bool) {
	at := slices.IndexFunc(m.Nodes, func(info directory.NodeInfo) bool { return info.Name == name })
	if at < 0 {
		return directory.NodeInfo{}, false
	}
	return m.Nodes[at], true
}

// body is what the MAC covers.
func (m *roster) body() ([]byte, error) {
	bare := *m
	bare.MAC = directory.Digest{}
	return json.Marshal(&bare)
}

func parseRoster(data []byte) (*roster, error) {
	m := new(roster)
	if len(data) > maxRosterBytes || json.Unmarshal(data, m) != nil {
		return nil, errors.New("members.json: not what this version writes")
	}
	if m.Format != rosterFormat || len(m.Nodes) > directory.MaxNodes+directory.MaxRemoved {
		return nil, fmt.Errorf("members.json: format %d is not known to this version, or too many nodes", m.Format)
	}
	return m, nil
}

// recall reads members.json. A folder without one remembers nobody, nor does
// one where it is damaged: it only spares waiting.
func (n *Node) recall() error {
	data, err := n.folder.Members()
	if errors.Is(err, folder.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := parseRoster(data)
	if err != nil {
		n.cfg.Logger.Warn("what this node remembers of the others cannot be read; it is ignored", "error", err)
		return nil
	}
	if m.Cluster == n.id {
		n.gate.remembered.Store(m)
	}
	return nil
}

// prove checks the MAC of what was recalled, now that the keys are there. What
// is not proven is not used for any decision.
func (n *Node) prove() error {
	m := n.gate.remembered.Load()
	if m == nil || m.proven {
		return nil
	}
	body, err := m.body()
	if err != nil {
		return err
	}
	var mac directory.Digest
	n.keys.SourceMAC((*[32]byte)(&mac), rosterContext, body)
	if subtle.ConstantTimeCompare(mac[:], m.MAC[:]) != 1 {
		n.cfg.Logger.Warn("members.json was not written by a node of this cluster, or is damaged; it is ignored")
		n.gate.remembered.Store(nil)
		return nil
	}
	proven := *m
	proven.proven = true
	n.gate.remembered.Store(&proven)
	return nil
}

// rememberOthers writes down who the nodes are, if that has changed.
func (n *Node) rememberOthers() error {
	if n.folder == nil || n.gate.keyed.Load() == nil {
		return nil
	}
	view := n.cluster.Directory()
	old := n.gate.remembered.Load()
	if view.Epoch == 0 || old != nil && (old.Epoch >= view.Epoch || old.proven && slices.Equal(old.Nodes, view.Nodes) && old.Window == view.Settings.HandoverSec) {
		return nil
	}
	m := &roster{Format: rosterFormat, Cluster: n.id, Epoch: view.Epoch, Window: view.Settings.HandoverSec, Nodes: view.Nodes, proven: true}
	body, err := m.body()
	if err != nil {
		return err
	}
	n.giving.RLock()
	if n.gate.keyed.Load() == nil {
		n.giving.RUnlock()
		return nil
	}
	n.keys.SourceMAC((*[32]byte)(&m.MAC), rosterContext, body)
	n.giving.RUnlock()
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := n.folder.SaveMembers(data); err != nil {
		return err
	}
	n.gate.remembered.Store(m)
	peers := n.addresses(view.Nodes)
	if slices.Equal(peers, n.folder.Node().Peers) || len(peers) == 0 {
		return nil
	}
	return n.folder.Update(func(node *folder.Node) { node.Peers = peers })
}

// addresses returns where the others among nodes are.
func (n *Node) addresses(nodes []directory.NodeInfo) []string {
	var peers []string
	for i := range nodes {
		info := &nodes[i]
		if info.Name != n.cfg.Name && info.Joined() && info.Address != "" && len(peers) < folder.MaxPeers {
			peers = append(peers, info.Address)
		}
	}
	return peers
}

// others returns the addresses at which other nodes may be found.
func (n *Node) others() []string {
	if n.cluster != nil {
		if peers := n.addresses(n.cluster.Directory().Nodes); len(peers) > 0 {
			return peers
		}
	}
	if n.folder == nil {
		return nil
	}
	return n.folder.Node().Peers
}

// pinned returns the TLS key of a node as the folder remembers it: who could
// write there might as well have written the root.
func (n *Node) pinned(name string) (key [32]byte, ok bool) {
	m := n.gate.remembered.Load()
	if m == nil {
		return key, false
	}
	info, _ := m.node(name)
	return info.Key, info.Key != directory.Digest{}
}
