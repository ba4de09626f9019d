package command

import (
	"fmt"

	"cloakroom"
)

// Code is a shard's answer to a command. The numbers never change.
type Code uint8

const (
	// Created: the put made a subject.
	Created Code = 1
	// Replaced: the put replaced what was there.
	Replaced Code = 2
	// Merged: the merge changed the listed fields.
	Merged Code = 3
	// Erased: the erase removed the subject; or a put or merge found it
	// erased and did nothing.
	Erased Code = 4
	// Replayed: this very write was done before; nothing changed now.
	Replayed Code = 5
	// AlreadyErased: an earlier erase removed it; Expiry says when.
	AlreadyErased Code = 6
	// NotFound: there is no such subject.
	NotFound Code = 7
	// VersionMismatch: the subject is not at the expected version.
	VersionMismatch Code = 8
	// TagConflict: the idempotency key was used with another body.
	TagConflict Code = 9
	// Exists: a create-only put found a subject, or a put one of another domain.
	Exists Code = 10
	// StaleSchema: the shard has seen a later schema epoch.
	StaleSchema Code = 11
	// Malformed: not a command of a known format.
	Malformed Code = 12
	// Unsupported: a kind that is reserved.
	Unsupported Code = 13
	// Done: a command without a subject to tell of was carried out.
	Done Code = 14
	// Bound: a token that a bind would link is taken; nothing changed.
	Bound Code = 15
	// Aliased: the token is a further pseudonym's; ask for the subject itself.
	Aliased Code = 16
	// TooManyLinks: the subject would have more than MaxLinks; nothing changed.
	TooManyLinks Code = 17
)

var codeNames = [...]string{
	Created: "created", Replaced: "replaced", Merged: "merged", Erased: "erased",
	Replayed: "replayed", AlreadyErased: "already-erased", NotFound: "not-found",
	VersionMismatch: "version-mismatch", TagConflict: "tag-conflict", Exists: "exists",
	StaleSchema: "stale-schema", Malformed: "malformed", Unsupported: "unsupported", Done: "done",
	Bound: "bound", Aliased: "aliased", TooManyLinks: "too-many-links",
}

// Known reports whether c is one of the codes above.
func (c Code) Known() bool { return c >= Created && c <= TooManyLinks }

// String returns the code's name, for logs and metrics.
func (c Code) String() string {
	if !c.Known() {
		return "unknown"
	}
	return codeNames[c]
}

// Result answers one command. Version, Expiry and Domain are those of the
// subject after the command, zero if there is none.
type Result struct {
	Code    Code
	Version cloakroom.Version
	Expiry  uint32 // unix seconds, 0: none; of an erased subject: when it was erased, by shard time
	Domain  cloakroom.Domain
}

// Err returns nil if a write of the kind did what was asked, now or before,
// and otherwise the sentinel error that says why not.
func (r Result) Err(kind Kind) error {
	switch r.Code {
	case Created, Replaced, Merged, Replayed, Done, AlreadyErased:
		return nil
	case Erased:
		if kind == Erase {
			return nil
		}
		return cloakroom.ErrErased
	case NotFound:
		return cloakroom.ErrNotFound
	case VersionMismatch:
		return cloakroom.ErrVersion
	case TagConflict:
		return cloakroom.ErrIdempotency
	case Exists:
		return cloakroom.ErrConflict
	case Bound, Aliased, TooManyLinks: // the proposer looks at the code
		return fmt.Errorf("%s: %w", r.Code, cloakroom.ErrConflict)
	case StaleSchema:
		return cloakroom.ErrStaleSchema
	default: // the proposer made it wrong: internal to the caller
		return fmt.Errorf("shard refused command: %s", r.Code)
	}
}
