// Package api is the front door of a node: HTTP/1.1 with and without TLS. It
// decodes requests in place from guarded buffers, bounds them, asks the
// [Service] and encodes the answer into a guarded buffer that goes straight to
// the socket. It owns connections, limits, problem types and the JSON on the
// wire.
//
// It never sees a key or a sealed record, never decides what a caller may do,
// and never turns a value into a Go string. What net/http and crypto/tls leave
// in their buffers is wiped by the connection wrappers (DESIGN.md).
//
// A [Server] is safe for concurrent use; requests and replies belong to the
// goroutine that serves them.
package api

import (
	"context"
	"net/http"
	"time"

	"cloakroom"
)

// Caller is an authenticated principal.
type Caller interface {
	Name() string
}

// Service is what the front door asks of the node. Every []byte in a request
// aliases guarded memory (or a header) and dies when the call returns: the
// service copies what it keeps, and only into guarded memory.
//
// Errors are the sentinels of package cloakroom (wrapped is fine); an error
// with a method RetryAfter() time.Duration sets the Retry-After header.
// Anything else is "internal error" to the caller and a logged cause.
type Service interface {
	// Authenticate finds the caller by its token, or returns
	// [cloakroom.ErrUnauthenticated]. It must not keep or change token.
	Authenticate(token []byte) (Caller, error)

	// Deposit stores a new subject under an id the service draws.
	Deposit(ctx context.Context, req *Request, d *Deposit) (Deposited, error)
	// DepositBatch stores each item whole or not at all and fills results,
	// which has the length of items. An error (Faults for all faulty items)
	// means that nothing was written; otherwise an item's own failure stands
	// in its Deposited.Err.
	DepositBatch(ctx context.Context, req *Request, items []Deposit, results []Deposited) error
	// Put creates or replaces the subject with this id.
	Put(ctx context.Context, req *Request, id cloakroom.Pseudonym, d *Deposit) (Deposited, error)
	// Upsert creates, or finds and replaces, the subject whom an issuer has a
	// name for. It answers with the pseudonym of the deposit's domain.
	Upsert(ctx context.Context, req *Request, source *Source, d *Deposit) (Deposited, error)
	// Patch changes the named fields; kind Null erases one. d has no domain.
	Patch(ctx context.Context, req *Request, id cloakroom.Pseudonym, d *Deposit) (Deposited, error)
	// Get writes one subject into reply. An empty Query.Fields asks for every
	// field the caller may have.
	Get(ctx context.Context, req *Request, id cloakroom.Pseudonym, q *Query, reply *SubjectReply) error
	// Resolve writes the subjects of q.IDs (which are distinct) into reply.
	// When none could be answered it returns [cloakroom.ErrUnavailable].
	Resolve(ctx context.Context, req *Request, q *Query, reply *ResolveReply) error
	// Erase removes the subject for good and returns the receipt, as JSON.
	Erase(ctx context.Context, req *Request, id cloakroom.Pseudonym) (receipt []byte, err error)

	// Events opens a stream of changes that goes on behind cursor, or with the
	// present when it is empty. ctx is for the opening alone.
	Events(ctx context.Context, req *Request, cursor []byte) (EventStream, error)

	// Schema and SetSchema return the schema as JSON; body is raw JSON whose
	// syntax has been checked (strict, no duplicates).
	Schema(ctx context.Context, req *Request) ([]byte, error)
	SetSchema(ctx context.Context, req *Request, body []byte) ([]byte, error)

	// Refused is told of a request to a call that the front door turned away
	// before the service was asked, so that it is recorded too. req.Caller is
	// nil if the caller is unknown; call is a name of this package. An error
	// takes the place of why.
	Refused(ctx context.Context, req *Request, call string, why error) error

	// PublicKeys returns the public signing keys, present and past, as JSON.
	PublicKeys() []byte
	// Status returns the operator's view of the node, as JSON.
	Status(ctx context.Context, req *Request) ([]byte, error)
	// Ready reports whether this node can answer; body is JSON for
	// /readyz?verbose and may be nil. err is ErrSealed, ErrStarting, ...
	Ready(verbose bool) (body []byte, err error)
	// Metrics serves the node's metrics to req.Caller, or returns
	// [cloakroom.ErrDenied].
	Metrics(ctx context.Context, req *Request) (http.Handler, error)
}

