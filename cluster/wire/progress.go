package wire

import "encoding/binary"

// ProgressRequest asks how far a replica has come.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     group
//	5       2+…   replica ID
type ProgressRequest struct {
	Group   uint32
	Replica string
}

// Append appends the message to dst.
func (m *ProgressRequest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, format), m.Group)
	return appendString(dst, m.Replica)
}

// Decode reads one message.
func (m *ProgressRequest) Decode(b []byte) error {
	r := open(b)
	m.Group, m.Replica = r.uint32(), r.string()
	return r.end()
}

// ProgressReply answers a [ProgressRequest]. The numbers are zero unless Code
// is [OK].
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	2       8     term
//	10      8     last index in the log
//	18      8     commit index
//	26      8     applied index
//	34      1     1: it has a vote, as far as it knows, else 0
type ProgressReply struct {
	Code                        Code
	Term, Last, Commit, Applied uint64
	Voter                       bool
}

// Append appends the message to dst.
func (m *ProgressReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code))
	for _, n := range [...]uint64{m.Term, m.Last, m.Commit, m.Applied} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	return append(dst, bit(m.Voter))
}

// Decode reads one message.
func (m *ProgressReply) Decode(b []byte) error {
	r := open(b)
	*m = ProgressReply{Code: r.code(), Term: r.uint64(), Last: r.uint64(), Commit: r.uint64(), Applied: r.uint64(), Voter: r.flag()}
	return r.end()
}

// PingRequest asks who lives there.
//
//	offset  size  content
//	0       1     format, 1
type PingRequest struct{}

// Append appends the message to dst.
func (m *PingRequest) Append(dst []byte) []byte { return append(dst, format) }

// Decode reads one message.
func (m *PingRequest) Decode(b []byte) error {
	r := open(b)
	return r.end()
}

// PingReply says who lives there.
//
//	offset  size  content
//	0       1     format, 1
//	1       2+…   node
//	        2+…   life
type PingReply struct{ Node, Life string }

// Append appends the message to dst.
func (m *PingReply) Append(dst []byte) []byte {
	return appendString(appendString(append(dst, format), m.Node), m.Life)
}

// Decode reads one message.
func (m *PingReply) Decode(b []byte) error {
	r := open(b)
	m.Node, m.Life = r.string(), r.string()
	return r.end()
}
