package command

import (
	"bytes"
	"encoding/binary"

	"cloakroom"
)

// SubjectRecord is what a shard keeps under a subject's own token, and under
// the tokens of its further pseudonyms (aliases). It names no field.
//
// An alias has a Domain and Sealed and nothing else: version, expiry and all
// fields are the subject's, whose pseudonym is in Sealed. Only a living subject
// has Links.
type SubjectRecord struct {
	Version cloakroom.Version
	Domain  cloakroom.Domain
	KeyTag  KeyTag // of the last request; zero: it carried no idempotency key
	Expiry  uint32 // unix seconds, 0: none; with Erased: when it was erased
	Erased  bool
	Alias   bool
	Links   Links  // aliases what was decoded
	Sealed  []byte // of an alias: the subject's pseudonym; aliases what was decoded
}

// Format 1 of a subject record. Integers are big-endian; most subjects carry
// neither key tag nor expiry nor links and take 11 bytes.
//
//	offset  size  content
//	0       1     bits 4–7: 1; bit 0 erased, 1 key tag, 2 expiry, 3 links
//	1       8     version
//	9       2     domain
//	11      8     [key tag, not zero]
//	        4     [expiry or time of the erasure, unix seconds, not zero]
//	       17 ×   [links, 1 to MaxLinks, tokens strictly ascending; none if erased]
//	                1   kind: 1 handle, 2 alias
//	                16  token
//
// Under the token of an alias:
//
//	0       1     bits 4–7: 2; the others are zero
//	1       2     domain
//	3       …     sealed pseudonym of the subject, 1 to MaxLinkRecordBytes
//
// Under the token of a handle, which is no subject's:
//
//	0       1     bits 4–7: 3; the others are zero
//	1       …     sealed pseudonym of the subject, 1 to MaxLinkRecordBytes
const (
	formatSubject    = 1
	formatAlias      = 2
	formatHandle     = 3
	subjectErased    = 1 << 0
	subjectHasTag    = 1 << 1
	subjectHasExpiry = 1 << 2
	subjectHasLinks  = 1 << 3
	subjectFixed     = 11
	aliasFixed       = 3
	// MaxSubjectRecord is the length of the longest subject record, those of
	// aliases and handles included.
	MaxSubjectRecord = subjectFixed + 8 + 4 + MaxLinks*storedLink
)

// IsZero reports whether there is no subject: no record decodes to this.
func (s *SubjectRecord) IsZero() bool {
	return s.Version == cloakroom.Version{} && s.Domain == 0 && s.KeyTag == KeyTag{} && s.Expiry == 0 &&
		!s.Erased && !s.Alias && len(s.Links) == 0 && len(s.Sealed) == 0
}

// Equal reports whether both records say the same.
func (s *SubjectRecord) Equal(o *SubjectRecord) bool {
	return s.Version == o.Version && s.Domain == o.Domain && s.KeyTag == o.KeyTag && s.Expiry == o.Expiry &&
		s.Erased == o.Erased && s.Alias == o.Alias && bytes.Equal(s.Links, o.Links) && bytes.Equal(s.Sealed, o.Sealed)
}

// Size returns the number of bytes [SubjectRecord.Append] appends.
func (s *SubjectRecord) Size() int {
	if s.Alias {
		return aliasFixed + len(s.Sealed)
	}
	n := subjectFixed + len(s.Links)
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
	if s.Alias {
		dst = append(dst, formatAlias<<4)
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.Domain))
		return append(dst, s.Sealed...)
	}
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
	if len(s.Links) != 0 {
		head |= subjectHasLinks
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
	return append(dst, s.Links...)
}

// DecodeSubject reads a subject record in format 1, an alias' too. It accepts
// exactly what [SubjectRecord.Append] writes and returns
// [cloakroom.ErrMalformed] for anything else. Links and Sealed alias b.
func DecodeSubject(b []byte) (SubjectRecord, error) {
	r := reader{rest: b}
	head := r.take(1)[0]
	if head == formatAlias<<4 {
		return decodeAlias(&r)
	}
	s := SubjectRecord{Erased: head&subjectErased != 0}
	s.Version = cloakroom.Version(r.take(8))
	s.Domain = cloakroom.Domain(r.uint16())
	if head&subjectHasTag != 0 {
		s.KeyTag = KeyTag(r.take(8))
	}
	if head&subjectHasExpiry != 0 {
		s.Expiry = r.uint32()
	}
	if len(r.rest) != 0 {
		s.Links = Links(r.rest)
	}
	if r.short || head>>4 != formatSubject || s.Erased && s.Links != nil || !s.Links.valid() ||
		(head&subjectHasTag != 0) != (s.KeyTag != KeyTag{}) ||
		(head&subjectHasExpiry != 0) != (s.Expiry != 0) ||
		(head&subjectHasLinks != 0) != (s.Links != nil) {
		return SubjectRecord{}, cloakroom.ErrMalformed
	}
	return s, nil
}

// decodeAlias reads what follows the first byte of an alias' record.
func decodeAlias(r *reader) (SubjectRecord, error) {
	s := SubjectRecord{Alias: true, Domain: cloakroom.Domain(r.uint16()), Sealed: r.rest}
	if r.short || len(s.Sealed) == 0 || len(s.Sealed) > MaxLinkRecordBytes {
		return SubjectRecord{}, cloakroom.ErrMalformed
	}
	return s, nil
}
