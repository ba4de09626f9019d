package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloakroom"
)

// Subject is what is deposited.
type Subject struct {
	// ID is the pseudonym; the zero value lets the server draw one.
	ID cloakroom.Pseudonym
	// Domain is the pseudonymisation domain; "" is the default one.
	Domain string
	// TTL is how long the values are kept; 0: as long as the schema allows.
	TTL time.Duration
	// FieldTTL is the same for single fields, by name, and goes before TTL.
	FieldTTL map[string]time.Duration
	// Fields are the values, by field name.
	Fields Fields
	// IdempotencyKey makes a repeated [Client.Deposit] or [Client.Put] do
	// nothing more, unless somebody else has put the subject meanwhile. For
	// Deposit "" draws a random one. A batch ignores it.
	IdempotencyKey string
}

// Change is what [Client.Change] does to a subject that is there.
type Change struct {
	// Fields are the new values; [Null] erases one for good. Others stay.
	Fields Fields
	// TTL and FieldTTL are as in [Subject]; no field outlives its subject.
	TTL      time.Duration
	FieldTTL map[string]time.Duration
	// Version, if not "", must be the subject's present one.
	Version string
	// IdempotencyKey makes a repetition do nothing more. With a Version as well
	// the call is sent again after [cloakroom.ErrOutcomeUnknown]: if somebody
	// else has written meanwhile, the version no longer holds.
	IdempotencyKey string
	// After is the Index of a write that must be there before.
	After string
}

// Deposited is what a write returned.
type Deposited struct {
	ID      cloakroom.Pseudonym
	Version string // opaque, for Patch
	Index   string // opaque, for Query.After
	Created bool   // false: an existing subject was replaced or changed
	Err     error  // one item of a batch failed: a *Problem
}

// Query says what to read and why.
type Query struct {
	Fields  []string
	Form    string // "masked", or "" for the fullest that is granted; only for Resolve
	Purpose string // "" sends none
	After   string // the Index of a write the answer must include
	Level   cloakroom.Level
}

// headers returns the headers of a read.
func (q *Query) headers() [][2]string {
	level := ""
	if q.Level == cloakroom.Linearizable {
		level = "linearizable"
	}
	return [][2]string{
		{"Cloakroom-Purpose", q.Purpose},
		{"Cloakroom-Consistency", level},
		{"Cloakroom-Index", q.After},
	}
}

// Found is one subject as stored.
type Found struct {
	ID      cloakroom.Pseudonym
	Version string
	Fields  Fields
}

// wireSubject is a subject in a request body.
type wireSubject struct {
	ID     string `json:"id,omitempty"`
	Domain string `json:"domain,omitempty"`
	Fields Fields `json:"fields"`
	TTL    any    `json:"ttl,omitempty"` // text, or one for each field
}

func (s *Subject) wire() wireSubject {
	w := wireSubject{Domain: s.Domain, Fields: s.Fields}
	if s.ID != (cloakroom.Pseudonym{}) {
		w.ID = s.ID.String()
	}
	w.TTL = wireTTL(s.TTL, s.FieldTTL, s.Fields)
	if w.Fields == nil {
		w.Fields = Fields{}
	}
	return w
}

// wireTTL returns the member ttl, nil for none. The API takes one time for all
// fields or one for each that is named.
func wireTTL(ttl time.Duration, each map[string]time.Duration, fields Fields) any {
	switch {
	case len(each) == 0 && ttl == 0:
		return nil
	case len(each) == 0:
		return ttl.String()
	}
	texts := make(map[string]string, len(fields))
	for name, d := range each {
		texts[name] = d.String()
	}
	for name := range fields {
		if _, named := each[name]; !named && ttl != 0 {
			texts[name] = ttl.String()
		}
	}
	return texts
}

// encode makes a request body. Its error says nothing about the content: that
// of encoding/json may quote a piece of a value.
func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode request: a value is neither valid UTF-8 text nor valid JSON: %w", cloakroom.ErrMalformed)
	}
	return body, nil
}

// decode reads an answer, with the same reticence.
func decode(verb string, body []byte, v any) error {
	if json.Unmarshal(body, v) != nil {
		return fmt.Errorf("%s: %w", verb, errReply)
	}
	return nil
}

// Deposit stores a new subject under a pseudonym the server draws; s.ID must
// be zero.
func (c *Client) Deposit(ctx context.Context, s Subject) (Deposited, error) {
	const verb = "deposit subject"
	if s.ID != (cloakroom.Pseudonym{}) {
		return Deposited{}, fmt.Errorf("%s: the subject has an id, use Put: %w", verb, cloakroom.ErrMalformed)
	}
	body, err := encode(s.wire())
	if err != nil {
		return Deposited{}, fmt.Errorf("%s: %w", verb, err)
	}
	key := s.IdempotencyKey
	if key == "" {
		if key, err = c.newKey(); err != nil {
			return Deposited{}, fmt.Errorf("%s: %w", verb, err)
		}
	}
	return c.write(ctx, &call{
		verb: verb, method: http.MethodPost, path: "/v1/subjects", body: body, repeat: true,
		header: [][2]string{{"Idempotency-Key", key}},
	})
}

