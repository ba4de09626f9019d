package node

import (
	"cloakroom"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/node/record"
)

// openPage opens what routing found and writes the answer. It runs inside
// securemem.Do and allocates nothing.
func (n *Node) openPage(r *read, ids []cloakroom.Pseudonym, reply *api.ResolveReply) error {
	for i, id := range ids {
		switch r.states[i] {
		case absent:
			reply.Missing(id)
		case unreachable:
			reply.Unavailable(id)
		case bare:
			reply.Begin(id)
			reply.End()
		case present:
			reply.Begin(id)
			if err := n.openFields(r, i, reply); err != nil {
				return err
			}
			reply.End()
		case late:
			reply.Begin(id)
			if err := n.openFields(r.second, r.second.position(i), reply); err != nil {
				return err
			}
			reply.End()
		case aliased:
			reply.Begin(id)
			if err := n.openFields(r.behind, r.alias.position(i), reply); err != nil {
				return err
			}
			reply.End()
		}
	}
	return nil
}

// openSubject opens the fields of a single read.
func (n *Node) openSubject(r *read, id cloakroom.Pseudonym, reply *api.SubjectReply) error {
	from := r
	switch r.states[0] {
	case unreachable:
		return cloakroom.ErrUnavailable
	case absent:
		return cloakroom.ErrNotFound
	case aliased, bare: // a single read finds something bare only behind an alias
		from = r.behind
	}
	s, there := from.subject(0, from.columns-1)
	if !there {
		return cloakroom.ErrNotFound
	}
	reply.Begin(id, s.Version)
	if err := n.openFields(from, 0, reply); err != nil {
		return err
	}
	reply.End()
	return nil
}

// valueWriter is the part of a reply that takes values.
type valueWriter interface {
	Scratch(n int) []byte
	Value(quotedName, value []byte, rawJSON bool) error
}

// openFields opens what judging left of the fields of id i into the reply.
func (n *Node) openFields(r *read, i int, reply valueWriter) error {
	for c, f := range r.fields {
		rec := r.record(i, c)
		if rec == nil {
			continue
		}
		scratch := reply.Scratch(len(rec) + record.MaskBound(f.typ, len(rec)))
		if scratch == nil {
			return cloakroom.ErrOverloaded
		}
		value, _, err := r.openers[c].Open(scratch, r.token(i, c), rec)
		if err != nil {
			return err
		}
		if r.form != policy.Plain { // whatever is less than plain is at least masked
			if value, err = record.Mask(scratch[len(rec):len(rec)], f.typ, value); err != nil {
				return err
			}
		}
		if err := reply.Value(f.quoted, value, f.typ.RawJSON()); err != nil {
			return err
		}
	}
	return nil
}
