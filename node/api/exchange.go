package api

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

// exchange is one request and its answer. Exchanges are pooled; what one holds
// between requests is memory for positions and ids, never a value.
type exchange struct {
	server *Server
	conn   *conn
	w      http.ResponseWriter
	r      *http.Request
	start  time.Time
	call   *call // nil: none was found
	answer int   // status of the answer
	ctx    *deadline

	req     Request
	id      string // of the path
	query   Query
	subject Deposit
	decoder decoder

	body  *securemem.Buffer // of the request
	spare *securemem.Buffer // for strings that held escapes

	subjectReply SubjectReply
	resolveReply ResolveReply
	eventReply   EventReply

	bodyDone  bool // the request body was read to its end
	last      bool // the connection ends with this answer
	shed      bool // refused before anything was looked at
	sent      bool
	streaming bool // a stream, not a request under way
	payload   payload
	length    [1]string
	tag       [1]string
	allow     []string // of a resource that knows other methods
	plain     []byte   // an answer without values, headroom in front
	sink      [4 << 10]byte
}

func newExchange(s *Server) *exchange {
	x := &exchange{server: s}
	x.decoder.scanner.spare = x.getSpare
	return x
}

// ServeHTTP serves one request. It is the only handler of the server, and it
// has written the whole answer when it returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	c.serving = true
	s.requests.Add(1)
	x := s.exchanges.Get().(*exchange)
	x.conn, x.w, x.r, x.start = c, w, r, time.Now()
	binary.NativeEndian.PutUint64(x.req.ID[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(x.req.ID[8:], rand.Uint64())
	x.ctx = &deadline{parent: r.Context(), at: x.start.Add(s.limits.Request)}
	defer x.end()
	if s.inFlight.Add(1) > s.most.Load() {
		s.shed.Add(1)
		x.shed = true
		x.fail(cloakroom.ErrOverloaded)
		return
	}
	if err := x.serve(); err != nil {
		x.fail(x.recorded(err))
	}
}

// serve answers the request or says why not; then nothing was written.
func (x *exchange) serve() error {
	if x.server.fixed != nil {
		if content := x.server.fixed(x.r.Method, x.r.URL.Path); content != nil {
			return x.sendFixed(content)
		}
	}
	if x.server.closing.Load() {
		x.last = true
		return cloakroom.ErrUnavailable
	}
	var err error
	if x.call, err = x.findCall(); err != nil {
		return err
	}
	if err := x.prepare(x.call); err != nil {
		return err
	}
	if !x.call.write {
		x.ctx.shorten(time.Now().Add(x.server.limits.Read))
	}
	return x.call.serve(x)
}

// recorded has a refusal that the service does not know of recorded, and
// returns why the request is refused now.
func (x *exchange) recorded(why error) error {
	if x.call == nil || x.call.public || x.req.Recorded {
		return why
	}
	if err := x.server.service.Refused(x.ctx, &x.req, x.call.name, why); err != nil {
		return err
	}
	return why
}

// prepare does what calls have in common before the body is read: who calls,
// which headers, whether there may be a body.
func (x *exchange) prepare(call *call) error {
	h := x.r.Header
	if !call.public {
		token, err := bearer(h)
		if err != nil {
			return err
		}
		if x.req.Caller, err = x.server.service.Authenticate(token); err != nil {
			return err
		}
	}
	if x.r.URL.RawQuery != "" && !call.query {
		return malformed("this resource takes no query string")
	}
	if err := readHeaders(h, &x.req); err != nil {
		return err
	}
	if call.write {
		if err := readWriteHeaders(h, &x.req); err != nil {
			return err
		}
	}
	if call.body == 0 {
		if x.r.ContentLength != 0 {
			return malformed("this call takes no body")
		}
		return nil
	}
	if len(x.r.Trailer) > 0 {
		return malformed("trailers are refused")
	}
	if err := checkType(h, x.r.Method == http.MethodPatch); err != nil {
		return err
	}
	var err error
	x.req.Body, err = x.readBody(call.body)
	return err
}

// end wipes what the request left and returns the exchange to the pool. A
// panic of the service is an internal error; its text may hold anything and is
// not logged.
func (x *exchange) end() {
	if recover() != nil {
		x.server.log.Error("service panicked", slog.String("request", x.req.ID.String()))
		x.last = true
		if !x.sent {
			x.fail(errInternal)
		}
	}
	c, s := x.conn, x.server
	x.ctx.end()
	for _, buf := range [...]*securemem.Buffer{x.body, x.spare} {
		if buf != nil {
			buf.Release()
		}
	}
	x.subjectReply.Release()
	x.resolveReply.Release()
	x.eventReply.Release()
	if x.last {
		c.retire()
	}
	under := &s.inFlight
	if x.streaming {
		under = &s.streams.open
	} else {
		x.observe()
	}
	x.reset()
	s.exchanges.Put(x)
	under.Add(-1)
	c.serving = false
}

// observe tells how long a call took, from its header to its answer.
func (x *exchange) observe() {
	if x.server.observe != nil && x.call != nil {
		x.server.observe(x.call.name, x.answer, time.Since(x.start))
	}
}

// reset forgets everything but the memory for positions and ids.
func (x *exchange) reset() {
	d := &x.decoder
	clear(d.names[:cap(d.names)])
	clear(d.fields[:cap(d.fields)])
	clear(d.ttls[:cap(d.ttls)])
	d.scanner.reset(nil)
	if cap(d.fields) > cloakroom.MaxFields {
		d.fields = nil
	}
	if cap(d.ttls) > cloakroom.MaxFields {
		d.ttls = nil
	}
	x.conn, x.w, x.r, x.ctx = nil, nil, nil, nil
	x.call, x.answer = nil, 0
	x.req = Request{ReplyIndex: x.req.ReplyIndex[:0]}
	x.query, x.subject = Query{}, Deposit{}
	x.body, x.spare = nil, nil
	x.id, x.allow = "", nil
	x.payload.buf = nil
	x.bodyDone, x.last, x.shed, x.sent, x.streaming = false, false, false, false, false
}

// getSpare returns guarded memory for strings that hold escapes.
func (x *exchange) getSpare(n int) ([]byte, error) {
	buf, err := x.server.pool.More(x.ctx, n)
	if err != nil {
		return nil, err
	}
	x.spare = buf
	return buf.Bytes(), nil
}
