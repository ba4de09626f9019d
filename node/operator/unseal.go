package operator

import (
	"bytes"
	"errors"
	"io"

	"cloakroom"
)

// keyRoutes need no token: a sealed node knows no caller, and a share is worth
// nothing without the others.
var keyRoutes = [...]route{
	{method: "POST", path: "/v1/sys/unseal", name: "unseal", change: true, body: true, serve: (*exchange).unseal},
}

// maxShare bounds the text of a share.
const maxShare = 4 << 10

// unseal takes one share. Its text goes from the socket into lent memory, is
// parsed in place, and what net/http and crypto/tls still hold of it is wiped;
// so is the connection's use: nothing more is read from it.
func (x *exchange) unseal() (any, error) {
	length := x.r.ContentLength
	switch {
	case length < 0:
		return nil, malformed("the length of the body is missing")
	case length > maxShare:
		return nil, cloakroom.ErrTooLarge
	}
	memory, release, err := x.server.cfg.Lend(int(length))
	if err != nil {
		return nil, err
	}
	defer release()
	body := memory[:length]
	_, err = io.ReadFull(x.r.Body, body)
	x.w.Header().Set("Connection", "close")
	if c, ours := x.r.Context().Value(connKey{}).(wiper); ours {
		c.retire()
	}
	if err != nil {
		return nil, malformed("the body did not come to its end")
	}
	share, err := shareIn(body)
	if err != nil {
		return nil, err
	}
	return x.server.cfg.Keys.Unseal(x.ctx, share)
}

var errShareBody = errors.New(`want {"share":"…"} and nothing else`)

// shareIn finds the share in {"share":"…"} without a copy. A share is plain
// ASCII, so that an escape has no place in it.
func shareIn(body []byte) ([]byte, error) {
	rest := bytes.TrimSpace(body)
	for _, token := range [...]string{"{", `"share"`, ":", `"`} {
		if !bytes.HasPrefix(rest, []byte(token)) {
			return nil, malformed(errShareBody.Error())
		}
		rest = rest[len(token):]
		if token != `"` {
			rest = bytes.TrimLeft(rest, " \t\r\n")
		}
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, malformed(errShareBody.Error())
	}
	share, tail := rest[:end], bytes.TrimSpace(rest[end+1:])
	if len(tail) != 1 || tail[0] != '}' {
		return nil, malformed(errShareBody.Error())
	}
	for _, c := range share {
		if c < ' ' || c > '~' || c == '\\' {
			return nil, malformed("the share holds a character that none has")
		}
	}
	return share, nil
}
