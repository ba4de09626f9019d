package cloakroom

import "strconv"

// Fault is one reason why a request does not fit the schema. It never holds
// anything the caller sent: the field is a name the schema declares (or empty,
// when the caller's name is unknown) and the reason is a constant text.
type Fault struct {
	Item   int    // position in a batch, from 0; -1 when the request has no items
	Field  string // a declared field name, or empty
	Reason string // constant text, "not an E.164 number"
}

// Faults are all reasons why a request does not fit the schema. As an error
// they unwrap to [ErrSchema]; nothing was written.
type Faults []Fault

// Error names how many faults there are and the first of them.
func (f Faults) Error() string {
	if len(f) == 0 {
		return ErrSchema.Error()
	}
	text := ErrSchema.Error() + ": " + strconv.Itoa(len(f)) + " faults, first: "
	if f[0].Item >= 0 {
		text += "item " + strconv.Itoa(f[0].Item) + ": "
	}
	if f[0].Field != "" {
		text += f[0].Field + ": "
	}
	return text + f[0].Reason
}

// Unwrap returns [ErrSchema].
func (f Faults) Unwrap() error { return ErrSchema }
