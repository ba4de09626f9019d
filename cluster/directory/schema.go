package directory

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cloakroom"
)

// FieldType says what shape the values of a field have.
type FieldType string

// The field types.
const (
	Text   FieldType = "text"
	Email  FieldType = "email"
	Phone  FieldType = "phone"  // E.164
	Date   FieldType = "date"   // RFC 3339 full-date
	JSON   FieldType = "json"   // any JSON value
	Sealed FieldType = "sealed" // bytes the client encrypted; opaque here
)

// defaultMaxBytes is the length limit of a field that declares none, and at
// the same time the list of types there are.
var defaultMaxBytes = map[FieldType]int{
	Text: 1024, Email: 320, Phone: 16, Date: 10, JSON: 16 << 10, Sealed: 16 << 10,
}

// Field declares one kind of PII.
type Field struct {
	// Number is the field's identity for good. In a [SetSchema] 0 means: the
	// live field of this name, or a new one.
	Number       cloakroom.FieldNumber `json:"number"`
	Name         string                `json:"name"`                    // unique among live fields
	Type         FieldType             `json:"type"`                    // never changes
	Purposes     []string              `json:"purposes,omitempty"`      // sorted; none: any purpose
	MaxRetention time.Duration         `json:"max_retention,omitempty"` // nanoseconds in JSON; 0: no bound
	MaxBytes     int                   `json:"max_bytes,omitempty"`     // of one value; never less than before. In a SetSchema 0 keeps it; new: the type's default
	Retired      bool                  `json:"retired,omitempty"`       // takes no values any more, is still erased
}

// Schema is the list of all fields ever declared.
type Schema struct {
	Epoch  uint32  `json:"epoch"`  // from 1 with the first SetSchema
	Fields []Field `json:"fields"` // ascending by number, retired ones included

	byName map[string]*Field // live ones
}

// newSchema builds a schema with its look-up table. It takes over fields.
func newSchema(epoch uint32, fields []Field) *Schema {
	s := &Schema{Epoch: epoch, Fields: fields, byName: make(map[string]*Field, len(fields))}
	for i := range s.Fields {
		if f := &s.Fields[i]; !f.Retired {
			s.byName[f.Name] = f
		}
	}
	return s
}

// Field returns the live field called name, or nil. It does not allocate, so
// name may be a piece of a request.
func (s *Schema) Field(name []byte) *Field { return s.byName[string(name)] }

// Number returns the field of that number, retired or not, or nil.
func (s *Schema) Number(n cloakroom.FieldNumber) *Field {
	i, ok := slices.BinarySearchFunc(s.Fields, n, func(f Field, n cloakroom.FieldNumber) int {
		return int(f.Number) - int(n)
	})
	if !ok {
		return nil
	}
	return &s.Fields[i]
}

// Why a change of one field is refused because of values that may be stored:
// each says how to get there all the same.
const (
	reasonType = "changes its type, and stored values have the old one: " +
		"declare a new field, move the values there, then retire this one"
	reasonRetired = "is retired for good, and values under its number may be gone: " +
		"declare a new field without a number; the name is free"
	reasonNarrower = "takes shorter values than before, so that stored ones could not be written back: " +
		"keep its max_bytes, or declare a new field, move the values there, then retire this one"
	reasonPurposes = "shares no purpose with those its values were stored for, so that nobody could read them: " +
		"add the new purposes beside the old ones, change the grants, then take the old ones away"
	reasonTwice = "is listed twice; to give its name to a new field, rename or retire it in a change before"
)

// Faults returns what is wrong with fields as the live ones that come after s:
// all of it, one for each field at most, named by its position. What
// [SetSchema] refuses by another cause than the epoch is exactly what has
// faults. A change that would leave stored values behind, unreadable or
// impossible to write back, is among them and says how to migrate.
func (s *Schema) Faults(fields []Field) cloakroom.Faults {
	_, faults := s.evolve(fields)
	return faults
}

