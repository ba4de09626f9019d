package client

import (
	"context"
	"fmt"
	"net/http"

	"cloakroom"
)

// Source is who a subject is to an issuer: an identity provider, and its name
// for the person (iss and sub of a token). Both are personal data.
type Source struct {
	Issuer  string // at most [cloakroom.MaxIssuerBytes] bytes
	Subject string // at most [cloakroom.MaxSourceBytes] bytes
}

// Upsert creates the subject of a source, or finds it and replaces its fields,
// and returns its pseudonym in s.Domain. Created says whether that pseudonym is
// new. s.ID must be zero.
//
// After [cloakroom.ErrOutcomeUnknown] it may or may not have been done; to call
// again finds out, and never makes a second subject.
func (c *Client) Upsert(ctx context.Context, source Source, s Subject) (Deposited, error) {
	const verb = "upsert subject"
	if s.ID != (cloakroom.Pseudonym{}) {
		return Deposited{}, fmt.Errorf("%s: the subject has an id, use Put: %w", verb, cloakroom.ErrMalformed)
	}
	body, err := encode(struct {
		Issuer  string `json:"issuer"`
		Subject string `json:"subject"`
		wireSubject
	}{source.Issuer, source.Subject, s.wire()})
	if err != nil {
		return Deposited{}, fmt.Errorf("%s: %w", verb, err)
	}
	return c.write(ctx, &call{
		verb: verb, method: http.MethodPut, path: "/v1/subjects/by-source", body: body,
		header: [][2]string{{"Idempotency-Key", s.IdempotencyKey}},
	})
}

// String tells nothing of it, so that no log does.
func (Source) String() string { return "source" }

// GoString tells nothing of it either.
func (Source) GoString() string { return "client.Source" }
