package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

// readBody reads the request body into guarded memory, straight from
// net/http: at most limit bytes, within the deadlines. It returns
// [cloakroom.ErrTooLarge] for more, and the body is settled later.
func (x *exchange) readBody(limit int) ([]byte, error) {
	limit = min(limit, x.server.pool.MaxBuffer())
	length := x.r.ContentLength
	switch {
	case length == 0:
		return nil, malformed("a body is required")
	case length > int64(limit):
		return nil, cloakroom.ErrTooLarge
	case length < 0:
		return x.readChunked(limit)
	}
	buf, err := x.server.pool.Get(x.ctx, int(length))
	if err != nil {
		return nil, err
	}
	x.body = buf
	b := buf.Bytes()
	for n := 0; n < len(b); {
		m, err := x.readSome(b[n:], x.bodyEnd(n))
		n += m
		if err != nil && n < len(b) {
			return nil, err
		}
	}
	x.conn.bodyRead(len(b))
	return b, x.closeBody()
}

// readChunked reads a body of unknown length into a buffer that grows.
func (x *exchange) readChunked(limit int) ([]byte, error) {
	buf, err := x.server.pool.Get(x.ctx, min(8<<10, limit))
	if err != nil {
		return nil, err
	}
	x.body = buf
	for n := 0; ; {
		b := buf.Bytes()
		if n == len(b) {
			if err := x.growBody(buf, n, limit); err != nil {
				return nil, err
			}
			continue
		}
		m, err := x.readSome(b[n:], x.bodyEnd(n))
		n += m
		if err == io.EOF {
			return b[:n], x.closeBody()
		}
		if err != nil {
			return nil, err
		}
	}
}

// growBody doubles buf, up to limit. A full buffer of limit bytes is too large
// even if nothing follows: the last byte tells.
func (x *exchange) growBody(buf *securemem.Buffer, n, limit int) error {
	if n >= limit {
		return cloakroom.ErrTooLarge
	}
	return buf.Grow(x.ctx, min(2*n, limit))
}

// bodyEnd is the deadline for the rest of a body of which n bytes have come.
func (x *exchange) bodyEnd(n int) time.Time {
	return x.start.Add(x.server.limits.Body + time.Duration(n/bodyRate)*time.Second)
}

// readSome reads once, until end or for as long as the client may stall. It
// returns io.EOF after the last byte; any other error ends the connection.
func (x *exchange) readSome(p []byte, end time.Time) (int, error) {
	stall := time.Now().Add(x.server.limits.Stall)
	if stall.After(end) {
		stall = end
	}
	x.conn.SetReadDeadline(stall) //nolint:errcheck // as in socket
	n, err := x.r.Body.Read(p)
	switch {
	case err == nil:
		if time.Now().After(end) && n == 0 {
			err = os.ErrDeadlineExceeded
		}
	case err == io.EOF:
		return n, io.EOF
	}
	if err == nil {
		return n, nil
	}
	x.abandon()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, errSlowBody
	}
	return n, errGone
}

// closeBody tells net/http that the body was read, so that it does not look
// for the rest itself.
func (x *exchange) closeBody() error {
	x.bodyDone = true
	return x.r.Body.Close()
}

// abandon gives the connection up: nothing more is read from it.
func (x *exchange) abandon() {
	x.last = true
	x.conn.linger.Store(true)
	x.conn.retire()
}

// settle deals with a body that nobody wants, before the answer is written:
// a short one is read and wiped so that the connection can be kept, otherwise
// the connection ends with this answer. net/http would read it through a
// shared buffer.
func (x *exchange) settle() {
	if x.bodyDone || x.r.Body == http.NoBody || x.last {
		return
	}
	if x.r.ContentLength > maxDrain || len(x.r.Header["Expect"]) > 0 || x.body == nil && x.shed {
		x.abandon()
		return
	}
	end := time.Now().Add(x.server.limits.Stall)
	for total := 0; total <= maxDrain; {
		n, err := x.readSome(x.sink[:], end)
		clear(x.sink[:n])
		if err == io.EOF {
			x.closeBody() //nolint:errcheck // read to its end
			return
		}
		if err != nil {
			return // abandoned
		}
		total += n
	}
	x.abandon()
}
