package api

import (
	"encoding/hex"
	"net/http"

	"cloakroom"
	"cloakroom/securemem"
)

// bytesOf views a header value, which net/http has made a string, as bytes
// that nobody may change.
func bytesOf(s string) []byte { return securemem.ViewString(s) }

// single returns a header that may be there once. Names are in net/http's
// canonical form.
func single(h http.Header, name string) (value string, there bool, err error) {
	values := h[name]
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	}
	return "", true, malformed("header " + name + " is there twice")
}

// bearer returns the token of the Authorization header.
func bearer(h http.Header) ([]byte, error) {
	value, there, err := single(h, "Authorization")
	if err != nil || !there {
		return nil, cloakroom.ErrUnauthenticated
	}
	const scheme = "bearer "
	if len(value) <= len(scheme) || len(value) > len(scheme)+MaxTokenBytes {
		return nil, cloakroom.ErrUnauthenticated
	}
	for i := range len(scheme) {
		c := value[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != scheme[i] {
			return nil, cloakroom.ErrUnauthenticated
		}
	}
	token := bytesOf(value[len(scheme):])
	if !visible(token, MaxTokenBytes) {
		return nil, cloakroom.ErrUnauthenticated
	}
	return token, nil
}

// visible reports whether text is 1 to limit bytes of visible ASCII.
func visible(text []byte, limit int) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(text) > 0 && len(text) <= limit
}

// readHeaders fills req from the headers any call may carry.
func readHeaders(h http.Header, req *Request) error {
	level, there, err := single(h, "Cloakroom-Consistency")
	switch {
	case err != nil:
		return err
	case !there || level == "lease":
		req.Level = cloakroom.Lease
	case level == "linearizable":
		req.Level = cloakroom.Linearizable
	default:
		return malformed("header Cloakroom-Consistency is lease or linearizable")
	}
	if req.Purpose, err = bounded(h, "Cloakroom-Purpose", cloakroom.MaxNameBytes); err != nil {
		return err
	}
	if len(req.Purpose) > 0 && !isWord(req.Purpose) {
		return malformed("header Cloakroom-Purpose is malformed")
	}
	if req.Index, err = bounded(h, "Cloakroom-Index", MaxIndexBytes); err != nil {
		return err
	}
	if values := h["Traceparent"]; len(values) == 1 {
		req.Trace, req.HasTrace = parseTrace(values[0])
	}
	return nil
}

// bounded returns a header of visible ASCII, or nil.
func bounded(h http.Header, name string, limit int) ([]byte, error) {
	value, there, err := single(h, name)
	if err != nil || !there {
		return nil, err
	}
	if !visible(bytesOf(value), limit) {
		return nil, malformed("header " + name + " is malformed or too long")
	}
	return bytesOf(value), nil
}

// parseTrace reads the trace id of a version 00 traceparent (W3C Trace
// Context):
//
//	00-<32 hex>-<16 hex>-<2 hex>
//
// lower case, ids not zero. Anything else counts as absent, as the standard
// says: a caller's tracing must not decide over its request.
func parseTrace(text string) (trace [16]byte, ok bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(text) != length || text[:3] != "00-" || text[35] != '-' || text[52] != '-' {
		return trace, false
	}
	for i := 3; i < length; i++ {
		c := text[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && i != 35 && i != 52 {
			return trace, false
		}
	}
	var span [8]byte
	hex.Decode(trace[:], bytesOf(text[3:35])) //nolint:errcheck // all digits were checked
	hex.Decode(span[:], bytesOf(text[36:52])) //nolint:errcheck // as above
	if trace == [16]byte{} || span == [8]byte{} {
		return [16]byte{}, false
	}
	return trace, true
}

// readWriteHeaders fills req from the headers of a write. A precondition that
// is not supported is refused: to ignore it could lose somebody's change.
func readWriteHeaders(h http.Header, req *Request) (err error) {
	if req.IdempotencyKey, err = bounded(h, "Idempotency-Key", cloakroom.MaxIdempotencyKeyBytes); err != nil {
		return err
	}
	for _, name := range [...]string{"If-None-Match", "If-Unmodified-Since", "If-Modified-Since"} {
		if len(h[name]) > 0 {
			return malformed("header " + name + " is not supported")
		}
	}
	tag, there, err := single(h, "If-Match")
	if err != nil || !there {
		return err
	}
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return malformed("header If-Match is one quoted version")
	}
	if req.IfMatch, err = cloakroom.ParseVersion(bytesOf(tag[1 : len(tag)-1])); err != nil {
		return malformed("header If-Match is one quoted version")
	}
	req.HasIfMatch = true
	return nil
}

// checkType checks that a body is JSON of one of the accepted media types.
func checkType(h http.Header, patch bool) error {
	if len(h["Content-Encoding"]) > 0 {
		return cloakroom.ErrMediaType
	}
	value, there, err := single(h, "Content-Type")
	if err != nil || !there {
		return cloakroom.ErrMediaType
	}
	switch value {
	case "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8",
		"application/json; charset=UTF-8", "application/json;charset=UTF-8":
		return nil
	case "application/merge-patch+json":
		if patch {
			return nil
		}
	}
	return cloakroom.ErrMediaType
}
