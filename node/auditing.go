package node

import (
	"context"
	"encoding/hex"
	"errors"

	"cloakroom"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/policy"
)

// entryOf starts the audit entry of a request. Purpose and fields are filled
// in only once they are known to be names of the schema: what a caller wrote
// may be anything, a value included.
func entryOf(req *api.Request, c *caller, action policy.Action) audit.Entry {
	req.Recorded = true // by whoever asked for the entry, before the answer
	return audit.Entry{
		Request:   hex.AppendEncode(nil, req.ID[:]),
		Trace:     req.Trace,
		Principal: c.name,
		Action:    action.String(),
	}
}

// Refused records a request that never reached the pipeline: an unknown
// caller, a body that cannot be read.
func (n *Node) Refused(ctx context.Context, req *api.Request, call string, why error) error {
	entry := audit.Entry{
		Request: hex.AppendEncode(nil, req.ID[:]),
		Trace:   req.Trace,
		Action:  call,
		Outcome: outcomeOf(why),
	}
	if c, known := req.Caller.(*caller); known {
		entry.Principal = c.name
	}
	return n.audit.Write(ctx, &entry)
}

// outcomes names every end a request can have in the audit log.
var outcomes = []struct {
	err  error
	name string
}{
	{cloakroom.ErrUnauthenticated, "unauthenticated"},
	{cloakroom.ErrMalformed, "malformed"},
	{cloakroom.ErrMalformedID, "malformed"},
	{cloakroom.ErrNotRandomID, "malformed"},
	{cloakroom.ErrMediaType, "media-type"},
	{cloakroom.ErrDenied, "denied"},
	{cloakroom.ErrPurpose, "purpose"},
	{cloakroom.ErrNotFound, "not-found"},
	{cloakroom.ErrErased, "erased"},
	{cloakroom.ErrConflict, "conflict"},
	{cloakroom.ErrVersion, "version"},
	{cloakroom.ErrIdempotency, "idempotency"},
	{cloakroom.ErrSchema, "schema"},
	{cloakroom.ErrTooLarge, "too-large"},
	{cloakroom.ErrRate, "rate"},
	{cloakroom.ErrMemoryFull, "memory-full"},
	{cloakroom.ErrOverloaded, "overloaded"},
	{cloakroom.ErrUnavailable, "unavailable"},
	{cloakroom.ErrDirectoryStale, "directory-stale"},
	{cloakroom.ErrOutcomeUnknown, "unknown"},
}

func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "failed"
}

// auditRead records a read that passed its gate, before a value is opened.
func (n *Node) auditRead(ctx context.Context, r *read, asked int) error {
	r.entry.Asked, r.entry.Found = asked, r.found
	r.entry.Missing = len(r.ids) - r.found
	r.entry.Outcome = "ok"
	return n.audit.Write(ctx, &r.entry)
}
