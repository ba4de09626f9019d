package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/securemem/recovery"
)

// foundationFormat is the number of the form of founding.json: one JSON object
// with the members of [foundation] and no others.
const foundationFormat = 1

// maxFoundation bounds founding.json.
const maxFoundation = 1 << 20

// foundation is what `node init` decided about a cluster and its first start
// puts into the directory. None of it is secret: the first principals are
// named by the hash of their tokens, and shares by theirs.
type foundation struct {
	Format     int                `json:"format"`
	Cluster    directory.ID       `json:"cluster"`
	Shards     int                `json:"shards"`
	Settings   directory.Settings `json:"settings"`
	Schema     []directory.Field  `json:"schema"`
	Principals []founder          `json:"principals"`
	Recovery   recovery.Public    `json:"recovery"`
}

// founder is one of the first principals.
type founder struct {
	Name      string           `json:"name"`
	TokenHash directory.Digest `json:"token_hash"` // SHA-256
	Grant     directory.Grant  `json:"grant"`
}

func (f *foundation) encode() ([]byte, error) {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write founding.json: %w", err)
	}
	if data = append(data, '\n'); len(data) > maxFoundation {
		return nil, fmt.Errorf("write founding.json: %w", cloakroom.ErrTooLarge)
	}
	return data, nil
}

func decodeFoundation(data []byte) (*foundation, error) {
	f := new(foundation)
	read := json.NewDecoder(bytes.NewReader(data))
	read.DisallowUnknownFields()
	if len(data) > maxFoundation || read.Decode(f) != nil || read.More() {
		return nil, fmt.Errorf("read founding.json: %w", cloakroom.ErrMalformed)
	}
	if f.Format != foundationFormat {
		return nil, fmt.Errorf("read founding.json: format %d is not known to this version: want %d", f.Format, foundationFormat)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("read founding.json: %w", err)
	}
	return f, nil
}

// commands are what founds the directory behind Init. Credentials are made from
// the hashes by credential.
func (f *foundation) commands(keyringHash [32]byte, credential func(tokenHash [32]byte) directory.Digest) []directory.Command {
	list := []directory.Command{
		{SetKeyring: &directory.SetKeyring{Version: 1, Hash: keyringHash}},
		{SetRecovery: directoryRecovery(&f.Recovery)},
		{SetSchema: &directory.SetSchema{Fields: f.Schema}},
	}
	for _, p := range f.Principals {
		list = append(list, directory.Command{PutPrincipal: &directory.Principal{
			Name: p.Name, Credential: credential(p.TokenHash), Grant: p.Grant,
		}})
	}
	return list
}

// directoryRecovery is p as the directory has it.
func directoryRecovery(p *recovery.Public) *directory.Recovery {
	r := &directory.Recovery{Recipient: p.Recipient, Threshold: p.Threshold}
	for _, hash := range p.Shares {
		r.Shares = append(r.Shares, directory.Digest(hash))
	}
	return r
}

// publicRecovery is the way back; nil if the directory has none.
func publicRecovery(r *directory.Recovery) *recovery.Public {
	if r == nil {
		return nil
	}
	p := &recovery.Public{Recipient: r.Recipient, Threshold: r.Threshold}
	for _, hash := range r.Shares {
		p.Shares = append(p.Shares, recovery.Hash(hash))
	}
	return p
}

// check reports every fault of f.
func (f *foundation) check() error {
	return errors.Join(f.Recovery.Check(), f.checkDirectory())
}

// checkDirectory founds a directory in memory, so that whatever it would refuse
// at the first start is refused now.
func (f *foundation) checkDirectory() error {
	var faults []error
	if f.Shards < 1 || f.Shards > cloakroom.MaxShards {
		return errors.Join(append(faults, fmt.Errorf("cluster.shards is %d: want 1 to %d", f.Shards, cloakroom.MaxShards))...)
	}
	machine, index := directory.New(), uint64(0)
	try := func(cmd *directory.Command) error {
		data, err := cmd.Append(nil)
		if err != nil {
			return err
		}
		index++
		result := machine.Apply(index, data)
		return result.Err()
	}
	if err := try(f.rehearsal()); err != nil {
		return errors.Join(append(faults, err)...)
	}
	// An HMAC of a hash is as different as the hash itself.
	for _, cmd := range f.commands([32]byte{1}, func(h [32]byte) directory.Digest { return h }) {
		if cmd.SetRecovery == nil { // checked by itself, and not there yet when init rehearses
			faults = append(faults, try(&cmd))
		}
	}
	return errors.Join(faults...)
}

// rehearsal is an Init with these settings and some node.
func (f *foundation) rehearsal() *directory.Command {
	life := strings.Repeat("1", 32)
	group := func(number int) directory.GroupInfo {
		return directory.GroupInfo{Generation: 1, Replicas: []directory.ReplicaInfo{{
			ID: fmt.Sprintf("r%d", number), Node: "n", Life: life, Address: fmt.Sprintf("r%d", number), State: directory.Voter,
		}}}
	}
	init := &directory.Init{
		ClusterID: f.Cluster, Settings: f.Settings,
		Nodes: []directory.NodeInfo{{Name: "n", Life: life}}, Directory: group(0),
	}
	for i := range f.Shards {
		init.Shards = append(init.Shards, directory.ShardInfo{ID: cloakroom.ShardID(i), GroupInfo: group(i + 1)})
	}
	return &directory.Command{Init: init}
}
