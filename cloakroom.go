// Package cloakroom is the vocabulary of the project: its nouns, its sentinel
// errors and its limits. It holds no implementation and imports no other room,
// so that every room can speak the same words.
//
// A [Pseudonym] stands for a subject; a [Token] is the keyed handle under which
// one record of that subject is stored; a [Slot] is the part of the token space
// that decides which shard owns the subject.
package cloakroom

import "encoding/hex"

// Pseudonym is the random UUID (RFC 9562, version 4) that stands for a subject
// outside Cloakroom. It is personal data for whoever can have it resolved, so
// it never stands in a log line or an error text.
type Pseudonym [16]byte

// PseudonymTextLen is the length of the one accepted text form: hex digits in
// groups of 8-4-4-4-12, as in 0b5c1f3e-8a4d-4e6f-9b2a-7c8d9e0f1a2b.
const PseudonymTextLen = 36

// ParsePseudonym reads the canonical text form (either case). It returns
// [ErrMalformedID] for anything else, braces, urn forms and the nil UUID
// included, and [ErrNotRandomID] for a UUID that is not version 4 of the
// RFC 9562 variant: such ids can be guessed or tell the time of enrolment.
//
// It does not allocate, and the text may live in guarded memory.
func ParsePseudonym(text []byte) (Pseudonym, error) {
	var id Pseudonym
	if len(text) != PseudonymTextLen ||
		text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return Pseudonym{}, ErrMalformedID
	}
	var bad byte
	for i, at := range pairOffsets {
		hi, lo := fromHex[text[at]], fromHex[text[at+1]]
		bad |= hi | lo
		id[i] = hi<<4 | lo&0xf
	}
	if bad&0xf0 != 0 || id == (Pseudonym{}) {
		return Pseudonym{}, ErrMalformedID
	}
	if id[6]>>4 != 4 || id[8]>>6 != 2 {
		return Pseudonym{}, ErrNotRandomID
	}
	return id, nil
}

// SetRandomForm turns 16 random bytes into a version-4 UUID by setting the
// version and variant bits.
func (p *Pseudonym) SetRandomForm() {
	p[6] = p[6]&0x0f | 0x40
	p[8] = p[8]&0x3f | 0x80
}

// AppendText appends the canonical lower-case text form to dst.
func (p Pseudonym) AppendText(dst []byte) []byte {
	const digits = "0123456789abcdef"
	var text [PseudonymTextLen]byte
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	for i, at := range pairOffsets {
		text[at], text[at+1] = digits[p[i]>>4], digits[p[i]&0xf]
	}
	return append(dst, text[:]...)
}

// String returns the canonical text form.
func (p Pseudonym) String() string { return string(p.AppendText(nil)) }

// pairOffsets are the positions of the 16 hex pairs in the text form.
var pairOffsets = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// fromHex maps a hex digit to its value and everything else to 0xff.
var fromHex = func() (table [256]byte) {
	for c := range table {
		table[c] = 0xff
	}
	for c := byte('0'); c <= '9'; c++ {
		table[c] = c - '0'
	}
	for c := byte('a'); c <= 'f'; c++ {
		table[c], table[c-'a'+'A'] = c-'a'+10, c-'a'+10
	}
	return table
}()

// Token is the keyed, fixed-length handle under which one record is stored:
// AES-256 of the pseudonym under the token key of the field. Without that key
// it says nothing about the pseudonym, nor about other tokens of the subject.
type Token [16]byte

// Slot is one of the [Slots] parts of the token space. All records of a
// subject live in the shard that owns the subject's slot.
type Slot uint16

// ShardID names one data shard, counted from 0.
type ShardID uint16

// FieldNumber names a field for good; names of fields can change, numbers are
// never used twice.
type FieldNumber uint16

const (
	// SubjectField is the number of the subject record, which holds no PII.
	SubjectField FieldNumber = 0
	// AliasField is reserved for the sealed record with source handle,
	// aliases, restriction and hold.
	AliasField FieldNumber = 1
	// FirstField is the lowest number a schema may declare.
	FirstField FieldNumber = 2
)

// Domain is the number of a pseudonymisation domain (EDPB guidelines 01/2025).
type Domain uint16

// DefaultDomain is the number of the domain named "default".
const DefaultDomain Domain = 0

// Epoch counts the data keys of a keyring, from 1.
type Epoch uint16

// SealingNumber names one sealing key within its epoch. The directory hands
// every number out once.
type SealingNumber uint32

// Version changes with every change of a subject. It is opaque and has no
// order: 64 bits that are random, or pseudorandom where the write carried an
// idempotency key.
type Version [8]byte

// String returns 16 hex digits, the form the API uses.
func (v Version) String() string { return hex.EncodeToString(v[:]) }

// ParseVersion reads what [Version.String] wrote.
func ParseVersion(text []byte) (Version, error) {
	var v Version
	if len(text) != 2*len(v) {
		return v, ErrMalformed
	}
	if _, err := hex.Decode(v[:], text); err != nil {
		return Version{}, ErrMalformed
	}
	return v, nil
}

// Index is a position in a shard's history: what a write got, and what a read
// can wait for. An index of another generation is ignored.
type Index struct {
	Shard      ShardID
	Generation uint32
	Index      uint64
}

// Level says how fresh a read must be.
type Level uint8

const (
	// Lease answers from local memory while the replica's read lease holds.
	Lease Level = iota
	// Linearizable answers after a confirm round that starts after the request.
	Linearizable
)
