package directory

import (
	"fmt"

	"cloakroom"
)

// Code says what became of a command.
type Code uint8

// The codes.
const (
	Done      Code = 0
	Malformed Code = 1 // the command can't be read
	Invalid   Code = 2 // it breaks a rule; Detail says which
	Conflict  Code = 3 // the state is not the expected one, or a name, credential or identity is taken
	NotFound  Code = 4 // what it names is not there
	Exhausted Code = 5 // no number or no place is left
	Already   Code = 6 // what it asks for is so: a repeat, or somebody else was first
)

// Result is what a command came to. Nothing changed unless Code is [Done].
type Result struct {
	Code          Code
	Epoch         uint64 // of the view after the command
	SchemaEpoch   uint32
	SealingNumber cloakroom.SealingNumber // of NextSealing
	Domain        cloakroom.Domain        // of PutDomain
	Detail        string                  // for the operator: names of fields, principals and groups, nothing else
}

// Err returns nil for Done and Already, otherwise an error that wraps [cloakroom.ErrMalformed],
// [cloakroom.ErrSchema], [cloakroom.ErrConflict] or [cloakroom.ErrNotFound].
func (r *Result) Err() error {
	var kind error
	switch r.Code {
	case Done, Already:
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
