package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// Expired appends to dst, in token order, the tokens of at most limit living
// subjects after the given one whose expiry is at or before now (unix
// seconds). It appends nothing when there is none left; the sweeper then
// starts again from the zero token.
//
// A call looks through one segment that has such subjects (some 12,000
// entries), and through those whose earliest expiry turns out to be later than
// they remembered: each of them once.
func (m *Machine) Expired(after cloakroom.Token, now uint32, limit int, dst []cloakroom.Token) []cloakroom.Token {
	start, prefix := len(dst), uint64(binary.BigEndian.Uint32(after[0:4]))
	for len(dst) == start && limit > 0 && prefix <= 1<<32-1 {
		dst, prefix = m.expiredFrom(uint32(prefix), after, now, dst)
	}
	slices.SortFunc(dst[start:], func(a, b cloakroom.Token) int { return bytes.Compare(a[:], b[:]) })
	return dst[:min(len(dst), start+max(limit, 0))]
}

// expiredFrom looks through the first segment at or after prefix that may have
// expired subjects, and returns the prefix behind it.
func (m *Machine) expiredFrom(prefix uint32, after cloakroom.Token, now uint32, dst []cloakroom.Token) ([]cloakroom.Token, uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for {
		s := m.index.segment(prefix)
		next := uint64(s.prefix) + 1<<(32-s.depth)
		if e := s.earliest.Load(); e != 0 && e <= now {
			return s.appendExpired(m.slab, after, now, dst), next
		}
		if next > 1<<32-1 {
			return dst, next
		}
		prefix = uint32(next)
	}
}

// appendExpired appends the expired subjects of a segment in no order, and
// corrects the segment's earliest expiry.
func (s *segment) appendExpired(slab *securemem.Slab, after cloakroom.Token, now uint32, dst []cloakroom.Token) []cloakroom.Token {
	earliest := uint32(0)
	for b := range s.buckets {
		b := s.bucket(b)
		for i := range bucketEntries {
			ref, m := b.ref(i), b.mark(i)
			if ref == 0 || m&subject == 0 {
				continue
			}
			slot := slab.Bytes(ref)
			expiry := livingExpiry(slotRecord(slot, m))
			if expiry == 0 {
				continue
			}
			if earliest == 0 || expiry < earliest {
				earliest = expiry
			}
			if token := slotToken(slot, b.tag(i)); expiry <= now && bytes.Compare(token[:], after[:]) > 0 {
				dst = append(dst, token)
			}
		}
	}
	s.earliest.Store(earliest)
	return dst
}

// Living appends to dst, in token order, the tokens of at most limit living
// subjects after the given one, links left out. It appends nothing when there
// is none left. A call looks through one segment, or a few that have none.
func (m *Machine) Living(after cloakroom.Token, limit int, dst []cloakroom.Token) []cloakroom.Token {
	start, prefix := len(dst), uint64(binary.BigEndian.Uint32(after[0:4]))
	for len(dst) == start && limit > 0 && prefix <= 1<<32-1 {
		dst, prefix = m.livingFrom(uint32(prefix), after, dst)
	}
	slices.SortFunc(dst[start:], func(a, b cloakroom.Token) int { return bytes.Compare(a[:], b[:]) })
	return dst[:min(len(dst), start+max(limit, 0))]
}

// livingFrom appends the living subjects of the segment at prefix, in no order,
// and returns the prefix behind it.
func (m *Machine) livingFrom(prefix uint32, after cloakroom.Token, dst []cloakroom.Token) ([]cloakroom.Token, uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.index.segment(prefix)
	for b := range s.buckets {
		b := s.bucket(b)
		for i := range bucketEntries {
			ref, kind := b.ref(i), b.mark(i)
			if ref == 0 || kind&subject == 0 {
				continue
			}
			slot := m.slab.Bytes(ref)
			token := slotToken(slot, b.tag(i))
			if bytes.Compare(token[:], after[:]) > 0 && lives(slotRecord(slot, kind)) {
				dst = append(dst, token)
			}
		}
	}
	return dst, uint64(s.prefix) + 1<<(32-s.depth)
}

// lives reports whether what is stored as a subject is a living one.
func lives(record []byte) bool {
	if command.IsHandle(record) {
		return false
	}
	s := decodeSubject(record)
	return !s.Erased && !s.Alias
}
