package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/node/operator"
	"cloakroom/securemem"
)

// Revoke revokes a principal as the directory would be told to.
func (n *Node) Revoke(ctx context.Context, name string) error {
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{RevokePrincipal: &directory.RevokePrincipal{Name: name}})
	if err != nil {
		return err
	}
	return result.Err()
}

// Rights is what operators may do about principals.
func (n *Node) Rights() interface {
	operator.Rights
	operator.Roll
} {
	return rights{n}
}

// ReadRoster reads members.json and writes it again.
func ReadRoster(data []byte) ([]byte, error) {
	m, err := parseRoster(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// SampleRoster is a members.json.
func SampleRoster() ([]byte, error) {
	return json.Marshal(&roster{Format: rosterFormat, Cluster: directory.ID{0xc1}, Epoch: 7, Window: 600, MAC: directory.Digest{0xaa},
		Nodes: []directory.NodeInfo{
			{Name: "n1", Life: "00112233445566778899aabbccddeeff", Address: "a:1", Zone: "z", API: "a:2", Key: directory.Digest{1}, Boot: 3},
			{Name: "n2", Address: "b:1", Key: directory.Digest{2}, State: directory.Pending},
		}})
}

// RemoveDead removes a node that will not come back.
func (n *Node) RemoveDead(ctx context.Context, name string) error {
	result, err := n.cluster.ProposeDirectory(ctx, &directory.Command{RemoveNode: &directory.RemoveNode{Name: name, Dead: true}})
	if err != nil {
		return err
	}
	return result.Err()
}

// SealSnapshot is the hook that package cluster is given.
func (n *Node) SealSnapshot(w io.Writer, at cluster.SnapshotInfo) (io.WriteCloser, error) {
	return n.sealSnapshot(w, at)
}

// OpenSnapshot is its counterpart.
func (n *Node) OpenSnapshot(r io.Reader, at cluster.SnapshotInfo) (io.Reader, error) {
	return n.openSnapshot(r, at)
}

// Pool is the memory of requests.
func (n *Node) Pool() *securemem.Pool { return n.memory.Pool() }

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

// SweepOnce runs one round of the sweep over all shards.
func (n *Node) SweepOnce(ctx context.Context) error {
	for _, shard := range n.cluster.Directory().Shards {
		if err := n.sweepShard(ctx, shard.ID); err != nil {
			return err
		}
	}
	return nil
}

// ScrubOne looks for expired fields of one subject of a shard.
func (n *Node) ScrubOne(ctx context.Context, shard cloakroom.ShardID, id cloakroom.Pseudonym) error {
	token, err := n.records.Token(cloakroom.SubjectField, id)
	if err != nil {
		return err
	}
	return n.scrubSome(ctx, shard, 1, []cloakroom.Token{token})
}

// Subjects counts the living subjects of all shards.
func (n *Node) Subjects() (total int) {
	for _, s := range n.cluster.Status().Shards {
		total += s.Subjects
	}
	return total
}

// Records counts the records of all shards.
func (n *Node) Records() (total int) {
	for _, s := range n.cluster.Status().Shards {
		total += s.Records
	}
	return total
}

// DomainNumbers makes a list of domain numbers.
func DomainNumbers(numbers ...int) (list []cloakroom.Domain) {
	for _, n := range numbers {
		list = append(list, cloakroom.Domain(n))
	}
	return list
}

// SealIndex seals what a write answers as Cloakroom-Index.
func (n *Node) SealIndex(at ...cloakroom.Index) string { return string(n.sealIndex(nil, at)) }

// OpenIndex opens it.
func (n *Node) OpenIndex(text string) ([]cloakroom.Index, error) {
	return n.openIndex(nil, []byte(text))
}

// Leads reports whether this node leads a shard.
func (n *Node) Leads(shard cloakroom.ShardID) bool { return n.cluster.Leads(shard) }

// ShardOf returns the shard of a pseudonym.
func (n *Node) ShardOf(id string) cloakroom.ShardID {
	p, err := cloakroom.ParsePseudonym([]byte(id))
	if err != nil {
		panic(err)
	}
	return n.rulesNow().view.ShardOf(n.records.Slot(p))
}

// ViewNow returns the newest view of the directory.
func (n *Node) ViewNow() *directory.View { return n.cluster.Directory() }

// ShowSealed puts an opened node into the stage Sealed, as Run does on its way.
func (n *Node) ShowSealed() { n.setStage(Sealed) }

// Brought takes the keys that custodians brought and returns their version.
func (n *Node) Brought() (uint64, error) {
	select {
	case keys := <-n.brought:
		defer keys.Close()
		return keys.Version(), nil
	default:
		return 0, errors.New("none were brought")
	}
}

// KeepKeyring writes the keyring file if the one on disk is not the newest.
func (n *Node) KeepKeyring() error { return n.keepKeyring(n.cluster.Directory()) }
