package policy

import (
	"math/bits"
	"slices"

	"cloakroom"
)

// MaxField is the highest field number a [Fields] can hold. A schema has at
// most [cloakroom.MaxFields] fields, retired ones included, numbered from
// [cloakroom.FirstField] on without gaps.
const MaxField = fieldWords*64 - 1

const fieldWords = 2

// The fields of the fullest schema fit.
var _ [MaxField - (uint(cloakroom.FirstField) + cloakroom.MaxFields - 1)]struct{}

// Fields is a set of field numbers from 0 to [MaxField].
type Fields [fieldWords]uint64

// NewFields returns the set of the given fields; numbers over [MaxField] are
// in no schema and stay out.
func NewFields(list ...cloakroom.FieldNumber) Fields {
	var s Fields
	for _, f := range list {
		s.Add(f)
	}
	return s
}

// AllFields returns the set of every number that a schema can declare, so
// that a grant made of it covers fields declared later.
func AllFields() Fields {
	s := Fields{^uint64(0), ^uint64(0)}
	s[0] &^= 1<<cloakroom.FirstField - 1
	return s
}

// Add puts f into the set. It says false when the set cannot hold f.
func (s *Fields) Add(f cloakroom.FieldNumber) bool {
	if f > MaxField {
		return false
	}
	s[f/64] |= 1 << (f % 64)
	return true
}

// Has says whether f is in the set.
func (s Fields) Has(f cloakroom.FieldNumber) bool {
	return f <= MaxField && s[f/64]&(1<<(f%64)) != 0
}

// And returns what is in both sets.
func (s Fields) And(t Fields) Fields { return Fields{s[0] & t[0], s[1] & t[1]} }

// Empty says whether nothing is in the set.
func (s Fields) Empty() bool { return s == Fields{} }

// Len counts the set.
func (s Fields) Len() int { return bits.OnesCount64(s[0]) + bits.OnesCount64(s[1]) }

// Domains is a set of pseudonymisation domains. The zero set is empty.
type Domains struct {
	all  bool
	list []cloakroom.Domain // sorted, no duplicates, never changed
}

// NewDomains returns the set of the given domains.
func NewDomains(list ...cloakroom.Domain) Domains {
	list = slices.Clone(list)
	slices.Sort(list)
	return Domains{list: slices.Compact(list)}
}

// AllDomains returns the set of every domain, those made later included.
func AllDomains() Domains { return Domains{all: true} }

// Has says whether d is in the set.
func (s Domains) Has(d cloakroom.Domain) bool {
	if s.all {
		return true
	}
	_, found := slices.BinarySearch(s.list, d)
	return found
}

// MaxPurpose is the highest purpose number; they count from 1.
const MaxPurpose = 63

const unknownPurpose = 0xff

// Purpose is what a caller says it wants values for, one of the names in the
// schema. The zero Purpose was not named.
type Purpose struct {
	number uint8
	fields Fields
}

// NewPurpose returns the purpose with that number, from 1 to [MaxPurpose],
// and the fields that the schema declares for it. Any other number gives the
// purpose that no grant covers.
func NewPurpose(number int, fields Fields) Purpose {
	if number < 1 || number > MaxPurpose {
		return UnknownPurpose()
	}
	return Purpose{number: uint8(number), fields: fields}
}

// UnknownPurpose stands for a name that is not in the schema. No grant
// covers it.
func UnknownPurpose() Purpose { return Purpose{number: unknownPurpose} }

// Named says whether the caller named a purpose, known or not.
func (p Purpose) Named() bool { return p.number != 0 }

// Purposes is a set of purposes by number.
type Purposes uint64

// NewPurposes returns the set of the given numbers, from 1 to [MaxPurpose].
// It says false when one lies outside: a set that silently lost a purpose
// could become the empty one, which restricts nothing.
func NewPurposes(list ...int) (Purposes, bool) {
	var s Purposes
	for _, n := range list {
		if n < 1 || n > MaxPurpose {
			return 0, false
		}
		s |= 1 << n
	}
	return s, true
}

// Has says whether the purpose with that number is in the set.
func (s Purposes) Has(number uint8) bool {
	return number >= 1 && number <= MaxPurpose && s&(1<<number) != 0
}

// Empty says whether the set names no purpose.
func (s Purposes) Empty() bool { return s == 0 }

// Issuers is a set of issuers by name. The zero set is empty.
type Issuers struct {
	all   bool
	names map[string]struct{}
}

// NewIssuers returns the set of the given issuers.
func NewIssuers(list ...string) Issuers {
	s := Issuers{names: make(map[string]struct{}, len(list))}
	for _, name := range list {
		s.names[name] = struct{}{}
	}
	return s
}

// AllIssuers returns the set of every issuer there may be.
func AllIssuers() Issuers { return Issuers{all: true} }

// Has says whether the issuer is in the set, byte by byte. The name may live in
// guarded memory: it is neither kept nor copied.
func (s Issuers) Has(name []byte) bool {
	if s.all {
		return true
	}
	_, there := s.names[string(name)]
	return there
}
