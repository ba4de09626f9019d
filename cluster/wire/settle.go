package wire

import "encoding/binary"

// SettleRequest asks the leader of a group to see to it that no replica
// answers from a state before an index.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     group
//	5       4     generation
//	9       8     index
type SettleRequest struct {
	Group, Generation uint32
	Index             uint64
}

// Append appends the message to dst.
func (m *SettleRequest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, format), m.Group)
	dst = binary.BigEndian.AppendUint32(dst, m.Generation)
	return binary.BigEndian.AppendUint64(dst, m.Index)
}

// Decode reads one message.
func (m *SettleRequest) Decode(b []byte) error {
	r := open(b)
	m.Group, m.Generation, m.Index = r.uint32(), r.uint32(), r.uint64()
	return r.end()
}

// SettleReply answers a [SettleRequest]. [Unavailable] says that it is not so
// yet; asking again is always right. Hint is there unless Code is [OK].
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	otherwise than ok:
//	2       2+…   ID of the replica that leads, empty if unknown
type SettleReply struct {
	Code Code
	Hint string
}

// Append appends the message to dst.
func (m *SettleReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code))
	if m.Code != OK {
		dst = appendString(dst, m.Hint)
	}
	return dst
}

// Decode reads one message.
func (m *SettleReply) Decode(b []byte) error {
	r := open(b)
	*m = SettleReply{Code: r.code()}
	if m.Code != OK {
		m.Hint = r.string()
	}
	return r.end()
}

// AwaitRequest asks a replica to answer once it has applied an index.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     group
//	5       4     generation
//	9       8     index
//	17      2+…   replica ID
type AwaitRequest struct {
	Group, Generation uint32
	Index             uint64
	Replica           string
}

// Append appends the message to dst.
func (m *AwaitRequest) Append(dst []byte) []byte {
	dst = (&SettleRequest{m.Group, m.Generation, m.Index}).Append(dst)
	return appendString(dst, m.Replica)
}

// Decode reads one message.
func (m *AwaitRequest) Decode(b []byte) error {
	r := open(b)
	m.Group, m.Generation, m.Index, m.Replica = r.uint32(), r.uint32(), r.uint64(), r.string()
	return r.end()
}

// AwaitReply answers an [AwaitRequest]: [OK] if that very replica is in
// service and has applied the index.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
type AwaitReply struct{ Code Code }

// Append appends the message to dst.
func (m *AwaitReply) Append(dst []byte) []byte { return append(dst, format, byte(m.Code)) }

// Decode reads one message.
func (m *AwaitReply) Decode(b []byte) error {
	r := open(b)
	m.Code = r.code()
	return r.end()
}