// Put creates or replaces the subject s.ID. After
// [cloakroom.ErrOutcomeUnknown] it may or may not have been done.
func (c *Client) Put(ctx context.Context, s Subject) (Deposited, error) {
	const verb = "put subject"
	w := s.wire()
	w.ID = "" // it stands in the path
	body, err := encode(w)
	if err != nil {
		return Deposited{}, fmt.Errorf("%s: %w", verb, err)
	}
	return c.write(ctx, &call{
		verb: verb, method: http.MethodPut, path: subjectPath(s.ID), body: body,
		header: [][2]string{{"Idempotency-Key", s.IdempotencyKey}},
	})
}

// Patch changes the named fields of a subject and leaves the others; [Null]
// erases one. version, if not "", must be the subject's present one, or the
// error matches [cloakroom.ErrVersion].
func (c *Client) Patch(ctx context.Context, id cloakroom.Pseudonym, version string, fields Fields) (Deposited, error) {
	return c.Change(ctx, id, Change{Fields: fields, Version: version})
}

// Change is Patch with all there is to say.
func (c *Client) Change(ctx context.Context, id cloakroom.Pseudonym, change Change) (Deposited, error) {
	const verb = "patch subject"
	body, err := encode(struct {
		Fields Fields `json:"fields"`
		TTL    any    `json:"ttl,omitempty"`
	}{change.Fields, wireTTL(change.TTL, change.FieldTTL, change.Fields)})
	if err != nil {
		return Deposited{}, fmt.Errorf("%s: %w", verb, err)
	}
	match := ""
	if change.Version != "" {
		match = `"` + change.Version + `"`
	}
	return c.write(ctx, &call{
		verb: verb, method: http.MethodPatch, path: subjectPath(id), body: body,
		repeat: change.IdempotencyKey != "" && change.Version != "",
		header: [][2]string{{"If-Match", match}, {"Idempotency-Key", change.IdempotencyKey}, {"Cloakroom-Index", change.After}},
	})
}

// write sends a call that answers with id and version.
func (c *Client) write(ctx context.Context, call *call) (Deposited, error) {
	answer, err := c.do(ctx, call)
	if err != nil {
		return Deposited{}, err
	}
	var wire struct {
		ID      string `json:"id"`
		Version string `json:"version"`
	}
	if err := decode(call.verb, answer.body, &wire); err != nil {
		return Deposited{}, err
	}
	id, err := cloakroom.ParsePseudonym([]byte(wire.ID))
	if err != nil {
		return Deposited{}, fmt.Errorf("%s: %w", call.verb, errReply)
	}
	c.forget(id)
	return Deposited{
		ID: id, Version: wire.Version,
		Index:   answer.header.Get("Cloakroom-Index"),
		Created: answer.status == http.StatusCreated,
	}, nil
}

// Get reads one subject, in the fullest form that is granted. Another form can
// be had with [Client.Resolve].
func (c *Client) Get(ctx context.Context, id cloakroom.Pseudonym, q Query) (Found, error) {
	const verb = "get subject"
	if q.Form != "" {
		return Found{}, fmt.Errorf("%s: a form can be named in a resolve only: %w", verb, cloakroom.ErrMalformed)
	}
	query, err := fieldsQuery(q.Fields)
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", verb, err)
	}
	answer, err := c.do(ctx, &call{
		verb: verb, method: http.MethodGet, path: subjectPath(id), query: query,
		header: q.headers(), repeat: true,
	})
	if err != nil {
		return Found{}, err
	}
	var wire struct {
		Version string `json:"version"`
		Fields  Fields `json:"fields"`
	}
	if err := decode(verb, answer.body, &wire); err != nil {
		return Found{}, err
	}
	return Found{ID: id, Version: wire.Version, Fields: wire.Fields}, nil
}

// fieldsQuery names fields in a query string. The server decodes no escapes
// there, the comma's included: field names need none.
func fieldsQuery(names []string) (string, error) {
	if len(names) == 0 {
		return "", nil
	}
	for _, name := range names {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("&%+=;,#", r) }) {
			return "", fmt.Errorf("a name that no field can have: %w", cloakroom.ErrMalformed)
		}
	}
	return "fields=" + strings.Join(names, ","), nil
}

// Erase removes a subject for good and returns the receipt, a JSON document:
// from then on no node serves anything of it. Erasing an erased subject returns
// the same receipt again.
func (c *Client) Erase(ctx context.Context, id cloakroom.Pseudonym) (receipt json.RawMessage, err error) {
	answer, err := c.do(ctx, &call{
		verb: "erase subject", method: http.MethodDelete, path: subjectPath(id), repeat: true,
	})
	c.forget(id) // whatever came of it
	if err != nil {
		return nil, err
	}
	return answer.body, nil
}

func subjectPath(id cloakroom.Pseudonym) string { return "/v1/subjects/" + id.String() }
