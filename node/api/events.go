package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

// EventStream is one subscription to changes. It belongs to the goroutine that
// serves its connection.
type EventStream interface {
	// Next waits until there is something to say and writes it: one Hello,
	// Reset, Alive, Quiet, or changes from Begin to End. An error, or the end
	// of ctx, ends the stream; the caller comes back with its last cursor.
	Next(ctx context.Context, reply *EventReply) error
	// Close ends the subscription.
	Close()
}

// events serves GET /v1/events: a stream that goes on until the caller goes,
// does not read, loses its right, or has had it for Limits.Stream.
//
// The answer has no length and ends with its connection (RFC 9112, 6.3): with
// chunks net/http would copy it through buffers that nobody can reach to wipe.
func (x *exchange) events() error {
	cursor, err := x.cursor()
	if err != nil {
		return err
	}
	s := x.server
	if err := s.streams.enter(x.req.Caller.Name()); err != nil {
		return err
	}
	defer s.streams.leave(x.req.Caller.Name())
	ctx, cancel := context.WithTimeout(s.ending, s.limits.Stream)
	defer cancel()
	stream, err := s.service.Events(x.ctx, &x.req, cursor)
	if err != nil {
		return err
	}
	defer stream.Close()
	x.beginStream()
	for err == nil {
		if err = stream.Next(ctx, &x.eventReply); err != nil {
			x.logCause(problemOf(err), err)
		} else {
			err = x.sendEvent(&x.eventReply)
		}
		x.eventReply.Release()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.streams.dropped.Add(1)
	}
	return nil
}

// cursor returns where the caller wants to go on, nil for the present: the
// header Last-Event-ID, or the query string for those who cannot set it. It
// says nothing of a person, but a token in a URL would be kept by every proxy.
func (x *exchange) cursor() ([]byte, error) {
	header, err := bounded(x.r.Header, "Last-Event-Id", MaxCursorBytes)
	query := x.r.URL.RawQuery
	if err != nil || query == "" {
		return header, err
	}
	text, ok := strings.CutPrefix(query, "cursor=")
	if !ok || !visible(bytesOf(text), MaxCursorBytes) || strings.ContainsAny(text, "&%+=;") {
		return nil, malformed("the query string is cursor=...; a token stands in the header Authorization only")
	}
	if len(header) > 0 && string(header) != text {
		return nil, malformed("cursor differs from the header Last-Event-ID")
	}
	return bytesOf(text), nil
}

var (
	typeEvents    = []string{"text/event-stream"}
	unchunked     = []string{"identity"} // net/http then writes what it gets, and closes
	noAccelBuffer = []string{"no"}       // for proxies that would hold events back
)

// beginStream writes the header and takes the exchange out of the requests
// under way: those are bounded in time and number as streams are not.
func (x *exchange) beginStream() {
	s := x.server
	x.settle()
	x.sent, x.last, x.answer, x.streaming = true, true, http.StatusOK, true
	s.streams.open.Add(1)
	s.inFlight.Add(-1)
	x.observe()
	h := x.w.Header()
	h["Content-Type"] = typeEvents
	h["Cache-Control"] = noStore
	h["Transfer-Encoding"] = unchunked
	h["X-Accel-Buffering"] = noAccelBuffer
	c := x.conn
	c.hold = true
	x.w.WriteHeader(http.StatusOK)
	x.w.(http.Flusher).Flush() // to conn.Write, which holds it back for the first event
	c.hold = false
}

// sendEvent writes what the service said, in one write from the reply to the
// socket, past net/http.
func (x *exchange) sendEvent(reply *EventReply) error {
	buf, err := reply.finish(x.conn.below != nil, x.server.sizes)
	if err != nil {
		return err
	}
	// Whoever does not read keeps a server that closes waiting no longer.
	raw := x.conn.socket.Conn
	stop := context.AfterFunc(x.server.ending, func() { raw.Close() }) //nolint:errcheck // the write fails
	defer stop()
	x.conn.SetWriteDeadline(time.Now().Add(x.server.limits.Write)) //nolint:errcheck // as in socket
	x.payload.buf = buf
	_, err = x.conn.ReadFrom(&x.payload)
	x.payload.buf = nil
	return err
}

// EventReply is the next thing said on a stream of changes, in the format of
// server-sent events (HTML Living Standard, 9.2). Only changes name
// pseudonyms; they are written into guarded memory, which is taken for each
// anew, so that a stream that has nothing to say holds none.
type EventReply struct {
	reply
	plain   []byte // of what names nobody, headroom in front
	changed bool   // the list of the changed has begun
	listed  bool   // the present list has an element
}

// NewEventReply is for tests of a Service; the server makes its replies itself.
func NewEventReply() *EventReply { return &EventReply{} }

