// Package client is the Go client of Cloakroom's HTTP API.
//
// It owns the way from typed calls to HTTP and back: encoding, authentication,
// idempotency keys, bounded retries, and the mapping of problem documents
// (RFC 9457) to [Problem], which [errors.Is] matches against the sentinels of
// package cloakroom:
//
//	if errors.Is(err, cloakroom.ErrNotFound) { … }
//
// It never puts a value, a pseudonym or a token into an error or a log line:
// [Value] and [Token] print as a placeholder with every verb, and transport
// errors lose their URL, whose path may hold a pseudonym.
//
// A [Client] keeps its connections open and is safe for concurrent use.
package client
