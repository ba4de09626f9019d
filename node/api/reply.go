package api

import (
	"context"
	"strconv"

	"cloakroom"
	"cloakroom/securemem"
)

// headroom is kept free in front of every answer: the connection copies the
// response header there, so that header and body leave in one write.
const headroom = 512

// scratchSize is the scratch that a reply has from the start: values longer
// than this are rare and cost a buffer of their own.
const scratchSize = 1 << 10

// reply is JSON under construction in guarded memory. A failure to grow
// sticks: later calls do nothing and err tells why.
//
//	first buffer:   scratch | headroom | JSON …
//	later buffers:            headroom | JSON …
type reply struct {
	ctx  context.Context
	pool *securemem.Pool
	err  error

	buf     []byte // headroom and what is written of the JSON
	scratch []byte

	first *securemem.Buffer // holds the scratch, and the JSON until it grows
	grown *securemem.Buffer // holds the JSON once it has grown
	wide  *securemem.Buffer // a larger scratch
}

// begin takes memory for about size bytes of JSON. holding says that the
// request holds a buffer already, its body.
func (r *reply) begin(ctx context.Context, pool *securemem.Pool, size int, holding bool) error {
	size = min(size, pool.MaxBuffer()-scratchSize-headroom)
	get := pool.Get
	if holding {
		get = pool.More
	}
	first, err := get(ctx, scratchSize+headroom+size)
	if err != nil {
		return err
	}
	b := first.Bytes()
	b = b[:cap(b)]
	*r = reply{
		ctx: ctx, pool: pool, first: first,
		scratch: b[:0:scratchSize],
		buf:     b[scratchSize : scratchSize+headroom],
	}
	return nil
}

// release wipes the memory and gives it back.
func (r *reply) release() {
	for _, buf := range [...]*securemem.Buffer{r.first, r.grown, r.wide} {
		if buf != nil {
			buf.Release()
		}
	}
	*r = reply{}
}

// room makes sure that n more bytes fit.
func (r *reply) room(n int) bool {
	if cap(r.buf)-len(r.buf) >= n {
		return r.err == nil
	}
	return r.enlarge(n)
}

// enlarge moves the JSON to a buffer of twice the size. The first buffer
// stays: its scratch may hold the value that is being written.
func (r *reply) enlarge(n int) bool {
	if r.err != nil {
		return false
	}
	need := len(r.buf) + n
	size := max(need, min(2*cap(r.buf), r.pool.MaxBuffer()))
	larger, err := r.pool.More(r.ctx, size)
	if err != nil {
		r.err = err
		return false
	}
	b := larger.Bytes()
	r.buf = append(b[:0:cap(b)], r.buf...)
	if r.grown != nil {
		r.grown.Release()
	}
	r.grown = larger
	return true
}

// Scratch returns guarded memory of length 0 and capacity at least n, where a
// value can be opened before it is written with Value. The next call returns
// the same memory or wipes it. It returns nil when there is none to be had,
// and the next Value reports why.
func (r *reply) Scratch(n int) []byte {
	if cap(r.scratch) < n {
		wide, err := r.pool.More(r.ctx, n)
		if err != nil {
			r.err = err
			return nil
		}
		if r.wide != nil {
			r.wide.Release()
		}
		r.wide = wide
		r.scratch = wide.Bytes()[:0]
	}
	return r.scratch[:0]
}

// Value writes one field of the subject begun last. quotedName is the quoted
// name with its colon, as [AppendName] makes it; value is valid UTF-8, or raw
// JSON when rawJSON is set. It returns [cloakroom.ErrTooLarge] or
// [cloakroom.ErrOverloaded] when the reply cannot grow.
func (r *reply) Value(quotedName, value []byte, rawJSON bool) error {
	fixed := len(quotedName) + len(`,""`)
	if cap(r.buf)-len(r.buf) < fixed+maxEscape*len(value) {
		need := len(value)
		if !rawJSON {
			need = quotedLen(value)
		}
		if !r.room(fixed + need) {
			return r.err
		}
	}
	if r.err != nil {
		return r.err
	}
	buf := r.buf
	if buf[len(buf)-1] != '{' {
		buf = append(buf, ',')
	}
	buf = append(buf, quotedName...)
	if rawJSON {
		buf = append(buf, value...)
	} else {
		buf = appendQuoted(buf, value)
	}
	r.buf = buf
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

// NewSubjectReply takes guarded memory for one answer. The server makes its
// replies itself; this is for tests of a Service.
func NewSubjectReply(ctx context.Context, pool *securemem.Pool) (*SubjectReply, error) {
	r := new(SubjectReply)
	return r, r.begin(ctx, pool, 2<<10, false)
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

// Content returns what was written, in guarded memory that dies with Release,
// or why the reply could not grow.
func (r *SubjectReply) Content() ([]byte, error) { return r.buf[headroom:], r.err }

// Release wipes the answer.
func (r *SubjectReply) Release() { r.release() }

// ResolveReply is the answer to POST /v1/resolve: for each id of the query
// either Begin, Value for each field there is, End; or Missing; or
// Unavailable. The order is free.
type ResolveReply struct {
	reply
	subjects    int
	missing     []cloakroom.Pseudonym
	unavailable []cloakroom.Pseudonym
}

// NewResolveReply takes guarded memory for one answer to q. The server makes
// its replies itself; this is for tests of a Service.
func NewResolveReply(ctx context.Context, pool *securemem.Pool, q *Query) (*ResolveReply, error) {
	r := new(ResolveReply)
	return r, r.prepare(ctx, pool, q)
}

// prepare takes memory for as much as an answer with names and addresses
// usually needs, and writes what stands before the first subject.
func (r *ResolveReply) prepare(ctx context.Context, pool *securemem.Pool, q *Query) error {
	each := cloakroom.PseudonymTextLen + len(`"":{},`)
	for _, name := range q.Fields {
		each += len(name) + len(`"":"",`) + 32
	}
	if err := r.begin(ctx, pool, 128+len(q.IDs)*each, true); err != nil {
		return err
	}
	r.buf = append(r.buf, `{"subjects":{`...)
	return nil
}

// Begin starts the subject id.
func (r *ResolveReply) Begin(id cloakroom.Pseudonym) {
	if !r.room(cloakroom.PseudonymTextLen + len(`,"":{`)) {
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

// Content closes the answer and returns it, in guarded memory that dies with
// Release, or why the reply could not grow. It is called once.
func (r *ResolveReply) Content() ([]byte, error) {
	r.finish()
	return r.buf[headroom:], r.err
}

// Release wipes the answer. The lists keep their memory for the next one.
func (r *ResolveReply) Release() {
	r.release()
	clear(r.missing)
	clear(r.unavailable)
	r.subjects, r.missing, r.unavailable = 0, r.missing[:0], r.unavailable[:0]
}

// finish writes what stands after the last subject.
func (r *ResolveReply) finish() {
	ids := len(r.missing) + len(r.unavailable)
	if !r.room(64 + ids*(cloakroom.PseudonymTextLen+len(`"",`))) {
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
