package wire

import (
	"encoding/binary"
	"slices"

	"cloakroom"
)

// Question asks whether a replica is still in the asker's term.
type Question struct {
	Group   uint32
	Replica []byte // ID of the replica asked; aliases the message
	Term    uint64
}

// A confirm request is a list of questions to the replicas of one node. It has
// no struct: [BeginConfirm], [AppendQuestion] and [EndConfirm] write it,
// [OpenConfirm] reads it, neither allocating for a question.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     number of questions, at most MaxQuestions
//	5       …     questions: 4 group, 2+… replica ID, 8 term
const questionBytes = 4 + 2 + 8 // at least

// MaxQuestions bounds the questions of one request: a node may hold, for a
// while, the last and the next replica of each group.
const MaxQuestions = 2 * MaxGroups

// BeginConfirm appends the head of a confirm request to dst.
func BeginConfirm(dst []byte) []byte { return append(dst, format, 0, 0, 0, 0) }

// AppendQuestion appends one question to a request begun with [BeginConfirm].
func AppendQuestion(dst []byte, group uint32, replica string, term uint64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, group)
	dst = appendString(dst, replica)
	return binary.BigEndian.AppendUint64(dst, term)
}

// EndConfirm writes the number of questions into the head; request starts at
// the head.
func EndConfirm(request []byte, questions int) {
	binary.BigEndian.PutUint32(request[1:], uint32(questions))
}

// Questions walks over a confirm request, which it aliases.
type Questions struct {
	rest reader
	left int
}

// OpenConfirm checks a whole confirm request.
func OpenConfirm(b []byte) (Questions, error) {
	r := open(b)
	n := r.count(MaxQuestions, questionBytes)
	q := Questions{rest: r, left: n}
	for range n {
		r.question()
	}
	if err := r.end(); err != nil {
		return Questions{}, err
	}
	return q, nil
}

func (r *reader) question() Question {
	return Question{Group: r.uint32(), Replica: r.raw(), Term: r.uint64()}
}

// Len returns how many questions are left.
func (q *Questions) Len() int { return q.left }

// Next returns the next question, and false at the end.
func (q *Questions) Next() (Question, bool) {
	if q.left == 0 {
		return Question{}, false
	}
	q.left--
	return q.rest.question(), true
}

// ConfirmReply answers a confirm request.
//
//	offset  size  content
//	0       1     format, 1
//	1       8     wall clock of the node, unix milliseconds
//	9       8     free record memory of the node, bytes
//	17      8     limit of its record memory, bytes
//	25      4     number of answers, at most MaxQuestions
//	29      1 ×   answers: 1 yes, 0 no
//	…       4     number of groups that the node leads, at most MaxGroups
//	        4 ×   groups, strictly ascending
//
// The groups are there if nothing was asked: rounds come with every read, and
// who leads is of interest once a second.
type ConfirmReply struct {
	Yes         []bool   // one for each question
	Now         int64    // unix milliseconds
	Free, Limit int64    // bytes, not negative
	Leads       []uint32 // groups
}

// Append appends the message to dst.
func (m *ConfirmReply) Append(dst []byte) []byte {
	dst = slices.Grow(dst, 33+len(m.Yes)+4*len(m.Leads))
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Now))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Free))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Limit))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Yes)))
	for _, yes := range m.Yes {
		b := byte(0)
		if yes {
			b = 1
		}
		dst = append(dst, b)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Leads)))
	for _, g := range m.Leads {
		dst = binary.BigEndian.AppendUint32(dst, g)
	}
	return dst
}

// Decode reads one message and reuses Yes and Leads.
func (m *ConfirmReply) Decode(b []byte) error {
	r := open(b)
	m.Now, m.Free, m.Limit = int64(r.uint64()), r.size(), r.size()
	n := r.count(MaxQuestions, 1)
	m.Yes = slices.Grow(m.Yes[:0], n)[:n]
	for i, b := range r.take(n) {
		if b > 1 {
			return cloakroom.ErrMalformed
		}
		m.Yes[i] = b == 1
	}
	n = r.count(MaxGroups, 4)
	m.Leads = slices.Grow(m.Leads[:0], n)[:n]
	for i := range m.Leads {
		m.Leads[i] = r.uint32()
		r.demand(i == 0 || m.Leads[i-1] < m.Leads[i])
	}
	return r.end()
}
