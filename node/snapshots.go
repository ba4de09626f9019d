package node

import (
	"fmt"
	"io"
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/snapshot"
)

// A replica that is new or far behind gets the state of its group as a
// snapshot. Its records are sealed already; the snapshot is encrypted as a
// whole, to the epoch's snapshot identity, and signed. So what arrives is what
// a node with the cluster's keys sent, and nobody between them learned a token.

// sealSnapshot returns the writer that stands between a state and another
// replica.
func (n *Node) sealSnapshot(w io.Writer, at cluster.SnapshotInfo) (io.WriteCloser, error) {
	origin, err := n.originOf(at)
	if err != nil {
		return nil, err
	}
	epoch, recipient := n.keys.SnapshotRecipient()
	h := snapshot.Header{Origin: origin, Created: n.now().UnixMilli(), Epoch: epoch, Payload: at.Payload}
	if origin.Group != 0 { // the directory holds no records
		h.Lowest, h.Highest = n.keys.Epochs()
	}
	if counted, ok := at.View.(interface {
		Counts() (records, living, erased uint64)
	}); ok {
		h.Records, h.Living, h.Erased = counted.Counts()
	}
	sealed, err := snapshot.NewWriter(w, h, snapshot.Seal{Recipient: recipient, Sign: n.keys.SignNamed})
	if err != nil {
		return nil, err
	}
	return sealed, nil
}

// openSnapshot returns the reader that stands between another replica and a
// state. It ends without an error only after the signature was verified.
func (n *Node) openSnapshot(r io.Reader, at cluster.SnapshotInfo) (io.Reader, error) {
	origin, err := n.originOf(at)
	if err != nil {
		return nil, err
	}
	opened, err := snapshot.NewReader(r, snapshot.Open{
		Want: origin, Identity: n.keys.SnapshotIdentity, Verify: n.keys.VerifyNamed,
	})
	if err != nil {
		return nil, err
	}
	return &counted{opened, &n.installed}, nil
}

// counted counts a snapshot once it was read to its end, which comes without
// an error only if the signature holds.
type counted struct {
	io.Reader
	count *atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF && c.count != nil {
		c.count.Add(1)
		c.count = nil // EOF may be asked for again
	}
	return n, err
}

// originOf says what a snapshot is of, in the words of package snapshot.
func (n *Node) originOf(at cluster.SnapshotInfo) (snapshot.Origin, error) {
	for g := range directory.GroupID(1 + cloakroom.MaxShards) {
		if g.String() == at.Group {
			return snapshot.Origin{Cluster: n.id, Group: uint32(g), Generation: at.Generation, Index: at.Index, Term: at.Term}, nil
		}
	}
	return snapshot.Origin{}, fmt.Errorf("snapshot of %q, which is no group", at.Group)
}