// event begins what names nobody.
func (r *EventReply) event(name string, cursor []byte) {
	if r.plain == nil {
		r.plain = make([]byte, headroom, headroom+1<<10)
	}
	r.plain = appendEvent(r.plain[:headroom], name, cursor)
}

func appendEvent(buf []byte, name string, cursor []byte) []byte {
	buf = append(append(buf, "event: "...), name...)
	if len(cursor) > 0 {
		buf = append(append(buf, "\nid: "...), cursor...)
	}
	return append(buf, "\ndata: {"...)
}

// Hello begins the stream. lease is how old an answer to a resolve can be on
// any node.
func (r *EventReply) Hello(lease time.Duration) {
	r.event("hello", nil)
	r.plain = append(r.plain, `"lease_ms":`...)
	r.plain = append(appendInt(r.plain, int(lease.Milliseconds())), "}\n\n"...)
}

// Reset says that changes were missed: whatever the caller holds may be old.
func (r *EventReply) Reset(cursor []byte) {
	r.event("reset", cursor)
	r.plain = append(r.plain, "}\n\n"...)
}

// Alive says that everything has been told that was acknowledged before at,
// counted from the beginning of the stream.
func (r *EventReply) Alive(at time.Duration) {
	r.event("alive", nil)
	r.plain = appendAt(r.plain, at)
	r.plain = append(r.plain, "}\n\n"...)
}

// Quiet says nothing, so that a caller that is gone is found out.
func (r *EventReply) Quiet() {
	r.event("", nil)
	r.plain = append(r.plain[:headroom], ":\n\n"...)
}

func appendAt(buf []byte, at time.Duration) []byte {
	return appendInt(append(buf, `"at_ms":`...), int(at.Milliseconds()))
}

// Begin takes guarded memory for the names of n pseudonyms: first Erased for
// each, then Changed for each, then End.
func (r *EventReply) Begin(ctx context.Context, pool *securemem.Pool, cursor []byte, n int) error {
	size := 128 + len(cursor) + n*(cloakroom.PseudonymTextLen+len(`"",`)) + maxComment
	if err := r.begin(ctx, pool, size, false); err != nil {
		return err
	}
	r.changed, r.listed = false, false
	r.buf = append(appendEvent(r.buf, "changes", cursor), `"erased":[`...)
	return nil
}

// maxComment bounds the padding behind an event, in bytes.
const maxComment = 256

// Erased lists a pseudonym whose values are gone.
func (r *EventReply) Erased(id cloakroom.Pseudonym) { r.list(id) }

// Changed lists a pseudonym whose values are others now.
func (r *EventReply) Changed(id cloakroom.Pseudonym) {
	if !r.changed {
		r.turn()
	}
	r.list(id)
}

func (r *EventReply) turn() {
	r.changed, r.listed = true, false
	if r.room(16) {
		r.buf = append(r.buf, `],"changed":[`...)
	}
}

func (r *EventReply) list(id cloakroom.Pseudonym) {
	if !r.room(cloakroom.PseudonymTextLen + len(`,""`)) {
		return
	}
	if r.listed {
		r.buf = append(r.buf, ',')
	}
	r.listed = true
	r.buf = append(id.AppendText(append(r.buf, '"')), '"')
}

// End closes the lists. at is as in Alive, negative: nothing can be said.
func (r *EventReply) End(at time.Duration) {
	if !r.changed {
		r.turn()
	}
	if !r.room(64) {
		return
	}
	r.buf = append(r.buf, ']')
	if at >= 0 {
		r.buf = appendAt(append(r.buf, ','), at)
	}
	r.buf = append(r.buf, "}\n\n"...)
}

// Content returns what was written.
func (r *EventReply) Content() ([]byte, error) {
	buf, err := r.finish(false, nil)
	if err != nil {
		return nil, err
	}
	return buf[headroom:], nil
}

// finish returns what was written with its headroom. Over TLS names of
// pseudonyms may need a comment behind them, as headers need padding
// (sizes.go).
func (r *EventReply) finish(secure bool, sizes recordSizes) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.buf == nil {
		if len(r.plain) < headroom {
			return nil, errInternal // Next said nothing
		}
		return r.plain, nil
	}
	if !secure {
		return r.buf, nil
	}
	if n := sizes.more(len(r.buf)-headroom, len(":\n"), maxComment); n > 0 && r.room(n) {
		r.buf = append(r.buf, ':')
		for range n - len(":\n") {
			r.buf = append(r.buf, '.')
		}
		r.buf = append(r.buf, '\n')
	}
	return r.buf, r.err
}

// Release wipes what was said.
func (r *EventReply) Release() {
	r.release()
	r.plain = r.plain[:0]
}
