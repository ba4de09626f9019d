package cloakroom

import "errors"

// The sentinel errors of the project, one meaning each. The front door maps
// them to a status and a problem type; what is not listed here is an internal
// error to the caller. No error ever holds a value, a key or a token.
var (
	// The request is malformed (400).
	ErrMalformed   = errors.New("malformed request")
	ErrMalformedID = errors.New("malformed pseudonym: want 36 characters, hex digits in groups of 8-4-4-4-12")
	// The caller is unknown (401) or may not do this (403).
	ErrUnauthenticated = errors.New("unknown, expired or revoked token")
	ErrDenied          = errors.New("not covered by the caller's grant")
	ErrPurpose         = errors.New("purpose not covered by the caller's grant")
	// The subject is not there (404), or its state forbids the write (409, 412).
	ErrNotFound = errors.New("no such subject")
	ErrErased   = errors.New("the subject was erased")
	ErrConflict = errors.New("another write holds this place")
	ErrVersion  = errors.New("the version does not match")
	// Nodes and principals: not there (404), or not in a state for this (409).
	ErrNoNode      = errors.New("no such node")
	ErrNoPrincipal = errors.New("no such principal or request")
	ErrState       = errors.New("not possible in this state")
	// A fingerprint, a share or a join token is not the right one (422).
	ErrFingerprint = errors.New("the fingerprint is another one")
	ErrShare       = errors.New("the share cannot be used")
	ErrJoinToken   = errors.New("the join token cannot be used")
	// The request is too large (413) or of the wrong media type (415).
	ErrTooLarge  = errors.New("request too large")
	ErrMediaType = errors.New("content type must be application/json")
	// The request does not fit the schema or the rules for ids and keys (422).
	ErrSchema      = errors.New("does not fit the schema")
	ErrNotRandomID = errors.New("pseudonyms are version-4 UUIDs")
	ErrIdempotency = errors.New("the idempotency key was used with another body")
	// Too many requests (429).
	ErrRate = errors.New("too many requests")
	// Not now, and nothing was done (503).
	ErrSealed           = errors.New("the node is sealed")
	ErrStarting         = errors.New("the node is starting")
	ErrOverloaded       = errors.New("overloaded")
	ErrMemoryFull       = errors.New("record memory is full")
	ErrUnavailable      = errors.New("the shard cannot answer")
	ErrDirectoryStale   = errors.New("the directory view is too old")
	ErrAuditUnavailable = errors.New("the audit log cannot be written")
	// It may or may not have been done (504).
	ErrOutcomeUnknown = errors.New("outcome unknown: retry with the same idempotency key")
	// The proposer's schema is behind the shard's; it refreshes and retries.
	ErrStaleSchema = errors.New("schema epoch is behind")
)
