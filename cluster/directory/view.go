package directory

import (
	"cmp"
	"encoding/hex"
	"sort"
	"time"

	"cloakroom"
)

// View is the directory at one epoch. Nothing reachable from it changes, so it
// can be used without a lock for as long as its holder likes.
type View struct {
	Epoch     uint64 `json:"epoch"` // counts accepted commands, from 1
	ClusterID ID     `json:"cluster_id"`

	Settings   Settings     `json:"settings"`
	Schema     *Schema      `json:"schema"`
	Domains    []DomainInfo `json:"domains"`            // by number; 0 is "default"
	Principals []*Principal `json:"principals"`         // by name, revoked ones included
	Requests   []*Request   `json:"requests,omitempty"` // for principals, by name; some may be over

	Nodes     []NodeInfo                          `json:"nodes"`     // by name
	Directory GroupInfo                           `json:"directory"` // its own group
	Shards    []ShardInfo                         `json:"shards"`    // by ID
	SlotTable *[cloakroom.Slots]cloakroom.ShardID `json:"slot_table"`

	JoinTokens []JoinToken `json:"join_tokens,omitempty"` // in the order they were made

	KeyringVersion uint64                  `json:"keyring_version"`
	KeyringHash    Digest                  `json:"keyring_hash"`
	Recovery       *Recovery               `json:"recovery,omitempty"`
	SealingNumber  cloakroom.SealingNumber `json:"sealing_number"` // the last one handed out

	byCredential map[Digest]*Principal
	byDomain     map[string]cloakroom.Domain
	byReplica    map[string]place // by Raft server ID
	byAddress    map[string]place // by virtual address
}

// Settings are cluster-wide: a node whose file says otherwise is refused.
type Settings struct {
	Replication  int    `json:"replication"`   // voters per group: 1 or 3
	RecoveryMode string `json:"recovery_mode"` // "continuous", "periodic" or "none"
	LeaseMillis  uint32 `json:"lease_ms"`      // L of the read lease
	RetentionSec uint64 `json:"retention_s"`   // of recovery files, seconds
	// DeadAfterSec is after how many seconds of silence a node's replicas are
	// made anew elsewhere; 0: [DefaultDeadAfter].
	DeadAfterSec uint32 `json:"dead_after_s,omitempty"`
	// HandoverSec is how long after the end of its last life a node is given
	// the keys without a person, seconds; 0: [DefaultHandover].
	HandoverSec uint32 `json:"handover_s,omitempty"`
	// SinglePerson: nothing needs a second one's approval, and whoever operates
	// lets nodes have the keys.
	SinglePerson bool `json:"single_person,omitempty"`
}

const (
	// DefaultDeadAfter is [Settings.DeadAfterSec] if there is none.
	DefaultDeadAfter = 60
	// DefaultHandover is [Settings.HandoverSec] if there is none.
	DefaultHandover = 600
)

// DeadAfter is after how long a silence a node counts as dead.
func (s *Settings) DeadAfter() time.Duration {
	return time.Duration(cmp.Or(s.DeadAfterSec, DefaultDeadAfter)) * time.Second
}

// Handover is how long after the end of its last life a node gets the keys
// without a person.
func (s *Settings) Handover() time.Duration {
	return time.Duration(cmp.Or(s.HandoverSec, DefaultHandover)) * time.Second
}

// DomainInfo is one pseudonymisation domain.
type DomainInfo struct {
	Number cloakroom.Domain `json:"number"`
	Name   string           `json:"name"`
}

// ID is a cluster id; its text form is hex.
type ID [16]byte

// MarshalText returns 32 hex digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error { return unhex(id[:], text) }

// String returns 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Digest is a SHA-256 or HMAC-SHA-256 output; its text form is hex.
type Digest [32]byte

// MarshalText returns 64 hex digits.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error { return unhex(d[:], text) }

// unhex decodes exactly len(dst) bytes.
func unhex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return cloakroom.ErrMalformed
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return cloakroom.ErrMalformed
	}
	return nil
}

// Principal returns the live principal with this credential, nil if there is
// none. It does not allocate. The comparison is a look-up in a map of HMACs
// under a key the caller of the API doesn't have, so its time tells nothing.
func (v *View) Principal(credential *Digest) *Principal {
	if p := v.byCredential[*credential]; p != nil && p.Live() {
		return p
	}
	return nil
}

// PrincipalNamed returns the principal of that name, live or not, or nil.
func (v *View) PrincipalNamed(name string) *Principal {
	if i, ok := v.principalAt(name); ok {
		return v.Principals[i]
	}
	return nil
}

// principalAt returns where name stands, or would stand, in Principals.
func (v *View) principalAt(name string) (int, bool) {
	i := sort.Search(len(v.Principals), func(i int) bool { return v.Principals[i].Name >= name })
	return i, i < len(v.Principals) && v.Principals[i].Name == name
}

// Domain returns the number of the domain called name. It does not allocate.
func (v *View) Domain(name []byte) (cloakroom.Domain, bool) {
	n, ok := v.byDomain[string(name)]
	return n, ok
}

// ShardOf returns the shard that owns slot.
func (v *View) ShardOf(slot cloakroom.Slot) cloakroom.ShardID { return v.SlotTable[slot] }

// indexed fills the look-up tables and returns v. A command fills only those
// of what it changes.
func (v *View) indexed() *View {
	v.indexPrincipals()
	v.indexDomains()
	v.indexReplicas()
	return v
}

func (v *View) indexPrincipals() {
	v.byCredential = make(map[Digest]*Principal, len(v.Principals))
	for _, p := range v.Principals {
		v.byCredential[p.Credential] = p
	}
}

func (v *View) indexDomains() {
	v.byDomain = make(map[string]cloakroom.Domain, len(v.Domains))
	for _, d := range v.Domains {
		v.byDomain[d.Name] = d.Number
	}
}
