package wire

import (
	"encoding/binary"
	"time"
)

// ViewLeaseRequest asks the leader of the directory for a lease of the asker's
// view, for the life in which the asker is.
//
//	offset  size  content
//	0       1     format, 1
//	1       8     term of the asker's replica of the directory
//	9       2+…   its ID, empty if it has none in service
//
// The term is the replica's vote in a confirm round, as in a [ReadRequest].
type ViewLeaseRequest struct {
	Term    uint64
	Replica []byte // aliases the message
}

// Append appends the message to dst.
func (m *ViewLeaseRequest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, format), m.Term)
	return appendString(dst, m.Replica)
}

// Decode reads one message.
func (m *ViewLeaseRequest) Decode(b []byte) error {
	r := open(b)
	m.Term, m.Replica = r.uint64(), r.raw()
	return r.end()
}

// ViewLeaseReply answers a [ViewLeaseRequest]. Length and Epoch are there if
// Code is [OK], Hint if not.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	ok:
//	2       4     length of the lease, milliseconds
//	6       8     epoch that the asker's view has before it uses the lease
//	otherwise:
//	2       2+…   ID of the replica that leads, empty if unknown
type ViewLeaseReply struct {
	Code   Code
	Length time.Duration // whole milliseconds, below 2^32 of them
	Epoch  uint64
	Hint   string
}

// Append appends the message to dst.
func (m *ViewLeaseReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code))
	if m.Code != OK {
		return appendString(dst, m.Hint)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Length/time.Millisecond))
	return binary.BigEndian.AppendUint64(dst, m.Epoch)
}

// Decode reads one message.
func (m *ViewLeaseReply) Decode(b []byte) error {
	r := open(b)
	*m = ViewLeaseReply{Code: r.code()}
	if m.Code == OK {
		m.Length, m.Epoch = time.Duration(r.uint32())*time.Millisecond, r.uint64()
	} else {
		m.Hint = r.string()
	}
	return r.end()
}

// ViewAwaitRequest asks a node, in that very life, to answer once its view of
// the directory has an epoch.
//
//	offset  size  content
//	0       1     format, 1
//	1       8     epoch
//	9       2+…   life
//
// The answer is an [AwaitReply].
type ViewAwaitRequest struct {
	Epoch uint64
	Life  string
}

// Append appends the message to dst.
func (m *ViewAwaitRequest) Append(dst []byte) []byte {
	return appendString(binary.BigEndian.AppendUint64(append(dst, format), m.Epoch), m.Life)
}

// Decode reads one message.
func (m *ViewAwaitRequest) Decode(b []byte) error {
	r := open(b)
	m.Epoch, m.Life = r.uint64(), r.string()
	return r.end()
}

// ViewSettleRequest asks the leader of the directory to see to it that no node
// goes by a view from before an epoch. The answer is a [SettleReply].
//
//	offset  size  content
//	0       1     format, 1
//	1       8     epoch
type ViewSettleRequest struct{ Epoch uint64 }

// Append appends the message to dst.
func (m *ViewSettleRequest) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(append(dst, format), m.Epoch)
}

// Decode reads one message.
func (m *ViewSettleRequest) Decode(b []byte) error {
	r := open(b)
	m.Epoch = r.uint64()
	return r.end()
}
