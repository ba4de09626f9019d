package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloakroom"
)

// Problem is an answer that is not a success, as the server described it
// (RFC 9457). It matches the sentinel of package cloakroom that stands for its
// type, and wraps nothing else.
type Problem struct {
	Type       string        `json:"type"`     // "/problems/<name>"
	Title      string        `json:"title"`    // the same for every problem of a type
	Status     int           `json:"status"`   // HTTP status
	Detail     string        `json:"detail"`   // never holds a value
	Instance   string        `json:"instance"` // request id: the operator finds the cause under it
	Faults     []Fault       `json:"faults"`   // what does not fit the schema, by position and field
	RetryAfter time.Duration `json:"-"`        // 0: the server did not say
}

// Fault is one reason why a deposit does not fit the schema.
type Fault struct {
	Item   int    `json:"item"`  // position in the batch; -1: not about one item
	Field  string `json:"field"` // a declared name, or ""
	Reason string `json:"reason"`
}

// UnmarshalJSON reads a fault; an absent item is -1, not the first one.
func (f *Fault) UnmarshalJSON(raw []byte) error {
	type plain Fault
	p := plain{Item: -1}
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	*f = Fault(p)
	return nil
}

// Error says what went wrong in one line.
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Detail != "":
		b.WriteString(p.Detail)
	case p.Title != "":
		b.WriteString(p.Title)
	default:
		b.WriteString(http.StatusText(p.Status))
	}
	fmt.Fprintf(&b, " (status %d", p.Status)
	if p.Instance != "" {
		fmt.Fprintf(&b, ", request %s", p.Instance)
	}
	b.WriteByte(')')
	return b.String()
}

// Name returns the last part of the type, such as "not-found".
func (p *Problem) Name() string {
	return p.Type[strings.LastIndexByte(p.Type, '/')+1:]
}

// Unwrap returns the sentinel the problem stands for, or nil.
func (p *Problem) Unwrap() error {
	if err, ok := sentinelByName[p.Name()]; ok {
		return err
	}
	return sentinelByStatus[p.Status]
}

// sentinelByName maps the last part of a problem type.
var sentinelByName = map[string]error{
	"malformed":         cloakroom.ErrMalformed,
	"malformed-id":      cloakroom.ErrMalformedID,
	"unauthenticated":   cloakroom.ErrUnauthenticated,
	"denied":            cloakroom.ErrDenied,
	"purpose":           cloakroom.ErrPurpose,
	"not-found":         cloakroom.ErrNotFound,
	"erased":            cloakroom.ErrErased,
	"conflict":          cloakroom.ErrConflict,
	"no-node":           cloakroom.ErrNoNode,
	"no-principal":      cloakroom.ErrNoPrincipal,
	"state":             cloakroom.ErrState,
	"fingerprint":       cloakroom.ErrFingerprint,
	"share":             cloakroom.ErrShare,
	"join-token":        cloakroom.ErrJoinToken,
	"version":           cloakroom.ErrVersion,
	"too-large":         cloakroom.ErrTooLarge,
	"media-type":        cloakroom.ErrMediaType,
	"schema":            cloakroom.ErrSchema,
	"not-random-id":     cloakroom.ErrNotRandomID,
	"idempotency":       cloakroom.ErrIdempotency,
	"rate":              cloakroom.ErrRate,
	"sealed":            cloakroom.ErrSealed,
	"starting":          cloakroom.ErrStarting,
	"overloaded":        cloakroom.ErrOverloaded,
	"memory-full":       cloakroom.ErrMemoryFull,
	"unavailable":       cloakroom.ErrUnavailable,
	"directory-stale":   cloakroom.ErrDirectoryStale,
	"audit-unavailable": cloakroom.ErrAuditUnavailable,
	"schema-stale":      cloakroom.ErrStaleSchema,
	"outcome-unknown":   cloakroom.ErrOutcomeUnknown,
}

// sentinelByStatus stands in where the type is unknown, as when a proxy
// answered.
var sentinelByStatus = map[int]error{
	http.StatusBadRequest:            cloakroom.ErrMalformed,
	http.StatusUnauthorized:          cloakroom.ErrUnauthenticated,
	http.StatusForbidden:             cloakroom.ErrDenied,
	http.StatusNotFound:              cloakroom.ErrNotFound,
	http.StatusConflict:              cloakroom.ErrConflict,
	http.StatusPreconditionFailed:    cloakroom.ErrVersion,
	http.StatusRequestEntityTooLarge: cloakroom.ErrTooLarge,
	http.StatusUnsupportedMediaType:  cloakroom.ErrMediaType,
	http.StatusUnprocessableEntity:   cloakroom.ErrSchema,
	http.StatusTooManyRequests:       cloakroom.ErrRate,
	http.StatusServiceUnavailable:    cloakroom.ErrUnavailable,
	http.StatusGatewayTimeout:        cloakroom.ErrOutcomeUnknown,
}

// parseProblem makes a problem of an answer. What is no problem document (a
// proxy's page) becomes one with the status alone; its text is not kept.
func parseProblem(status int, header http.Header, body []byte, now time.Time) *Problem {
	p := &Problem{}
	mediaType, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	if strings.TrimSpace(mediaType) == "application/problem+json" {
		if json.Unmarshal(body, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = status
	p.RetryAfter = retryAfter(header.Get("Retry-After"), now)
	return p
}

// retryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil {
		return max(0, min(time.Duration(seconds), 3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), time.Hour))
	}
	return 0
}
