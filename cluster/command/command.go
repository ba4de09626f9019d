// Package command is the language of a shard's log: what a proposer can ask of
// a shard ([Command]), how many commands travel as one entry ([Batch]), what
// each is answered ([Result]), what a subject record looks like
// ([SubjectRecord]), and how sealed records come back from a read ([Records]).
//
// It sees tokens and sealed records, never a value or a key. Its functions
// have no state and are safe for concurrent use; its types are plain values.
package command

import (
	"bytes"
	"slices"

	"cloakroom"
)

// Kind says what a command does. The numbers are in every log and never
// change.
type Kind uint8

// The kinds of format 1. A shard answers [Unsupported] to those it does not
// carry out yet.
const (
	// Put writes a whole subject: every declared field, or only the present
	// ones with [CreateOnly].
	Put Kind = 1
	// Merge changes the listed fields of a subject that is there.
	Merge Kind = 2
	// Erase removes every listed field for good and leaves the erased mark.
	Erase Kind = 3
	// Expire wipes a subject whose expiry has passed; no mark stays. With
	// [HasExpected] it wipes the listed fields instead, if the subject is at that
	// version, and leaves its record as it is: fields that expired before it.
	Expire Kind = 4
	// Touch is reserved: a new expiry.
	Touch Kind = 5
	// Reseal is reserved: the same value under a newer key.
	Reseal Kind = 6
	// Bind is a put that also ties links to the subject: handles of its source
	// and further pseudonyms. Their tokens must be free.
	Bind Kind = 7
	// Slice is reserved: parts of a budget.
	Slice Kind = 8
	// Level tells the shard the schema epoch, so that whoever works by an older
	// one learns of it. Its Value is reserved for a feature level: 0.
	Level Kind = 9
	// Time moves the shard's clock forward to Value, in unix milliseconds.
	Time Kind = 10
)

// String returns the kind's name, for logs and metrics.
func (k Kind) String() string {
	if k < Put || k > Time {
		return "unknown"
	}
	return kindNames[k]
}

var kindNames = [...]string{
	Put: "put", Merge: "merge", Erase: "erase", Expire: "expire", Touch: "touch",
	Reseal: "reseal", Bind: "bind", Slice: "slice", Level: "level", Time: "time",
}

// Flags refine a command.
type Flags uint8

const (
	// CreateOnly makes a put onto a subject that is there answer [Exists].
	CreateOnly Flags = 1 << 0
	// HasExpected makes a write onto any version but Expected answer
	// [VersionMismatch].
	HasExpected Flags = 1 << 1
	// ReplaceOnly makes a put or bind onto a subject that is not there answer
	// [NotFound]; one whose expiry has passed is there until it is wiped. Whoever
	// knows a subject by a link must not make it anew without that link.
	ReplaceOnly Flags = 1 << 5
	// LaterExpiry has a put or bind keep the expiry that it finds if that is
	// later: one that lists only some of the fields must not end the others.
	LaterExpiry Flags = 1 << 6
)

// KeyTag is the keyed PRF of principal and Idempotency-Key. Zero: the write
// carried no key.
type KeyTag [8]byte

// Command is one request to a shard. Two requests with equal meaning have
// equal bytes: fields stand in strictly ascending order of their tokens.
type Command struct {
	Kind        Kind
	Flags       Flags
	Domain      cloakroom.Domain
	SchemaEpoch uint32 // the schema the proposer worked by
	Subject     cloakroom.Token
	Version     cloakroom.Version // of the subject after this command
	Expected    cloakroom.Version // only with HasExpected
	KeyTag      KeyTag
	Expiry      uint32 // unix seconds; 0: none
	Value       uint64 // time: unix milliseconds; level: the level
	Fields      []Field
	Links       []Link // of a bind, which has at least one; others have none
}

// Field is one record of the subject: its token and its new sealed bytes, nil
// to remove it.
type Field struct {
	Token  cloakroom.Token
	Record []byte
}

const (
	// MaxFields bounds the fields of one command: all that a schema may
	// declare and the alias record.
	MaxFields = cloakroom.MaxFields + 1
	// MaxRecordBytes bounds one sealed record: the largest subject, its
	// padding and header.
	MaxRecordBytes = cloakroom.MaxSubjectBytes + 4<<10
)

// SortFields brings the fields, and the links, into the canonical order that
// [Decode] demands.
func (c *Command) SortFields() {
	slices.SortFunc(c.Links, func(a, b Link) int {
		return bytes.Compare(a.Token[:], b.Token[:])
	})
	slices.SortFunc(c.Fields, func(a, b Field) int {
		return bytes.Compare(a.Token[:], b.Token[:])
	})
}