// RequestID names one request in problems, logs and the audit trail. It is
// random and made here, never the caller's text.
type RequestID [16]byte

// Request is what every call carries beside its body.
type Request struct {
	Caller Caller
	ID     RequestID
	// Trace is the trace id of a well-formed traceparent header.
	Trace    [16]byte
	HasTrace bool
	// Purpose is the Cloakroom-Purpose header or the member of the body.
	Purpose []byte
	// Level is the Cloakroom-Consistency header.
	Level cloakroom.Level
	// Index is the Cloakroom-Index header: opaque, at most MaxIndexBytes,
	// visible ASCII; empty when absent.
	Index []byte
	// IdempotencyKey is empty when the header is absent.
	IdempotencyKey []byte
	// IfMatch is the version of the If-Match header.
	IfMatch    cloakroom.Version
	HasIfMatch bool
	// Body is the body as received; decoded values never overwrite it.
	Body []byte
	// Recorded is set by the service once the request stands in its audit log.
	Recorded bool
	// ReplyIndex is what the service answers as Cloakroom-Index: visible
	// ASCII, appended by the service to ReplyIndex[:0].
	ReplyIndex []byte
}

// ValueKind is the JSON kind of a field's value.
type ValueKind uint8

const (
	// String is a JSON string; Value holds its unescaped UTF-8 bytes.
	String ValueKind = iota + 1
	// JSON is an object, array, number or boolean; Value holds the raw JSON,
	// whose syntax has been checked (no duplicate names, bounded depth).
	JSON
	// Null is JSON null; Value is nil.
	Null
)

// FieldValue is one member of "fields". The name is the caller's text and not
// known to be declared.
type FieldValue struct {
	Name  []byte
	Kind  ValueKind
	Value []byte
	Raw   []byte // of a String: as it stands in the body, quotes and escapes included
}

// Deposit is what a deposit carries. Names within Fields are distinct.
type Deposit struct {
	ID     cloakroom.Pseudonym // of a batch item, when HasID
	HasID  bool
	Domain []byte        // empty: the default domain
	TTL    time.Duration // of every field, when HasTTL; may be over already, or above MaxTTL
	HasTTL bool
	TTLs   []FieldTTL // of single fields, in the same range; none with HasTTL
	Fields []FieldValue
}

// FieldTTL says how long one field is kept. The name is the caller's text.
type FieldTTL struct {
	Name []byte
	TTL  time.Duration
}

// TTLOf returns how long the caller wants a field kept, and whether it says.
func (d *Deposit) TTLOf(field string) (time.Duration, bool) {
	for i := range d.TTLs {
		if string(d.TTLs[i].Name) == field {
			return d.TTLs[i].TTL, true
		}
	}
	return d.TTL, d.HasTTL
}

// Source is who a subject is to an issuer: an identity provider and its name
// for the person. Both are personal data and lie in guarded memory.
type Source struct {
	Issuer  []byte // 1 to MaxIssuerBytes
	Subject []byte // 1 to MaxSourceBytes
}

// Deposited is the outcome of a deposit.
type Deposited struct {
	ID      cloakroom.Pseudonym
	Version cloakroom.Version
	Created bool  // false: replaced, merged or replayed
	Err     error // of a batch item
}

// Query says which fields of which subjects are asked for.
type Query struct {
	IDs    []cloakroom.Pseudonym // distinct, in order of first appearance
	Asked  int                   // ids in the request, duplicates included
	Fields [][]byte              // distinct names, as the caller wrote them
	Form   []byte                // empty: the form of the grant
}
