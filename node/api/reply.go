package api

import (
	"strconv"

	"cloakroom"
)

// headroom is kept free in front of every reply: the connection copies the
// response header there, so that header and body leave in one write.
const headroom = 512

// reply is JSON under construction in guarded memory. A failed grow sticks:
// later calls do nothing and err tells why.
type reply struct {
	buf  []byte // whole buffer; the JSON stands in buf[headroom:]
	grow func(buf []byte, size int) ([]byte, error)
	err  error

	scratch []byte
	space   func(size int) ([]byte, error)
}

// room makes sure that n more bytes fit.
func (r *reply) room(n int) bool {
	if cap(r.buf)-len(r.buf) >= n {
		return r.err == nil
	}
	return r.enlarge(n)
}

func (r *reply) enlarge(n int) bool {
	if r.err != nil {
		return false
	}
	buf, err := r.grow(r.buf, max(len(r.buf)+n, 2*cap(r.buf)))
	if err != nil {
		r.err = err
		return false
	}
	r.buf = buf
	return true
}

// Scratch returns guarded memory of length 0 and capacity at least n, where a
// value can be opened before it is written with Value. It is the same memory
// on every call; it returns nil when there is none to be had, and the next
// Value reports why.
func (r *reply) Scratch(n int) []byte {
	if cap(r.scratch) < n {
		scratch, err := r.space(n)
		if err != nil {
			r.err = err
			return nil
		}
		r.scratch = scratch
	}
	return r.scratch[:0]
}

// Value writes one field of the subject begun last. quotedName is the quoted
// name with its colon, as [AppendName] makes it; value is valid UTF-8, or raw
// JSON when rawJSON is set. It returns [cloakroom.ErrTooLarge] or
// [cloakroom.ErrOverloaded] when the reply cannot grow.
func (r *reply) Value(quotedName, value []byte, rawJSON bool) error {
	if !r.room(len(quotedName) + maxEscape*len(value) + 3) {
		return r.err
	}
	buf := r.buf
	if buf[len(buf)-1] != '{' {
		buf = append(buf, ',')
	}
	buf = append(buf, quotedName...)
	if rawJSON {
		r.buf = append(buf, value...)
		return nil
	}
	r.buf = appendQuoted(buf, value)
	return nil
}

// AppendName appends name as a quoted member name with its colon, the form
// Value wants: make it once per request.
func AppendName(dst, name []byte) []byte {
	return append(appendQuoted(dst, name), ':')
}

// SubjectReply is the answer to GET /v1/subjects/{id}:
// Begin, Value for each field, End.
type SubjectReply struct {
	reply
	version cloakroom.Version
}

// Begin starts the answer.
func (r *SubjectReply) Begin(id cloakroom.Pseudonym, version cloakroom.Version) {
	r.version = version
	if !r.room(128) {
		return
	}
	buf := append(r.buf, `{"id":"`...)
	buf = id.AppendText(buf)
	buf = append(buf, `","version":"`...)
	buf = appendVersion(buf, version)
	r.buf = append(buf, `","fields":{`...)
}

// End closes the answer.
func (r *SubjectReply) End() {
	if r.room(2) {
		r.buf = append(r.buf, '}', '}')
	}
}

// ResolveReply is the answer to POST /v1/resolve: for each id of the query
// either Begin, Value for each field there is, End; or Missing; or
// Unavailable. The order is free.
type ResolveReply struct {
	reply
	subjects    int
	missing     []cloakroom.Pseudonym
	unavailable []cloakroom.Pseudonym
}

// Begin starts the subject id.
func (r *ResolveReply) Begin(id cloakroom.Pseudonym) {
	if !r.room(cloakroom.PseudonymTextLen + 8) {
		return
	}
	buf := r.buf
	if r.subjects > 0 {
		buf = append(buf, ',')
	}
	r.subjects++
	buf = append(buf, '"')
	buf = id.AppendText(buf)
	r.buf = append(buf, '"', ':', '{')
}

// End closes the subject begun last.
func (r *ResolveReply) End() {
	if r.room(1) {
		r.buf = append(r.buf, '}')
	}
}

// Missing lists id as one the caller gets nothing of.
func (r *ResolveReply) Missing(id cloakroom.Pseudonym) { r.missing = append(r.missing, id) }

// Unavailable lists id as one whose shard could not answer in time.
func (r *ResolveReply) Unavailable(id cloakroom.Pseudonym) {
	r.unavailable = append(r.unavailable, id)
}

// open writes what stands before the first subject.
func (r *ResolveReply) open() {
	if r.room(16) {
		r.buf = append(r.buf, `{"subjects":{`...)
	}
}

// finish writes what stands after the last subject.
func (r *ResolveReply) finish() {
	ids := len(r.missing) + len(r.unavailable)
	if !r.room(64 + ids*(cloakroom.PseudonymTextLen+3)) {
		return
	}
	buf := append(r.buf, `},"missing":[`...)
	buf = appendIDs(buf, r.missing)
	if len(r.unavailable) > 0 {
		buf = append(buf, `],"unavailable":[`...)
		buf = appendIDs(buf, r.unavailable)
	}
	r.buf = append(buf, ']', '}')
}

func appendIDs(buf []byte, ids []cloakroom.Pseudonym) []byte {
	for i, id := range ids {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, '"')
		buf = id.AppendText(buf)
		buf = append(buf, '"')
	}
	return buf
}

func appendVersion(buf []byte, v cloakroom.Version) []byte {
	const digits = "0123456789abcdef"
	for _, c := range v {
		buf = append(buf, digits[c>>4], digits[c&0xf])
	}
	return buf
}

func appendInt(buf []byte, n int) []byte { return strconv.AppendInt(buf, int64(n), 10) }
