package wire

import (
	"encoding/binary"
	"slices"
	"time"
)

// LeaseRequest asks the leader of groups for read leases, for replicas of the
// asker's node.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     number of parts, at most MaxGroups
//	5       …     parts, groups strictly ascending: 4 group, 4 generation,
//	              8 term of the replica, 8 index it has applied, 2+… its ID, not empty
//
// The term is the replica's vote in a confirm round, as in a [ReadRequest]. The
// index tells the leader whether the replica could use a lease at all.
type LeaseRequest struct{ Parts []LeasePart }

// LeasePart is one replica of a [LeaseRequest].
type LeasePart struct {
	Group, Generation uint32
	Term              uint64 // of Replica, when the asker wrote this
	Applied           uint64 // index, the same
	Replica           []byte // its ID; aliases the message
}

const leasePartBytes = 4 + 4 + 8 + 8 + 2 // at least

// Append appends the message to dst.
func (m *LeaseRequest) Append(dst []byte) []byte {
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Parts)))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = binary.BigEndian.AppendUint32(dst, p.Group)
		dst = binary.BigEndian.AppendUint32(dst, p.Generation)
		dst = binary.BigEndian.AppendUint64(dst, p.Term)
		dst = binary.BigEndian.AppendUint64(dst, p.Applied)
		dst = appendString(dst, p.Replica)
	}
	return dst
}

// Decode reads one message and reuses Parts.
func (m *LeaseRequest) Decode(b []byte) error {
	r := open(b)
	n := r.count(MaxGroups, leasePartBytes)
	m.Parts = slices.Grow(m.Parts[:0], n)[:n]
	for i := range m.Parts {
		m.Parts[i] = LeasePart{Group: r.uint32(), Generation: r.uint32(), Term: r.uint64(), Applied: r.uint64(), Replica: r.raw()}
		r.demand(len(m.Parts[i].Replica) > 0)
		r.demand(i == 0 || m.Parts[i-1].Group < m.Parts[i].Group)
	}
	return r.end()
}

// LeaseReply answers a [LeaseRequest], its parts in the same order.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     length of the leases, milliseconds
//	5       4     number of parts, at most MaxGroups
//	9       …     parts: 1 code, then
//	              ok: 8 index that the replica applies before it uses the lease
//	              otherwise: 2+… ID of the replica that leads, empty if unknown
type LeaseReply struct {
	Length time.Duration // whole milliseconds, below 2^32 of them
	Parts  []LeaseAnswer
}

// LeaseAnswer is what became of one part of a [LeaseRequest]. Index is there if
// Code is [OK], Hint if not.
type LeaseAnswer struct {
	Code  Code
	Index uint64
	Hint  string
}

// Append appends the message to dst.
func (m *LeaseReply) Append(dst []byte) []byte {
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Length/time.Millisecond))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Parts)))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = append(dst, byte(p.Code))
		if p.Code == OK {
			dst = binary.BigEndian.AppendUint64(dst, p.Index)
		} else {
			dst = appendString(dst, p.Hint)
		}
	}
	return dst
}

// Decode reads one message and reuses Parts.
func (m *LeaseReply) Decode(b []byte) error {
	r := open(b)
	m.Length = time.Duration(r.uint32()) * time.Millisecond
	n := r.count(MaxGroups, 3)
	m.Parts = slices.Grow(m.Parts[:0], n)[:n]
	for i := range m.Parts {
		m.Parts[i] = LeaseAnswer{Code: r.code()}
		if m.Parts[i].Code == OK {
			m.Parts[i].Index = r.uint64()
		} else {
			m.Parts[i].Hint = r.string()
		}
	}
	return r.end()
}
