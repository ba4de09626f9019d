// Package directory is the machine of the directory group: what a cluster
// knows about itself. It owns the schema, the principals and their grants, the
// domains, the cluster-wide settings, the nodes and their lives, the groups and
// the identities of their replicas, the shard map, the version and hash of the
// keyring, the numbers of sealing keys handed out, and the ledger of erasures.
//
// It never sees a value, a key or a bearer token: a credential is kept as its
// HMAC, and the keyring is known by number and hash only.
//
// The machine depends on its commands alone: no clock, no randomness, no
// goroutine. [Machine.Apply] and [Machine.Restore] belong to one writer;
// [Machine.Load] may be called from anywhere and costs one atomic load, and so
// may what reads the ledger.
package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"

	"cloakroom"
)

// Machine applies directory commands and publishes the [View] they lead to.
type Machine struct {
	view   atomic.Pointer[View] // never nil, never changed once stored
	ledger ledger

	// Owned by the writer.
	index uint64
	hash  [sha256.Size]byte // of the applied prefix
}

// New returns a machine before its first command: the view of epoch 0, with an
// empty schema and no shards.
func New() *Machine {
	m := &Machine{}
	m.view.Store((&View{
		Schema:    newSchema(0, nil),
		SlotTable: new([cloakroom.Slots]cloakroom.ShardID),
	}).indexed())
	return m
}

// Load returns the newest view. It is immutable.
func (m *Machine) Load() *View { return m.view.Load() }

// Applied returns the index of the last command and the rolling hash of all of
// them; two replicas with equal index must have equal hashes.
func (m *Machine) Applied() (uint64, [sha256.Size]byte) { return m.index, m.hash }

// Apply carries out one encoded [Command]. A command that is malformed or does
// not fit the state changes nothing but the applied prefix, and does so on
// every replica alike.
func (m *Machine) Apply(index uint64, data []byte) Result {
	m.advance(index, data)
	var cmd Command
	if err := Decode(data, &cmd); err != nil {
		return Result{Code: Malformed, Epoch: m.Load().Epoch, Detail: err.Error()}
	}
	if cmd.RecordErasures != nil && m.Load().Epoch > 0 {
		return m.record(cmd.RecordErasures)
	}
	old := m.Load()
	next := *old // shallow: what a command changes, it replaces
	next.Epoch++
	result := change(&next, &cmd)
	if result.Code != Done {
		result.Epoch, result.SchemaEpoch = old.Epoch, old.Schema.Epoch
		return result
	}
	result.Epoch, result.SchemaEpoch = next.Epoch, next.Schema.Epoch
	m.view.Store(&next)
	return result
}

// advance chains index and data into the hash of the applied prefix.
func (m *Machine) advance(index uint64, data []byte) {
	sum := sha256.Sum256(data)
	var link [sha256.Size + 8 + sha256.Size]byte
	copy(link[:], m.hash[:])
	binary.BigEndian.PutUint64(link[sha256.Size:], index)
	copy(link[sha256.Size+8:], sum[:])
	m.index, m.hash = index, sha256.Sum256(link[:])
}
