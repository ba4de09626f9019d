package api

import (
	"context"
	"errors"
	"net/http"

	"cloakroom"
)

// Refusals that only the front door knows.
var (
	errNoRoute  = errors.New("no such resource")
	errMethod   = errors.New("method not allowed")
	errSlowBody = errors.New("the body did not come in time")
	errGone     = errors.New("the client went away")
	errInternal = errors.New("internal error")
)

// problem is what the caller is told about an error (RFC 9457). Its type is
// "/problems/" and the name.
type problem struct {
	err    error
	status int
	name   string
}

// problems is the catalogue, every type the API knows. The title of a problem
// is the text of its error. The first match counts.
var problems = [...]problem{
	{cloakroom.ErrMalformedID, 400, "malformed-id"},
	{cloakroom.ErrMalformed, 400, "malformed"},
	{errGone, 400, "incomplete-body"},
	{cloakroom.ErrUnauthenticated, 401, "unauthenticated"},
	{cloakroom.ErrDenied, 403, "denied"},
	{cloakroom.ErrPurpose, 403, "purpose"},
	{cloakroom.ErrNotFound, 404, "not-found"},
	{errNoRoute, 404, "no-route"},
	{errMethod, 405, "method-not-allowed"},
	{errSlowBody, 408, "slow-body"},
	{cloakroom.ErrErased, 409, "erased"},
	{cloakroom.ErrConflict, 409, "conflict"},
	{cloakroom.ErrVersion, 412, "version"},
	{cloakroom.ErrTooLarge, 413, "too-large"},
	{cloakroom.ErrMediaType, 415, "media-type"},
	{cloakroom.ErrSchema, 422, "schema"},
	{cloakroom.ErrNotRandomID, 422, "not-random-id"},
	{cloakroom.ErrIdempotency, 422, "idempotency"},
	{cloakroom.ErrRate, 429, "rate"},
	{cloakroom.ErrSealed, 503, "sealed"},
	{cloakroom.ErrStarting, 503, "starting"},
	{cloakroom.ErrOverloaded, 503, "overloaded"},
	{cloakroom.ErrMemoryFull, 503, "memory-full"},
	{cloakroom.ErrUnavailable, 503, "unavailable"},
	{cloakroom.ErrDirectoryStale, 503, "directory-stale"},
	{cloakroom.ErrAuditUnavailable, 503, "audit-unavailable"},
	{cloakroom.ErrStaleSchema, 503, "schema-stale"},
	{cloakroom.ErrOutcomeUnknown, 504, "outcome-unknown"},
	// The service gave up in the middle and did not say what came of it.
	{context.DeadlineExceeded, 504, "outcome-unknown"},
	{context.Canceled, 504, "outcome-unknown"},
}

// problemOf is the one place where an error becomes a status and a type. What
// is not in the catalogue is an internal error.
func problemOf(err error) problem {
	for _, p := range problems {
		if errors.Is(err, p.err) {
			if p.name == "outcome-unknown" {
				p.err = cloakroom.ErrOutcomeUnknown
			}
			return p
		}
	}
	return problem{errInternal, http.StatusInternalServerError, "internal"}
}

// refusal is an error with a detail for the caller: what and where, in words
// and positions of our own, never anything that was sent.
type refusal struct {
	err    error
	detail string
}

func (r *refusal) Error() string { return r.err.Error() + ": " + r.detail }
func (r *refusal) Unwrap() error { return r.err }

func malformed(detail string) error { return &refusal{cloakroom.ErrMalformed, detail} }

// Because is err with a detail for the caller: a constant text, which repeats
// nothing of the request.
func Because(err error, detail string) error { return &refusal{err, detail} }

// Malformed is [cloakroom.ErrMalformed] with a detail for the caller: a
// constant text, which repeats nothing of the request.
func Malformed(detail string) error { return malformed(detail) }

// appendProblem appends p as JSON, with the detail and the faults that err
// carries. Details and reasons are constant texts; they are quoted anyway.
func appendProblem(dst []byte, p problem, err error, id RequestID) []byte {
	dst = appendProblemHead(dst, p)
	var why *refusal
	if errors.As(err, &why) {
		dst = append(dst, `,"detail":`...)
		dst = appendQuoted(dst, []byte(why.detail))
	}
	dst = append(dst, `,"instance":"`...)
	dst = id.AppendText(dst)
	dst = append(dst, '"')
	var faults cloakroom.Faults
	if errors.As(err, &faults) {
		dst = appendFaults(dst, faults)
	}
	return append(dst, '}')
}

func appendProblemHead(dst []byte, p problem) []byte {
	dst = append(dst, `{"type":"/problems/`...)
	dst = append(dst, p.name...)
	dst = append(dst, `","title":`...)
	dst = appendQuoted(dst, []byte(p.err.Error()))
	dst = append(dst, `,"status":`...)
	return appendInt(dst, p.status)
}

func appendFaults(dst []byte, faults cloakroom.Faults) []byte {
	dst = append(dst, `,"faults":[`...)
	for i, f := range faults {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if f.Item >= 0 {
			dst = append(dst, `"item":`...)
			dst = append(appendInt(dst, f.Item), ',')
		}
		if f.Field != "" {
			dst = append(dst, `"field":`...)
			dst = append(appendQuoted(dst, []byte(f.Field)), ',')
		}
		dst = append(dst, `"reason":`...)
		dst = append(appendQuoted(dst, []byte(f.Reason)), '}')
	}
	return append(dst, ']')
}

// AppendText appends 32 hex digits.
func (id RequestID) AppendText(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range id {
		dst = append(dst, digits[c>>4], digits[c&0xf])
	}
	return dst
}

// String returns 32 hex digits.
func (id RequestID) String() string { return string(id.AppendText(nil)) }
