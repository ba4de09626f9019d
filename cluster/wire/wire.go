// Package wire is the language nodes speak to each other: one request and one
// reply for each [Method], drawn as byte tables beside their types.
//
// Every message starts with a format byte; integers are big-endian; a string
// is a 2-byte length and its bytes. A decoder accepts exactly what Append
// writes, so accepted bytes encode to themselves again; it returns
// [cloakroom.ErrMalformed] for anything else, and checks every count against
// the bytes that are left before it makes room for it. After an error the
// message is undefined.
//
// Decoded byte slices alias the input. Decoders reuse the slices of the
// message they decode into, so that a message that is used again costs no
// allocation for each item of a read, a confirm round or a proposal.
//
// It sees tokens, sealed records and sealed commands, never a value or a key.
// Its types are plain values; its functions have no state.
package wire

import "cloakroom"

// Method says what is asked of another node. The numbers never change.
type Method uint8

// The methods.
const (
	// Join asks a member of the directory group to take in a node.
	Join Method = 1
	// Propose hands commands to the leader of a shard.
	Propose Method = 2
	// Change hands one command to the leader of the directory.
	Change Method = 3
	// Read asks for records, of many groups at once.
	Read Method = 4
	// Confirm asks whether replicas are still in the asker's terms.
	Confirm Method = 5
	// Progress asks how far a replica has come.
	Progress Method = 6
	// Ping asks who lives there.
	Ping Method = 7
	// Lease asks the leader of groups for read leases.
	Lease Method = 8
	// Settle asks the leader of a shard to complete the barrier of an erasure.
	Settle Method = 9
	// Await asks a replica whether it has applied an index.
	Await Method = 10
	// Changes asks which subjects changed, of many groups at once.
	Changes Method = 11
	// Keys asks for the keys of the cluster, by a node that starts.
	Keys Method = 12
	// Renew asks for a new certificate, by a node that can't make its own.
	Renew Method = 13
	// ViewLease asks the leader of the directory for a lease of the asker's view.
	ViewLease Method = 14
	// ViewAwait asks a node whether its view has come to an epoch.
	ViewAwait Method = 15
	// ViewSettle asks the leader of the directory to see to it that no node goes
	// by a view from before an epoch.
	ViewSettle Method = 17
	// GiveLead asks a leader to hand its lead to another voter.
	GiveLead Method = 16

	// Last is the highest of them.
	Last = ViewSettle
)

var methodNames = [...]string{
	Join: "join", Propose: "propose", Change: "change", Read: "read",
	Confirm: "confirm", Progress: "progress", Ping: "ping",
	Lease: "lease", Settle: "settle", Await: "await", Changes: "changes",
	Keys: "keys", Renew: "renew", GiveLead: "give-lead",
	ViewLease: "view-lease", ViewAwait: "view-await", ViewSettle: "view-settle",
}

// String returns the method's name, for logs and metrics.
func (m Method) String() string {
	if m < Join || m > Last || methodNames[m] == "" {
		return "unknown"
	}
	return methodNames[m]
}

// format is the number that every message of this format starts with.
const format = 1

const (
	// MaxStringBytes bounds a name, life, address, replica ID or text. Append
	// cuts what is longer.
	MaxStringBytes = 1024
	// MaxGroups bounds the groups one message names: all shards and the
	// directory.
	MaxGroups = cloakroom.MaxShards + 1
	// MaxMembers bounds the members of the directory group in a [JoinReply].
	MaxMembers = 16
)