// evolve returns the schema that declares fields as its live ones. Fields of
// the old schema that are not named, or named as retired, are retired and stay;
// new ones get numbers above all numbers ever used, in the order they come in.
// All faults are reported at once.
func (s *Schema) evolve(fields []Field) (*Schema, cloakroom.Faults) {
	next := make([]Field, len(s.Fields), len(s.Fields)+len(fields))
	for i, f := range s.Fields {
		next[i] = f
		next[i].Retired = true
	}
	highest := cloakroom.FirstField - 1
	if n := len(s.Fields); n > 0 {
		highest = s.Fields[n-1].Number
	}
	var faults cloakroom.Faults
	named, live := make(map[cloakroom.FieldNumber]bool, len(fields)), make(map[string]bool, len(fields))
	for i, f := range fields {
		f, old, reason := s.declare(f)
		switch {
		case reason != "":
		case f.Number != 0 && named[f.Number]:
			reason = reasonTwice
		case !f.Retired && live[f.Name]:
			reason = "has the name of another field"
		}
		if reason != "" {
			faults = append(faults, cloakroom.Fault{Item: i, Field: old.name(), Reason: reason})
			continue
		}
		if f.Number == 0 {
			highest++
			f.Number = highest
			next = append(next, f)
		} else {
			at := slices.IndexFunc(next, func(o Field) bool { return o.Number == f.Number })
			next[at] = f
		}
		named[f.Number], live[f.Name] = true, live[f.Name] || !f.Retired
	}
	faults = append(faults, tooMuch(next)...)
	if len(faults) > 0 {
		return nil, faults
	}
	return newSchema(s.Epoch+1, next), nil
}

// name returns the name of f, "" if there is none.
func (f *Field) name() string {
	if f == nil {
		return ""
	}
	return f.Name
}

// declare checks one field against the schema it changes and fills in number
// and defaults. It returns what the field was, and a field with number 0 for a
// new one.
func (s *Schema) declare(f Field) (declared Field, old *Field, reason string) {
	if f.Number != 0 {
		old = s.Number(f.Number)
	} else {
		old = s.byName[f.Name]
	}
	f.Purposes = sortedSet(f.Purposes)
	if reason := f.fault(); reason != "" {
		return f, old, reason
	}
	switch {
	case old == nil && f.Number != 0:
		return f, nil, "has a number no field has; leave it out for a new field"
	case old == nil && f.Retired:
		return f, nil, "is new and retired"
	case old == nil:
		if f.MaxBytes == 0 {
			f.MaxBytes = defaultMaxBytes[f.Type]
		}
		return f, nil, ""
	}
	f.Number = old.Number
	if f.MaxBytes == 0 {
		f.MaxBytes = old.MaxBytes
	}
	return f, old, old.strands(&f)
}

// strands returns why f can't come after old, which has its number: values may
// be stored that would fit it no more. A field that retires strands nothing:
// its values are erased with their subjects.
func (old *Field) strands(f *Field) string {
	shared := func(purpose string) bool { return slices.Contains(old.Purposes, purpose) }
	switch {
	case old.Type != f.Type:
		return reasonType
	case f.Retired:
		return ""
	case old.Retired:
		return reasonRetired
	case f.MaxBytes < old.MaxBytes:
		return reasonNarrower
	case len(old.Purposes) > 0 && len(f.Purposes) > 0 && !slices.ContainsFunc(f.Purposes, shared):
		return reasonPurposes
	}
	return ""
}

// fault returns what is wrong with f by itself, or "".
func (f *Field) fault() string {
	known := defaultMaxBytes[f.Type]
	switch {
	case !validName(f.Name) || strings.ContainsAny(f.Name, ".-"):
		return "needs a name of lower-case letters, digits and _, a letter first"
	case known == 0:
		return "has an unknown type"
	case f.MaxBytes < 0 || f.MaxBytes > cloakroom.MaxSubjectBytes:
		return fmt.Sprintf("max_bytes must be 1 to %d", cloakroom.MaxSubjectBytes)
	case f.MaxRetention < 0:
		return "max_retention must not be negative"
	case f.Number != 0 && f.Number < cloakroom.FirstField:
		return "has a reserved number"
	case !allValid(f.Purposes):
		return "has a malformed list of purposes"
	}
	return ""
}

// tooMuch reports what all fields together have too much of.
func tooMuch(fields []Field) (faults cloakroom.Faults) {
	purposes := make(map[string]bool)
	for i := range fields {
		for _, p := range fields[i].Purposes {
			purposes[p] = true
		}
	}
	if len(purposes) > MaxPurposes {
		reason := fmt.Sprintf("more than %d purposes, those of retired fields included", MaxPurposes)
		faults = append(faults, cloakroom.Fault{Item: -1, Reason: reason})
	}
	if len(fields) > cloakroom.MaxFields {
		reason := fmt.Sprintf("more than %d fields, retired ones included", cloakroom.MaxFields)
		faults = append(faults, cloakroom.Fault{Item: -1, Reason: reason})
	}
	return faults
}
