package wire

import "encoding/binary"

// GiveLeadRequest asks the leader of a group to hand its lead to another
// voter.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     group
//	5       4     generation
//	9       2+…   ID of the replica that is to lead, not empty
type GiveLeadRequest struct {
	Group, Generation uint32
	To                string
}

// Append appends the message to dst.
func (m *GiveLeadRequest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, format), m.Group)
	dst = binary.BigEndian.AppendUint32(dst, m.Generation)
	return appendString(dst, m.To)
}

// Decode reads one message.
func (m *GiveLeadRequest) Decode(b []byte) error {
	r := open(b)
	m.Group, m.Generation, m.To = r.uint32(), r.uint32(), r.string()
	r.demand(m.To != "")
	return r.end()
}

// GiveLeadReply says what became of a [GiveLeadRequest]. [OK]: the node does
// not lead the group any more.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
type GiveLeadReply struct{ Code Code }

// Append appends the message to dst.
func (m *GiveLeadReply) Append(dst []byte) []byte { return append(dst, format, byte(m.Code)) }

// Decode reads one message.
func (m *GiveLeadReply) Decode(b []byte) error {
	r := open(b)
	m.Code = r.code()
	return r.end()
}
