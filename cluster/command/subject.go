package command

import (
	"encoding/binary"

	"cloakroom"
)

// SubjectRecord is what a shard keeps under a subject's own token. It names no
// field and nothing in it is sealed.
type SubjectRecord struct {
	Version cloakroom.Version
	Domain  cloakroom.Domain
	KeyTag  KeyTag // of the last request; zero: it carried no idempotency key
	Expiry  uint32 // unix seconds, 0: none; with Erased: when it was erased
	Erased  bool
}

// Format 1 of a subject record. Integers are big-endian; most subjects carry
// neither key tag nor expiry and take 11 bytes.
//
//	offset  size  content
//	0       1     bits 4–7: format, 1; bit 0 erased, 1 key tag, 2 expiry; 3 is zero
//	1       8     version
//	9       2     domain
//	11      8     [key tag, not zero]
//	        4     [expiry or time of the erasure, unix seconds, not zero]
const (
	formatSubject    = 1
	subjectErased    = 1 << 0
	subjectHasTag    = 1 << 1
	subjectHasExpiry = 1 << 2
	subjectFixed     = 11
	// MaxSubjectRecord is the length of the longest subject record.
	MaxSubjectRecord = subjectFixed + 8 + 4
)

// Size returns the number of bytes [SubjectRecord.Append] appends.
func (s *SubjectRecord) Size() int {
	n := subjectFixed
	if s.KeyTag != (KeyTag{}) {
		n += 8
	}
	if s.Expiry != 0 {
		n += 4
	}
	return n
}

// Append appends the record in format 1 to dst.
func (s *SubjectRecord) Append(dst []byte) []byte {
	head := byte(formatSubject << 4)
	if s.Erased {
		head |= subjectErased
	}
	if s.KeyTag != (KeyTag{}) {
		head |= subjectHasTag
	}
	if s.Expiry != 0 {
		head |= subjectHasExpiry
	}
	dst = append(dst, head)
	dst = append(dst, s.Version[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.Domain))
	if head&subjectHasTag != 0 {
		dst = append(dst, s.KeyTag[:]...)
	}
	if head&subjectHasExpiry != 0 {
		dst = binary.BigEndian.AppendUint32(dst, s.Expiry)
	}
	return dst
}

// DecodeSubject reads a subject record in format 1. It accepts exactly what
// [SubjectRecord.Append] writes and returns [cloakroom.ErrMalformed] for
// anything else.
func DecodeSubject(b []byte) (SubjectRecord, error) {
	r := reader{rest: b}
	head := r.take(1)[0]
	s := SubjectRecord{Erased: head&subjectErased != 0}
	s.Version = cloakroom.Version(r.take(8))
	s.Domain = cloakroom.Domain(r.uint16())
	if head&subjectHasTag != 0 {
		s.KeyTag = KeyTag(r.take(8))
	}
	if head&subjectHasExpiry != 0 {
		s.Expiry = r.uint32()
	}
	known := byte(formatSubject<<4 | subjectErased | subjectHasTag | subjectHasExpiry)
	if r.short || len(r.rest) != 0 || head>>4 != formatSubject || head&^known != 0 ||
		(head&subjectHasTag != 0) != (s.KeyTag != KeyTag{}) ||
		(head&subjectHasExpiry != 0) != (s.Expiry != 0) {
		return SubjectRecord{}, cloakroom.ErrMalformed
	}
	return s, nil
}
