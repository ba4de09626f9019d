package wire

import (
	"encoding/binary"
	"slices"

	"cloakroom"
	"cloakroom/cluster/command"
)

// MaxItems bounds the commands of one [ProposeRequest]: those of the largest
// batch deposit.
const MaxItems = cloakroom.MaxBatchSubjects

// ProposeRequest hands commands to the leader of a group.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     group
//	5       4     generation
//	9       4     number of items, 1 to MaxItems
//	13      …     items: 4 length, … command
//
// The frame of the items is checked here, the commands by the shard.
type ProposeRequest struct {
	Group, Generation uint32
	Count             int
	Items             []byte // as [command.AppendItem] writes them
}

// Append appends the message to dst.
func (m *ProposeRequest) Append(dst []byte) []byte {
	dst = slices.Grow(dst, 13+len(m.Items))
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint32(dst, m.Group)
	dst = binary.BigEndian.AppendUint32(dst, m.Generation)
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Count))
	return append(dst, m.Items...)
}

// Decode reads one message. Items alias b.
func (m *ProposeRequest) Decode(b []byte) error {
	r := open(b)
	m.Group, m.Generation = r.uint32(), r.uint32()
	m.Count = r.count(MaxItems, command.ItemOverhead)
	r.demand(m.Count > 0)
	m.Items = r.rest
	for range m.Count {
		r.take(int(r.uint32()))
	}
	return r.end()
}

// Ends appends to dst where in Items each item ends, in bytes. The message is
// one that was decoded.
func (m *ProposeRequest) Ends(dst []int) []int {
	dst = slices.Grow(dst, m.Count)
	for at := 0; at < len(m.Items); {
		at += command.ItemOverhead + int(binary.BigEndian.Uint32(m.Items[at:]))
		dst = append(dst, at)
	}
	return dst
}

// ProposeReply answers a [ProposeRequest]. Index and Results are there if Code
// is [OK], Hint if not.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	ok:
//	2       8     index
//	10      4     number of results, at most MaxItems
//	14      15 ×  results: 1 code, 8 version, 4 expiry, 2 domain
//	otherwise:
//	2       2+…   ID of the replica that leads, empty if unknown
type ProposeReply struct {
	Code    Code
	Hint    string
	Index   uint64
	Results []command.Result
}

const resultBytes = 1 + 8 + 4 + 2

// Append appends the message to dst.
func (m *ProposeReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code))
	if m.Code != OK {
		return appendString(dst, m.Hint)
	}
	dst = slices.Grow(dst, 12+len(m.Results)*resultBytes)
	dst = binary.BigEndian.AppendUint64(dst, m.Index)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Results)))
	for i := range m.Results {
		result := &m.Results[i]
		dst = append(dst, byte(result.Code))
		dst = append(dst, result.Version[:]...)
		dst = binary.BigEndian.AppendUint32(dst, result.Expiry)
		dst = binary.BigEndian.AppendUint16(dst, uint16(result.Domain))
	}
	return dst
}

// Decode reads one message and reuses Results.
func (m *ProposeReply) Decode(b []byte) error {
	r := open(b)
	*m = ProposeReply{Code: r.code(), Results: m.Results[:0]}
	if m.Code != OK {
		m.Hint = r.string()
		return r.end()
	}
	m.Index = r.uint64()
	n := r.count(MaxItems, resultBytes)
	m.Results = slices.Grow(m.Results, n)[:n]
	for i := range m.Results {
		m.Results[i] = command.Result{
			Code:    command.Code(r.byte()),
			Version: cloakroom.Version(r.take(8)),
			Expiry:  r.uint32(),
			Domain:  cloakroom.Domain(r.uint16()),
		}
		r.demand(m.Results[i].Code.Known())
	}
	return r.end()
}

// ChangeRequest hands one encoded command to the leader of the directory.
//
//	offset  size  content
//	0       1     format, 1
//	1       …     command, not looked into
type ChangeRequest struct{ Data []byte }

// Append appends the message to dst.
func (m *ChangeRequest) Append(dst []byte) []byte {
	return append(append(dst, format), m.Data...)
}

// Decode reads one message. Data aliases b.
func (m *ChangeRequest) Decode(b []byte) error {
	r := open(b)
	m.Data = r.take(len(r.rest))
	return r.end()
}

// ChangeReply answers a [ChangeRequest]. Index and Result are there if Code is
// [OK], Hint if not.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	ok:
//	2       8     index
//	10      …     result, not looked into
//	otherwise:
//	2       2+…   ID of the replica that leads, empty if unknown
type ChangeReply struct {
	Code   Code
	Hint   string
	Index  uint64
	Result []byte
}

// Append appends the message to dst.
func (m *ChangeReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code))
	if m.Code != OK {
		return appendString(dst, m.Hint)
	}
	dst = binary.BigEndian.AppendUint64(dst, m.Index)
	return append(dst, m.Result...)
}

// Decode reads one message. Result aliases b.
func (m *ChangeReply) Decode(b []byte) error {
	r := open(b)
	*m = ChangeReply{Code: r.code()}
	if m.Code != OK {
		m.Hint = r.string()
		return r.end()
	}
	m.Index = r.uint64()
	m.Result = r.take(len(r.rest))
	return r.end()
}
