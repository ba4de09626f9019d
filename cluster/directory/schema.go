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
	MaxBytes     int                   `json:"max_bytes,omitempty"`     // of one value; 0 takes the type's default
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

// evolve returns the schema that declares fields as its live ones. Fields of
// the old schema that are not named, or named as retired, are retired and stay;
// new ones get numbers above all numbers ever used, in the order they come in.
// All faults are reported at once.
func (s *Schema) evolve(fields []Field) (*Schema, []string) {
	next := make([]Field, len(s.Fields), len(s.Fields)+len(fields))
	for i, f := range s.Fields {
		next[i] = f
		next[i].Retired = true
	}
	highest := cloakroom.FirstField - 1
	if n := len(s.Fields); n > 0 {
		highest = s.Fields[n-1].Number
	}
	var faults []string
	named := make(map[cloakroom.FieldNumber]bool, len(fields))
	for i, f := range fields {
		f, fault := s.declare(f)
		if fault == "" && f.Number != 0 && named[f.Number] {
			fault = "is listed twice"
		}
		if fault != "" {
			faults = append(faults, fmt.Sprintf("field %d: %s", i, fault))
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
		named[f.Number] = true
	}
	faults = append(faults, clashes(next)...)
	if len(faults) > 0 {
		return nil, faults
	}
	return newSchema(s.Epoch+1, next), nil
}

// declare checks one field against the schema it changes and fills in number
// and defaults. It returns a field with number 0 for a new one.
func (s *Schema) declare(f Field) (Field, string) {
	if fault := f.fault(); fault != "" {
		return f, fault
	}
	if f.MaxBytes == 0 {
		f.MaxBytes = defaultMaxBytes[f.Type]
	}
	f.Purposes = sortedSet(f.Purposes)
	var old *Field
	if f.Number != 0 {
		if old = s.Number(f.Number); old == nil {
			return f, "has a number no field has; leave it out for a new field"
		}
	} else if old = s.byName[f.Name]; old == nil {
		if f.Retired {
			return f, "is new and retired"
		}
		return f, ""
	}
	f.Number = old.Number
	switch {
	case old.Type != f.Type:
		return f, "changes its type; retire it first and declare a new one"
	case old.Retired && !f.Retired:
		return f, "is retired for good; declare a new one without a number"
	}
	return f, ""
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

// clashes reports what is wrong with the fields taken together.
func clashes(fields []Field) []string {
	var faults []string
	live := make(map[string]bool, len(fields))
	purposes := make(map[string]bool)
	for i := range fields {
		f := &fields[i]
		for _, p := range f.Purposes {
			purposes[p] = true
		}
		if f.Retired {
			continue
		}
		if live[f.Name] {
			faults = append(faults, fmt.Sprintf("the name %s is used by two fields", f.Name))
		}
		live[f.Name] = true
	}
	if len(purposes) > MaxPurposes {
		faults = append(faults, fmt.Sprintf("more than %d purposes, those of retired fields included", MaxPurposes))
	}
	if len(fields) > cloakroom.MaxFields {
		faults = append(faults, fmt.Sprintf("more than %d fields, retired ones included", cloakroom.MaxFields))
	}
	return faults
}
