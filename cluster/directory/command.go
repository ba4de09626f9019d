package directory

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cloakroom"
)

// Format is the number of the command encoding:
//
//	offset  bytes  what
//	0       1      format, 1
//	1       …      one JSON object, canonical: exactly what Append writes
//
// JSON because these commands are rare, hold no PII, and are read by people
// when something went wrong; canonical because two spellings of one command
// would be two hashes of one history.
const Format = 1

// MaxCommandBytes bounds an encoded command.
const MaxCommandBytes = cloakroom.MaxEntryBytes

// Command changes the directory. Exactly one member is set.
type Command struct {
	Init            *Init            `json:"init,omitempty"`
	SetSchema       *SetSchema       `json:"set_schema,omitempty"`
	PutPrincipal    *Principal       `json:"put_principal,omitempty"` // while the cluster is founded
	RevokePrincipal *RevokePrincipal `json:"revoke_principal,omitempty"`
	PutDomain       *PutDomain       `json:"put_domain,omitempty"`
	SetSettings     *Settings        `json:"set_settings,omitempty"`
	SetSlots        *SetSlots        `json:"set_slots,omitempty"`
	PutNode         *PutNode         `json:"put_node,omitempty"`
	AdmitNode       *AdmitNode       `json:"admit_node,omitempty"`
	DrainNode       *DrainNode       `json:"drain_node,omitempty"`
	RemoveNode      *RemoveNode      `json:"remove_node,omitempty"`
	PutJoinToken    *PutJoinToken    `json:"put_join_token,omitempty"`
	UseJoinToken    *UseJoinToken    `json:"use_join_token,omitempty"`
	AddReplica      *AddReplica      `json:"add_replica,omitempty"`
	SetReplica      *SetReplica      `json:"set_replica,omitempty"`
	DropReplica     *DropReplica     `json:"drop_replica,omitempty"`
	RefoundGroup    *RefoundGroup    `json:"refound_group,omitempty"`
	SetKeyring      *SetKeyring      `json:"set_keyring,omitempty"`
	SetRecovery     *Recovery        `json:"set_recovery,omitempty"`
	NextSealing     *NextSealing     `json:"next_sealing,omitempty"`
	RecordErasures  *RecordErasures  `json:"record_erasures,omitempty"`

	RequestPrincipal *Request          `json:"request_principal,omitempty"`
	ApprovePrincipal *ApprovePrincipal `json:"approve_principal,omitempty"`
	SuspendPrincipal *SuspendPrincipal `json:"suspend_principal,omitempty"`
}

// Init is the first command of a cluster and refused later on.
type Init struct {
	ClusterID ID          `json:"cluster_id"`
	Settings  Settings    `json:"settings"`
	Nodes     []NodeInfo  `json:"nodes"`     // by name
	Directory GroupInfo   `json:"directory"` // its replicas; the founder's is a voter
	Shards    []ShardInfo `json:"shards"`    // IDs 0…n-1; slots are dealt out evenly
}

// SetSchema replaces the live fields; see the rules in DESIGN.md.
type SetSchema struct {
	ExpectedEpoch uint32  `json:"expected_epoch"`
	Fields        []Field `json:"fields"`
}

// RevokePrincipal ends a principal for good; its name and credential stay taken.
// A request that waits is taken back.
type RevokePrincipal struct {
	Name string `json:"name"`
	By   string `json:"by,omitempty"` // the principal that asked; none: the cluster itself
}

// PutDomain names a new domain; the number comes back in the result.
type PutDomain struct {
	Name string `json:"name"`
}

// SetSlots replaces the shard map, the owner of each slot.
type SetSlots struct {
	Slots []cloakroom.ShardID `json:"slots"` // 4096 of them
}

// SetKeyring records which keyring is in force. Versions only go up, by one.
type SetKeyring struct {
	Version uint64 `json:"version"`
	Hash    Digest `json:"hash"`
}

// Recovery says what keyring files are sealed to, and whose shares open them;
// see package recovery. Nothing in it is secret.
type Recovery struct {
	Recipient string   `json:"recipient"` // of age, "age1pq1…"
	Threshold int      `json:"threshold"` // how many shares it takes
	Shares    []Digest `json:"shares"`    // SHA-256 of each, by index
}

// NextSealing takes the next sealing number. Every number is handed out once.
type NextSealing struct{}

// Append appends the encoding of c to dst.
func (c *Command) Append(dst []byte) ([]byte, error) {
	if c.members() != 1 {
		return dst, fmt.Errorf("encode directory command: want one member, have %d", c.members())
	}
	body, err := json.Marshal(c)
	if err != nil {
		return dst, fmt.Errorf("encode directory command: %w", err)
	}
	if len(body)+1 > MaxCommandBytes {
		return dst, fmt.Errorf("encode directory command: %w", cloakroom.ErrTooLarge)
	}
	return append(append(dst, Format), body...), nil
}

// Decode reads one command and accepts nothing but what Append writes.
func Decode(data []byte, c *Command) error {
	*c = Command{}
	switch {
	case len(data) < 2:
		return fmt.Errorf("decode directory command: %w", cloakroom.ErrMalformed)
	case len(data) > MaxCommandBytes:
		return fmt.Errorf("decode directory command: %w", cloakroom.ErrTooLarge)
	case data[0] != Format:
		return fmt.Errorf("decode directory command: unknown format %d", data[0])
	}
	if err := json.Unmarshal(data[1:], c); err != nil {
		return fmt.Errorf("decode directory command: %w", cloakroom.ErrMalformed)
	}
	again, err := c.Append(nil)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("decode directory command: not canonical: %w", cloakroom.ErrMalformed)
	}
	return nil
}

// members counts what is set.
func (c *Command) members() int {
	n := 0
	for _, set := range []bool{c.Init != nil, c.SetSchema != nil, c.PutPrincipal != nil,
		c.RevokePrincipal != nil, c.SuspendPrincipal != nil, c.RequestPrincipal != nil,
		c.ApprovePrincipal != nil, c.PutDomain != nil, c.SetSettings != nil,
		c.SetSlots != nil, c.PutNode != nil, c.AdmitNode != nil, c.DrainNode != nil, c.RemoveNode != nil,
		c.PutJoinToken != nil, c.UseJoinToken != nil, c.AddReplica != nil, c.SetReplica != nil,
		c.DropReplica != nil, c.RefoundGroup != nil, c.SetKeyring != nil, c.SetRecovery != nil, c.NextSealing != nil,
		c.RecordErasures != nil} {
		if set {
			n++
		}
	}
	return n
}
