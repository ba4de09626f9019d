package peer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"cloakroom/cluster/cert"
)

// The handshake that follows TLS. The dialler sends a hello, the other side
// one answer; both say who they are, and each checks the other's word against
// its certificate. Format 1, integers big-endian, texts one byte of length and
// then that many bytes; nothing may follow.
//
// hello:
//
//	offset  size  content
//	0       4     "CRhi"
//	4       1     format, 1
//	5       1     kind: 1 calls, 2 calls of a guest, 3 raft, 4 gossip, 5 calls of
//	              a guest where a certificate may be past its end
//	6       2     length of what follows
//	8       16    cluster
//	24      16    life of the caller
//	40      16    life that is wanted; zeros: any
//	56      8     boot number of the caller
//	64      1+n   node of the caller
//	        1+n   node that is wanted; empty: any (guests only)
//	raft only:
//	        4     group
//	        4     generation
//	        1+n   destination replica
//	        1+n   source replica
//
// answer:
//
//	offset  size  content
//	0       4     "CRok"
//	4       1     format, 1
//	5       1     0, or why not: then nothing follows
//	6       2     length of what follows
//	8       16    life of the answerer
//	24      8     boot number of the answerer
//	32      4     group         \
//	36      4     generation     } of the hello; zeros and empty unless raft
//	40      1+n   replica       /
//	        1+n   node of the answerer
const (
	formatHello = 1
	headBytes   = 8
	maxShake    = 512 // bytes of a hello or an answer, head included
	maxReplica  = 128 // bytes of a replica's ID

	helloMagic  = "CRhi"
	answerMagic = "CRok"
)

type kind uint8

const (
	calls kind = 1 + iota
	guest
	raft
	gossip
	overdue
	stranger // has no certificate, and says no hello
)

// member says whether a connection of this kind is for members only.
func (k kind) member() bool { return k != guest && k != overdue }

// protocols are the ALPN names. A guest calls as everybody does.
func (k kind) protocol() string {
	switch k {
	case raft:
		return "cloakroom-raft"
	case gossip:
		return "cloakroom-gossip"
	case overdue:
		return "cloakroom-late"
	default:
		return "cloakroom-rpc"
	}
}

// class is what connections are counted by: a guest's calls are calls.
func (k kind) class() kind {
	if k == guest || k == overdue {
		return calls
	}
	return k
}

type life [16]byte

func (l life) String() string { return hex.EncodeToString(l[:]) }

// parseLife reads what checkLife accepts.
func parseLife(text string) (l life, err error) {
	if err := checkLife(text); err != nil {
		return l, err
	}
	_, err = hex.Decode(l[:], []byte(text))
	return l, err
}

// end is one replica's end of a raft connection.
type end struct {
	group, generation uint32
	replica           string
}

type hello struct {
	kind    kind
	cluster [16]byte
	life    life
	boot    uint64
	node    string

	wantLife life   // zero: any
	wantNode string // empty: any
	want     end    // raft only
	source   string // raft only: replica
}

type answer struct {
	refusal refusal // admitted: the rest counts
	life    life
	boot    uint64
	node    string
	end     end
}

func (h *hello) append(dst []byte) []byte {
	dst, from := beginShake(dst, helloMagic, byte(h.kind))
	dst = append(dst, h.cluster[:]...)
	dst = append(dst, h.life[:]...)
	dst = append(dst, h.wantLife[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.boot)
	dst = appendText(dst, h.node)
	dst = appendText(dst, h.wantNode)
	if h.kind == raft {
		dst = binary.BigEndian.AppendUint32(dst, h.want.group)
		dst = binary.BigEndian.AppendUint32(dst, h.want.generation)
		dst = appendText(dst, h.want.replica)
		dst = appendText(dst, h.source)
	}
	return endShake(dst, from)
}

func (a *answer) append(dst []byte) []byte {
	dst, from := beginShake(dst, answerMagic, byte(a.refusal))
	if a.refusal == admitted {
		dst = append(dst, a.life[:]...)
		dst = binary.BigEndian.AppendUint64(dst, a.boot)
		dst = binary.BigEndian.AppendUint32(dst, a.end.group)
		dst = binary.BigEndian.AppendUint32(dst, a.end.generation)
		dst = appendText(dst, a.end.replica)
		dst = appendText(dst, a.node)
	}
	return endShake(dst, from)
}

func beginShake(dst []byte, magic string, what byte) ([]byte, int) {
	from := len(dst)
	dst = append(dst, magic...)
	return append(dst, formatHello, what, 0, 0), from
}

func endShake(dst []byte, from int) []byte {
	binary.BigEndian.PutUint16(dst[from+6:], uint16(len(dst)-from-headBytes))
	return dst
}

func appendText(dst []byte, text string) []byte {
	return append(append(dst, byte(len(text))), text...)
}

var errShake = errors.New("malformed handshake")

// readShake reads one message and returns what it says in its head, and the
// rest. It reads no byte more, and little before the first wrong one.
func readShake(r io.Reader, magic string, most int) (what byte, rest []byte, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[6:]))
	if string(head[:4]) != magic || head[4] != formatHello || n > most-headBytes {
		return 0, nil, errShake
	}
	rest = make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, nil, err
	}
	return head[5], rest, nil
}

