package folder

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Format is the number of the form of node.json: one JSON object with the
// members of [Node] and no others.
const Format = 1

// maxNodeBytes bounds node.json.
const maxNodeBytes = 1 << 20

// MaxPeers bounds the addresses of peers that are remembered.
const MaxPeers = 64

// Cluster is a cluster id; its text form is hex.
type Cluster [16]byte

// MarshalText returns 32 hex digits.
func (c Cluster) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, c[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Cluster) UnmarshalText(text []byte) error {
	if len(text) != 2*len(c) {
		return errors.New("a cluster id has 32 hex digits")
	}
	if _, err := hex.Decode(c[:], text); err != nil {
		return errors.New("a cluster id has 32 hex digits")
	}
	return nil
}

// Node is what node.json says, in clear: none of it is secret.
type Node struct {
	Format  int     `json:"format"`
	Cluster Cluster `json:"cluster"` // zero: it has not joined one yet
	Name    string  `json:"name"`    // of the node
	// Boot counts the starts. It is on disk before the cluster port opens, and
	// the directory remembers the highest it saw: a lower one is a copied or
	// rolled-back folder.
	Boot uint64 `json:"boot"`
	// DirectoryBoot is the latest start in which the log of the directory was
	// opened, 0 if it never was. A log that knows only earlier ones was put back
	// from a copy.
	DirectoryBoot uint64 `json:"directory_boot,omitempty"`
	// SealEpoch is the highest seal of the cluster that this node heard of.
	SealEpoch uint64 `json:"seal_epoch"`
	// Peers are addresses of cluster ports to begin with; the directory has
	// the truth.
	Peers []string `json:"peers,omitempty"`
	// CA holds the cluster's root certificates in DER, one after the other, the
	// one in force first. Empty: the node has not joined, or founds a cluster.
	CA []byte `json:"ca,omitempty"`
}

// Joined reports whether the node belongs to a cluster.
func (n *Node) Joined() bool { return n.Cluster != Cluster{} }

func (n *Node) check() error {
	var faults []error
	if n.Format != Format {
		faults = append(faults, fmt.Errorf("format %d is not known to this version: want %d", n.Format, Format))
	}
	if n.Name == "" {
		faults = append(faults, errors.New("the name of the node is missing"))
	}
	if len(n.Peers) > MaxPeers {
		faults = append(faults, fmt.Errorf("%d peers: want at most %d", len(n.Peers), MaxPeers))
	}
	return errors.Join(faults...)
}

func (n *Node) encode() ([]byte, error) {
	data, err := json.MarshalIndent(n, "", "  ")
	if err == nil && len(data) >= maxNodeBytes {
		err = errors.New("too large")
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", nodeFile, err)
	}
	return append(data, '\n'), nil
}

func (n *Node) decode(data []byte) error {
	*n = Node{}
	if len(data) > maxNodeBytes {
		return errors.New("too large")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(n); err != nil {
		return fmt.Errorf("not readable: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("not readable: more than one JSON object")
	}
	return n.check()
}
