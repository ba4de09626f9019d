// Package policy decides what a caller may do, from the grant and the request
// alone. It owns the rules; it never sees a pseudonym, a value or the store,
// so what it answers cannot depend on whether a subject exists.
//
// [Decide] is pure and total: it has no state, reads no clock, allocates
// nothing and answers every combination of its arguments. Everything here is
// safe for concurrent use.
package policy

import "cloakroom"

// Grant is what one principal may do. The zero Grant covers nothing.
//
// A Grant is compiled once from the directory and then only read.
type Grant struct {
	Actions  Actions
	Fields   Fields   // fields that may be read or written
	Form     Form     // the fullest form of a value that may be read
	Domains  Domains  // subjects of these domains only
	Purposes Purposes // empty: a purpose may be named; else: one of these must be
	Issuers  Issuers  // whose names for people may be used
	Expires  int64    // unix seconds, the first second not covered; 0: never
}

// Request is what one call asks for. What an action does not look at is
// ignored, whatever stands there.
type Request struct {
	Action  Action
	Fields  Fields           // asked for (reads) or written (deposits, updates)
	Form    Form             // reads: [Unnamed] asks for the fullest form granted
	Domain  cloakroom.Domain // deposits: the domain of the new subject
	Purpose Purpose
	// Issuer names whose name for the subject a deposit goes by; nil: none's.
	Issuer []byte
}

// Decision is what was allowed.
type Decision struct {
	// Fields are the fields to read or write. For a read they can be fewer
	// than were asked for: a field outside the grant is answered as if no
	// subject had it. For a write they are all that were asked for.
	Fields Fields
	// Form is the form in which values are shown; [Unnamed] unless a read.
	Form Form
}

// Decide says whether g covers r at the time now, in unix seconds.
//
// It returns [cloakroom.ErrDenied] when the grant does not cover the action,
// any field of a read, every field of a write, the form, the domain or the
// issuer of a deposit, and when it has expired; [cloakroom.ErrPurpose] when the purpose
// is missing where the grant names some, is none of them, is not in the
// schema, or is one for which the schema declares none of the fields read.
//
// Erasures, updates and reads name no domain: whoever looks the subject up
// compares the domain found with g.Domains and treats any other as missing.
// Events name none either: of a change in any other domain nothing is told.
func Decide(g *Grant, r *Request, now int64) (Decision, error) {
	if g.Expires != 0 && now >= g.Expires {
		return Decision{}, cloakroom.ErrDenied
	}
	if !g.Actions.Has(r.Action) {
		return Decision{}, cloakroom.ErrDenied
	}
	switch r.Action {
	case Resolve, Read:
		return decideRead(g, r)
	case Deposit, Update:
		return decideWrite(g, r)
	case Erase:
		return Decision{}, decidePurpose(g, r)
	default: // the schema, the node, events: no value, so no field, form or purpose
		return Decision{}, nil
	}
}

func decideRead(g *Grant, r *Request) (Decision, error) {
	if err := decidePurpose(g, r); err != nil {
		return Decision{}, err
	}
	form := r.Form
	if form == Unnamed {
		form = g.Form
	}
	if form == Unnamed || form > g.Form {
		return Decision{}, cloakroom.ErrDenied
	}
	fields := r.Fields.And(g.Fields)
	if fields.Empty() {
		return Decision{}, cloakroom.ErrDenied
	}
	if r.Purpose.Named() {
		fields = fields.And(r.Purpose.fields)
		if fields.Empty() {
			return Decision{}, cloakroom.ErrPurpose
		}
	}
	return Decision{Fields: fields, Form: form}, nil
}

func decideWrite(g *Grant, r *Request) (Decision, error) {
	if err := decidePurpose(g, r); err != nil {
		return Decision{}, err
	}
	if r.Fields.And(g.Fields) != r.Fields {
		return Decision{}, cloakroom.ErrDenied
	}
	if r.Action == Deposit && !g.Domains.Has(r.Domain) {
		return Decision{}, cloakroom.ErrDenied
	}
	if r.Action == Deposit && r.Issuer != nil && !g.Issuers.Has(r.Issuer) {
		return Decision{}, cloakroom.ErrDenied
	}
	return Decision{Fields: r.Fields}, nil
}

// decidePurpose holds the purpose against the grant: a grant that names
// purposes wants one of them, any other takes what the schema knows or none.
func decidePurpose(g *Grant, r *Request) error {
	switch {
	case !g.Purposes.Empty() && !g.Purposes.Has(r.Purpose.number):
		return cloakroom.ErrPurpose
	case r.Purpose.number == unknownPurpose:
		return cloakroom.ErrPurpose
	}
	return nil
}