func readHello(r io.Reader) (*hello, error) {
	what, rest, err := readShake(r, helloMagic, maxShake)
	if err != nil {
		return nil, err
	}
	in := input{rest: rest}
	h := &hello{kind: kind(what)}
	in.fixed(h.cluster[:])
	in.fixed(h.life[:])
	in.fixed(h.wantLife[:])
	h.boot = in.uint64()
	h.node = in.node()
	if h.wantNode = in.text(cert.MaxNodeName); h.wantNode != "" && cert.CheckNode(h.wantNode) != nil {
		in.bad = true
	}
	switch h.kind {
	case calls, gossip:
		in.bad = in.bad || h.wantNode == ""
	case guest, overdue:
	case raft:
		in.bad = in.bad || h.wantNode == ""
		h.want = end{group: in.uint32(), generation: in.uint32(), replica: in.replica()}
		h.source = in.replica()
	default:
		in.bad = true
	}
	return h, in.done()
}

func readAnswer(r io.Reader) (*answer, error) {
	what, rest, err := readShake(r, answerMagic, maxShake)
	if err != nil {
		return nil, err
	}
	in := input{rest: rest}
	a := &answer{refusal: refusal(what)}
	if a.refusal != admitted {
		in.bad = !a.refusal.known()
		return a, in.done()
	}
	in.fixed(a.life[:])
	a.boot = in.uint64()
	a.end = end{group: in.uint32(), generation: in.uint32(), replica: in.text(maxReplica)}
	if a.end.replica != "" && checkReplica(a.end.replica) != nil {
		in.bad = true
	}
	a.node = in.node()
	return a, in.done()
}

// input takes a message apart. After the first fault it yields zeros.
type input struct {
	rest []byte
	bad  bool
}

func (in *input) take(n int) []byte {
	if in.bad || len(in.rest) < n {
		in.bad = true
		return nil
	}
	taken := in.rest[:n]
	in.rest = in.rest[n:]
	return taken
}

func (in *input) fixed(dst []byte) { copy(dst, in.take(len(dst))) }

func (in *input) uint32() uint32 {
	var raw [4]byte
	in.fixed(raw[:])
	return binary.BigEndian.Uint32(raw[:])
}

func (in *input) uint64() uint64 {
	var raw [8]byte
	in.fixed(raw[:])
	return binary.BigEndian.Uint64(raw[:])
}

func (in *input) text(most int) string {
	n := in.take(1)
	if n == nil || int(n[0]) > most {
		in.bad = true
		return ""
	}
	return string(in.take(int(n[0])))
}

func (in *input) node() string {
	name := in.text(cert.MaxNodeName)
	in.bad = in.bad || cert.CheckNode(name) != nil
	return name
}

func (in *input) replica() string {
	id := in.text(maxReplica)
	in.bad = in.bad || checkReplica(id) != nil
	return id
}

func (in *input) done() error {
	if in.bad || len(in.rest) > 0 {
		return errShake
	}
	return nil
}

// checkReplica says whether a handshake can carry this ID.
func checkReplica(id string) error {
	if id == "" || len(id) > maxReplica {
		return fmt.Errorf("replica ID: want 1 to %d characters", maxReplica)
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return errors.New("replica ID: want printable ASCII without spaces")
		}
	}
	return nil
}
