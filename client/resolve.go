package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cloakroom"
)

// Resolved is the answer to a resolve. Every id asked for stands in exactly
// one of the three.
type Resolved struct {
	Subjects    map[cloakroom.Pseudonym]Fields // a subject without the asked fields has none
	Missing     []cloakroom.Pseudonym          // no such subject, or not for this caller
	Unavailable []cloakroom.Pseudonym          // their shard could not answer in time: ask again
}

// Resolve turns pseudonyms into values. Duplicates are asked for once, and
// more than [cloakroom.MaxResolveIDs] ids are split over several requests, one
// after the other. If some of these can't be answered, their ids are
// Unavailable; if none can, the error says why. What [Config.Cache] holds is
// not asked for at all.
func (c *Client) Resolve(ctx context.Context, ids []cloakroom.Pseudonym, q Query) (*Resolved, error) {
	ids = distinct(ids)
	result := &Resolved{Subjects: make(map[cloakroom.Pseudonym]Fields, len(ids))}
	cache, query := c.cache, ""
	if cache != nil && q.cacheable() {
		query = q.key()
		ids = cache.lookup(ids, query, result)
	} else {
		cache = nil
	}
	var unavailable error
	for len(ids) > 0 {
		part := ids[:min(len(ids), cloakroom.MaxResolveIDs)]
		ids = ids[len(part):]
		begun := time.Now() // before the server can read anything
		switch err := c.resolvePart(ctx, part, &q, result); {
		case err == nil:
			if cache != nil {
				cache.keep(part, query, begun, result)
			}
		case errors.Is(err, cloakroom.ErrUnavailable):
			unavailable = err
			result.Unavailable = append(result.Unavailable, part...)
		default:
			return nil, err
		}
	}
	if unavailable != nil && len(result.Subjects) == 0 && len(result.Missing) == 0 {
		return nil, unavailable
	}
	return result, nil
}

// distinct returns ids without duplicates, in order of first appearance.
func distinct(ids []cloakroom.Pseudonym) []cloakroom.Pseudonym {
	seen := make(map[cloakroom.Pseudonym]struct{}, len(ids))
	kept := make([]cloakroom.Pseudonym, 0, len(ids))
	for _, id := range ids {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			kept = append(kept, id)
		}
	}
	return kept
}

// resolvePart asks for at most MaxResolveIDs ids and adds what it learns.
func (c *Client) resolvePart(ctx context.Context, ids []cloakroom.Pseudonym, q *Query, result *Resolved) error {
	const verb = "resolve"
	request := struct {
		IDs     []string `json:"ids"`
		Fields  []string `json:"fields"`
		Form    string   `json:"form,omitempty"`
		Purpose string   `json:"purpose,omitempty"`
	}{texts(ids), q.Fields, q.Form, q.Purpose}
	body, err := encode(request)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	headers := q.headers()
	headers[0][1] = "" // the purpose stands in the body
	answer, err := c.do(ctx, &call{
		verb: verb, method: http.MethodPost, path: "/v1/resolve", body: body, header: headers, repeat: true,
	})
	if err != nil {
		return err
	}
	return result.add(verb, answer.body, ids)
}

func texts(ids []cloakroom.Pseudonym) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

// add merges one answer, and checks that it accounts for every id asked for.
func (r *Resolved) add(verb string, body []byte, asked []cloakroom.Pseudonym) error {
	var wire struct {
		Subjects    map[string]Fields `json:"subjects"`
		Missing     []string          `json:"missing"`
		Unavailable []string          `json:"unavailable"`
	}
	if err := decode(verb, body, &wire); err != nil {
		return err
	}
	if len(wire.Subjects)+len(wire.Missing)+len(wire.Unavailable) != len(asked) {
		return fmt.Errorf("%s: %w", verb, errReply)
	}
	for text, fields := range wire.Subjects {
		id, err := cloakroom.ParsePseudonym([]byte(text))
		if err != nil {
			return fmt.Errorf("%s: %w", verb, errReply)
		}
		r.Subjects[id] = fields
	}
	var err1, err2 error
	r.Missing, err1 = appendIDs(r.Missing, wire.Missing)
	r.Unavailable, err2 = appendIDs(r.Unavailable, wire.Unavailable)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%s: %w", verb, errReply)
	}
	return nil
}

func appendIDs(ids []cloakroom.Pseudonym, texts []string) ([]cloakroom.Pseudonym, error) {
	for _, text := range texts {
		id, err := cloakroom.ParsePseudonym([]byte(text))
		if err != nil {
			return nil, errReply
		}
		ids = append(ids, id)
	}
	return ids, nil
}
