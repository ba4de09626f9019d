// Package cloakroom is the vocabulary of the project: its nouns, its sentinel
// errors and its limits. It holds no implementation and imports no other room,
// so that every room can speak the same words.
//
// A [Pseudonym] stands for a subject; a [Token] is the keyed handle under which
// one record of that subject is stored; a [Slot] is the part of the token space
// that decides which shard owns the subject.
package cloakroom

import (
	"encoding/binary"
	"encoding/hex"
)

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
	if len(text) != PseudonymTextLen ||
		text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return Pseudonym{}, ErrMalformedID
	}
	le := binary.LittleEndian
	a, badA := unhex(le.Uint64(text))
	b, badB := unhex(uint64(le.Uint32(text[9:])) | uint64(le.Uint32(text[14:]))<<32)
	c, badC := unhex(uint64(le.Uint32(text[19:])) | uint64(le.Uint32(text[24:]))<<32)
	d, badD := unhex(le.Uint64(text[28:]))
	if badA|badB|badC|badD != 0 || a|b|c|d == 0 {
		return Pseudonym{}, ErrMalformedID
	}
	if b>>20&0xf != 4 || c>>6&3 != 2 { // high bits of bytes 6 and 8
		return Pseudonym{}, ErrNotRandomID
	}
	var id Pseudonym
	le.PutUint64(id[0:], uint64(a)|uint64(b)<<32)
	le.PutUint64(id[8:], uint64(c)|uint64(d)<<32)
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
	le := binary.LittleEndian
	from := len(dst)
	dst = append(dst, "------------------------------------"...)
	text := dst[from : from+PseudonymTextLen]
	b, c := hexed(le.Uint32(p[4:])), hexed(le.Uint32(p[8:]))
	le.PutUint64(text[0:], hexed(le.Uint32(p[0:])))
	le.PutUint32(text[9:], uint32(b))
	le.PutUint32(text[14:], uint32(b>>32))
	le.PutUint32(text[19:], uint32(c))
	le.PutUint32(text[24:], uint32(c>>32))
	le.PutUint64(text[28:], hexed(le.Uint32(p[12:])))
	return dst
}

// String returns the canonical text form.
func (p Pseudonym) String() string { return string(p.AppendText(nil)) }

// lanes repeats a byte eight times: pseudonyms are read and written eight hex
// digits at a time, since a resolve does it a hundred times.
const lanes = 0x0101010101010101

// unhex decodes eight hex digits, the first in the lowest byte, into four
// bytes, the first in the lowest byte. bad is not 0 if one is no hex digit:
// then the digit that the nibble stands for is another than was read, or the
// nibble is larger than 15.
func unhex(digits uint64) (out uint32, bad uint64) {
	letters := digits >> 6 & lanes // 1 where the byte can only be a letter
	nibbles := digits&(lanes*0x0f) + letters*9
	bad = nibbles&(lanes*0xf0) | (digitsOf(nibbles) ^ (digits | letters<<5))
	pairs := (nibbles<<4 | nibbles>>8) & 0x00ff00ff00ff00ff
	pairs = (pairs | pairs>>8) & 0x0000ffff0000ffff
	return uint32(pairs | pairs>>16), bad
}

// hexed is the inverse of unhex, in lower case.
func hexed(in uint32) uint64 {
	pairs := (uint64(in) | uint64(in)<<16) & 0x0000ffff0000ffff
	pairs = (pairs | pairs<<8) & 0x00ff00ff00ff00ff
	return digitsOf(pairs>>4&0x000f000f000f000f | pairs<<8&0x0f000f000f000f00)
}

// digitsOf turns eight values of 0 to 15 into lower-case digits.
func digitsOf(nibbles uint64) uint64 {
	letters := (nibbles + lanes*6) >> 4 & lanes
	return nibbles + lanes*'0' + letters*('a'-'0'-10)
}

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
