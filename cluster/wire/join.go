package wire

import "encoding/binary"

// JoinRequest asks a member of the directory group to register a node and to
// take its directory replica into the group.
//
//	offset  size  content
//	0       1     format, 1
//	1       2+…   node
//	        2+…   life
//	        2+…   address of the node, host:port
//	        2+…   zone
//	        2+…   ID of its directory replica
//	        2+…   virtual address of that replica
//	        2+…   address of the node's front door, may be empty
//	        8     boot number of its folder; 0: it has none
//	        32    proof that it has the keys; zeros: none
//	        1     1: that replica has a log that was kept, else 0
type JoinRequest struct {
	Node, Life, Address, Zone string
	Replica                   Identity
	API                       string
	Boot                      uint64
	Proof                     [32]byte
	Kept                      bool
}

func (m *JoinRequest) strings() [7]*string {
	return [...]*string{&m.Node, &m.Life, &m.Address, &m.Zone, &m.Replica.ID, &m.Replica.Address, &m.API}
}

// Identity names a replica, as raft knows it.
type Identity struct{ ID, Address string }

// Append appends the message to dst.
func (m *JoinRequest) Append(dst []byte) []byte {
	dst = append(dst, format)
	for _, s := range m.strings() {
		dst = appendString(dst, *s)
	}
	dst = append(binary.BigEndian.AppendUint64(dst, m.Boot), m.Proof[:]...)
	return append(dst, bit(m.Kept))
}

// Decode reads one message.
func (m *JoinRequest) Decode(b []byte) error {
	r := open(b)
	for _, s := range m.strings() {
		*s = r.string()
	}
	m.Boot = r.uint64()
	copy(m.Proof[:], r.take(len(m.Proof)))
	m.Kept = r.flag()
	return r.end()
}

// JoinReply says who the voters of the directory group are, so that the node
// can be reached by them and reach them before it has a view of its own.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     code
//	2       1     reason, if the node itself can do something about it
//	3       8     boot number that is registered for the node
//	11      2+…   text for the operator
//	        4     generation of the directory group
//	        8     epoch of the view that the members are taken from
//	        4     number of members, at most MaxMembers
//	        …     members, each: 2+… replica ID, 2+… its virtual address,
//	              2+… node, 2+… life, 2+… address of the node
type JoinReply struct {
	Code       Code
	Reason     JoinReason
	Boot       uint64 // registered for the node
	Text       string // why not, or empty
	Generation uint32
	Epoch      uint64 // of the view that Members are taken from
	Members    []Member
}

// JoinReason is why a node was not taken in, where the node itself can do
// something about it.
type JoinReason uint8

// The reasons.
const (
	NoReason    JoinReason = iota
	RolledBack             // its folder counts a start that was counted before
	ReplicaLeft            // the replica it brings has left the group
	NodeRemoved            // it is not of the cluster any more
	joinReasons            // how many there are
)

// Member is one voter of the directory group and where it lives.
type Member struct {
	ID, Address             string // of the replica
	Node, Life, NodeAddress string
}

func (m *Member) parts() [5]*string {
	return [...]*string{&m.ID, &m.Address, &m.Node, &m.Life, &m.NodeAddress}
}

// Append appends the message to dst.
func (m *JoinReply) Append(dst []byte) []byte {
	dst = append(dst, format, byte(m.Code), byte(m.Reason))
	dst = binary.BigEndian.AppendUint64(dst, m.Boot)
	dst = appendString(dst, m.Text)
	dst = binary.BigEndian.AppendUint32(dst, m.Generation)
	dst = binary.BigEndian.AppendUint64(dst, m.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Members)))
	for i := range m.Members {
		for _, s := range m.Members[i].parts() {
			dst = appendString(dst, *s)
		}
	}
	return dst
}

// Decode reads one message.
func (m *JoinReply) Decode(b []byte) error {
	r := open(b)
	m.Code, m.Reason, m.Boot = r.code(), JoinReason(r.byte()), r.uint64()
	r.demand(m.Reason < joinReasons)
	m.Text, m.Generation, m.Epoch = r.string(), r.uint32(), r.uint64()
	m.Members = m.Members[:0]
	for range r.count(MaxMembers, 5*2) {
		var member Member
		for _, s := range member.parts() {
			*s = r.string()
		}
		m.Members = append(m.Members, member)
	}
	return r.end()
}
