package operator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"cloakroom"
)

// Refusals that only this door knows.
var (
	errNoRoute  = errors.New("no such resource")
	errMethod   = errors.New("method not allowed")
	errInternal = errors.New("internal error")
)

// problems say which status and type an error has; the first match counts. The
// types are those of package api where an error is known there as well.
var problems = [...]struct {
	err    error
	status int
	name   string
}{
	{cloakroom.ErrMalformed, 400, "malformed"},
	{cloakroom.ErrUnauthenticated, 401, "unauthenticated"},
	{cloakroom.ErrDenied, 403, "denied"},
	{errNoRoute, 404, "no-route"},
	{cloakroom.ErrNoNode, 404, "no-node"},
	{cloakroom.ErrNoPrincipal, 404, "no-principal"},
	{errMethod, 405, "method-not-allowed"},
	{cloakroom.ErrConflict, 409, "conflict"},
	{cloakroom.ErrState, 409, "state"},
	{cloakroom.ErrTooLarge, 413, "too-large"},
	{cloakroom.ErrMediaType, 415, "media-type"},
	{cloakroom.ErrFingerprint, 422, "fingerprint"},
	{cloakroom.ErrShare, 422, "share"},
	{cloakroom.ErrJoinToken, 422, "join-token"},
	{cloakroom.ErrSchema, 422, "schema"},
	{cloakroom.ErrRate, 429, "rate"},
	{cloakroom.ErrSealed, 503, "sealed"},
	{cloakroom.ErrStarting, 503, "starting"},
	{cloakroom.ErrOverloaded, 503, "overloaded"},
	{cloakroom.ErrUnavailable, 503, "unavailable"},
	{cloakroom.ErrDirectoryStale, 503, "directory-stale"},
	{cloakroom.ErrAuditUnavailable, 503, "audit-unavailable"},
	{cloakroom.ErrOutcomeUnknown, 504, "outcome-unknown"},
	{context.DeadlineExceeded, 504, "outcome-unknown"},
	{context.Canceled, 504, "outcome-unknown"},
}

// problem is an answer that is not a success (RFC 9457).
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance"`

	name string
}

// problemOf is the one place where an error becomes a status and a type.
func problemOf(err error, id [16]byte) problem {
	p := problem{Title: errInternal.Error(), Status: http.StatusInternalServerError, name: "internal"}
	for _, known := range problems {
		if errors.Is(err, known.err) {
			p.Title, p.Status, p.name = known.err.Error(), known.status, known.name
			break
		}
	}
	if p.name == "outcome-unknown" {
		p.Title = cloakroom.ErrOutcomeUnknown.Error()
	}
	var why interface{ Detail() string }
	if errors.As(err, &why) && p.Status != http.StatusInternalServerError {
		p.Detail = why.Detail()
	}
	p.Type, p.Instance = "/problems/"+p.name, hex.EncodeToString(id[:])
	return p
}

func malformed(detail string) error { return cloakroom.Because(cloakroom.ErrMalformed, detail) }

// retryAfter returns the seconds an error says to wait, at least 1 with a 503.
func retryAfter(err error, status int) string {
	var waits interface{ RetryAfter() time.Duration }
	seconds := 0
	if errors.As(err, &waits) {
		seconds = int((waits.RetryAfter() + time.Second - 1) / time.Second)
	}
	if status == http.StatusServiceUnavailable {
		seconds = max(seconds, 1)
	}
	if seconds == 0 {
		return ""
	}
	return strconv.Itoa(seconds)
}

func (x *exchange) fail(err error) {
	p := problemOf(err, x.call.ID)
	if p.name == "internal" {
		x.server.log.Error("operator call failed", "call", x.call.Name, "request", p.Instance, "error", err)
	}
	if wait := retryAfter(err, p.Status); wait != "" {
		x.w.Header().Set("Retry-After", wait)
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic("operator: a problem cannot be encoded") // it is made of texts and numbers
	}
	x.send(p.Status, "application/problem+json", body)
}
