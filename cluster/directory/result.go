package directory

import (
	"fmt"

	"cloakroom"
)

// Code says what became of a command.
type Code uint8

// The codes.
const (
	Done      Code = iota
	Malformed      // the command can't be read
	Invalid        // it breaks a rule; Detail says which
	Conflict       // the epoch is not the expected one, or the name or credential is taken
	NotFound       // what it names is not there
	Exhausted      // no number is left
)

// Result is what a command came to. Nothing changed unless Code is [Done].
type Result struct {
	Code          Code
	Epoch         uint64 // of the view after the command
	SchemaEpoch   uint32
	SealingNumber cloakroom.SealingNumber // of NextSealing
	Domain        cloakroom.Domain        // of PutDomain
	Detail        string                  // for the operator: names of fields and principals, nothing else
}

// Err returns nil for Done, otherwise an error that wraps [cloakroom.ErrMalformed],
// [cloakroom.ErrSchema], [cloakroom.ErrConflict] or [cloakroom.ErrNotFound].
func (r *Result) Err() error {
	var kind error
	switch r.Code {
	case Done:
		return nil
	case Malformed:
		kind = cloakroom.ErrMalformed
	case Invalid:
		kind = cloakroom.ErrSchema
	case NotFound:
		kind = cloakroom.ErrNotFound
	default:
		kind = cloakroom.ErrConflict
	}
	return fmt.Errorf("change directory: %w: %s", kind, r.Detail)
}
