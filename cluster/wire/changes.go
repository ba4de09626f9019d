package wire

import (
	"encoding/binary"
	"slices"

	"cloakroom"
)

// MaxChanges bounds the changes of one [ChangesReply].
const MaxChanges = 1 << 15

// ChangesRequest asks what changed behind an entry, of many groups at once.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     number of parts, at most MaxGroups
//	5       …     parts, groups strictly ascending: 4 group, 4 generation,
//	              8 index of the entry
type ChangesRequest struct{ Parts []ChangesPart }

// ChangesPart is one group's part of a [ChangesRequest].
type ChangesPart struct {
	Group, Generation uint32
	After             uint64
}

const changesPartBytes = 16

// Append appends the message to dst.
func (m *ChangesRequest) Append(dst []byte) []byte {
	dst = slices.Grow(dst, 5+len(m.Parts)*changesPartBytes)
	dst = binary.BigEndian.AppendUint32(append(dst, format), uint32(len(m.Parts)))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = binary.BigEndian.AppendUint32(dst, p.Group)
		dst = binary.BigEndian.AppendUint32(dst, p.Generation)
		dst = binary.BigEndian.AppendUint64(dst, p.After)
	}
	return dst
}

// Decode reads one message and reuses its memory.
func (m *ChangesRequest) Decode(b []byte) error {
	r := open(b)
	n := r.count(MaxGroups, changesPartBytes)
	m.Parts = slices.Grow(m.Parts[:0], n)[:n]
	for i := range m.Parts {
		m.Parts[i] = ChangesPart{Group: r.uint32(), Generation: r.uint32(), After: r.uint64()}
		r.demand(i == 0 || m.Parts[i-1].Group < m.Parts[i].Group)
	}
	return r.end()
}

// SubjectChange is one change of one pseudonym.
type SubjectChange struct {
	Index  uint64 // of the log entry that made it
	Token  cloakroom.Token
	Domain cloakroom.Domain
	Kind   uint8 // as in package node/events
}

// ChangesReply answers a [ChangesRequest], its parts in the same order.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     number of parts, at most MaxGroups
//	5       …     parts: 1 code, then if it is ok:
//	              1 bit 0: changes before reach are missing, and none is told;
//	                bit 1: complete; bit 2: there are more
//	              8 reach: all changes up to that entry are told
//	              4 number of changes, in all parts at most MaxChanges
//	              27 × change: 8 index of its entry, never descending and at
//	              most reach, 16 token, 2 domain, 1 kind
//
// Complete: whatever was acknowledged before the request came lies within
// reach, or within what is told next if there are more.
type ChangesReply struct {
	Parts []ChangesAnswer

	changes []SubjectChange // decoded, of all parts
}

// ChangesAnswer is one group's part of a [ChangesReply]. All but Code are there
// if it is [OK].
type ChangesAnswer struct {
	Code                Code
	Gap, Complete, More bool
	Reach               uint64
	Changes             []SubjectChange
}

const (
	changeBytes     = 27
	changesGap      = 1 << 0
	changesComplete = 1 << 1
	changesMore     = 1 << 2
)

// Append appends the message to dst.
func (m *ChangesReply) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, format), uint32(len(m.Parts)))
	for i := range m.Parts {
		dst = m.Parts[i].append(dst)
	}
	return dst
}

func (a *ChangesAnswer) append(dst []byte) []byte {
	dst = append(dst, byte(a.Code))
	if a.Code != OK {
		return dst
	}
	var flags byte
	for bit, set := range [...]bool{a.Gap, a.Complete, a.More} {
		if set {
			flags |= 1 << bit
		}
	}
	dst = slices.Grow(append(dst, flags), 12+len(a.Changes)*changeBytes)
	dst = binary.BigEndian.AppendUint64(dst, a.Reach)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(a.Changes)))
	for i := range a.Changes {
		c := &a.Changes[i]
		dst = binary.BigEndian.AppendUint64(dst, c.Index)
		dst = append(dst, c.Token[:]...)
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.Domain))
		dst = append(dst, c.Kind)
	}
	return dst
}

// Decode reads one message and reuses its memory; the changes are copies, good
// until the next Decode.
func (m *ChangesReply) Decode(b []byte) error {
	r := open(b)
	n := r.count(MaxGroups, 1)
	m.Parts = slices.Grow(m.Parts[:0], n)[:n]
	m.changes = slices.Grow(m.changes[:0], min(len(r.rest)/changeBytes, MaxChanges))
	for i := range m.Parts {
		m.Parts[i] = ChangesAnswer{Code: r.code()}
		if m.Parts[i].Code == OK {
			m.decodePart(&r, &m.Parts[i])
		}
	}
	return r.end()
}

func (m *ChangesReply) decodePart(r *reader, a *ChangesAnswer) {
	flags := r.byte()
	r.demand(flags < changesMore<<1)
	a.Gap, a.Complete, a.More = flags&changesGap != 0, flags&changesComplete != 0, flags&changesMore != 0
	a.Reach = r.uint64()
	from, last := len(m.changes), uint64(0)
	for range r.count(MaxChanges-from, changeBytes) {
		c := SubjectChange{Index: r.uint64(), Token: cloakroom.Token(r.take(16)), Domain: cloakroom.Domain(r.uint16()), Kind: r.byte()}
		r.demand(c.Index >= last && c.Index <= a.Reach && !a.Gap)
		last = c.Index
		m.changes = append(m.changes, c)
	}
	a.Changes = m.changes[from:len(m.changes):len(m.changes)]
}
