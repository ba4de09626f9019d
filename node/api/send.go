package api

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// Header values that never change, set by assignment: http.Header.Set would
// make a slice per call.
var (
	typeJSON     = []string{"application/json"}
	typeProblem  = []string{"application/problem+json"}
	noStore      = []string{"no-store"}
	closeValue   = []string{"close"}
	soon         = []string{"1"}
	bearerScheme = []string{"Bearer"}
)

// send writes an answer: header and content in one write, from guarded memory
// to the socket. buf has headroom in front. Other headers are set before.
func (x *exchange) send(status int, contentType []string, buf []byte) error {
	x.settle()
	x.sent, x.answer = true, status
	h := x.w.Header()
	x.length[0] = strconv.Itoa(len(buf) - headroom)
	h["Content-Type"] = contentType
	h["Content-Length"] = x.length[:]
	h["Cache-Control"] = noStore
	if x.r.Close || !x.r.ProtoAtLeast(1, 1) || x.server.leaving.Load() {
		x.last = true
	}
	if x.last {
		h["Connection"] = closeValue
	}
	c := x.conn
	c.SetWriteDeadline(time.Now().Add(x.server.limits.Write)) //nolint:errcheck // as in socket
	c.hold = true
	x.w.WriteHeader(status)
	x.w.(http.Flusher).Flush() // the header, to conn.Write, which holds it back
	c.hold = false
	x.payload.buf = buf
	var err error
	if x.r.Method != http.MethodHead { // net/http would read the payload in order to drop it
		_, err = x.w.(io.ReaderFrom).ReadFrom(&x.payload)
	}
	if err == nil {
		err = c.flush()
	}
	if err != nil { // the client is gone, and net/http closes without a Read
		x.last = true
	}
	return nil
}

// begin starts an answer without values, in memory of the exchange.
func (x *exchange) begin() []byte {
	if x.plain == nil {
		x.plain = make([]byte, headroom, 4<<10)
	}
	return x.plain[:headroom]
}

// sendPlain sends what was appended to begin.
func (x *exchange) sendPlain(status int, contentType []string, buf []byte) error {
	if cap(buf) <= 64<<10 {
		x.plain = buf[:headroom]
	}
	return x.send(status, contentType, buf)
}

// sendFixed reads and drops the body and answers content.
func (x *exchange) sendFixed(content []byte) error {
	if x.r.ContentLength != 0 {
		if _, err := x.readBody(MaxBatchBody); err != nil {
			return err
		}
	}
	r := &x.subjectReply.reply
	if err := r.begin(x.ctx, x.server.pool, len(content), x.body != nil); err != nil {
		return err
	}
	return x.send(http.StatusOK, typeJSON, append(r.buf, content...))
}

// logCause logs a cause that the caller is not told.
func (x *exchange) logCause(p problem, err error) {
	if p.status == http.StatusInternalServerError {
		x.server.log.Error("request failed", slog.String("request", x.req.ID.String()), slog.Any("error", err))
	}
}

// fail answers an error.
func (x *exchange) fail(err error) {
	p := problemOf(err)
	x.logCause(p, err)
	h := x.w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = bearerScheme
	case http.StatusMethodNotAllowed:
		h["Allow"] = x.allow
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h["Retry-After"] = retryAfter(err)
	}
	buf := appendProblem(x.begin(), p, err, x.req.ID)
	x.sendPlain(p.status, typeProblem, buf) //nolint:errcheck // always nil
}

// retryAfter is the time that err asks for, in whole seconds, or one second.
func retryAfter(err error) []string {
	var wait interface{ RetryAfter() time.Duration }
	if !errors.As(err, &wait) {
		return soon
	}
	seconds := (wait.RetryAfter() + time.Second - 1) / time.Second
	return []string{strconv.FormatInt(int64(max(seconds, 1)), 10)}
}
