package node

import (
	"context"
	"errors"
	"slices"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/securemem"
)

// found is a subject as one of its pseudonyms leads to it.
type found struct {
	// id is the pseudonym that the subject's records are kept under: the one
	// asked for or, if that is an alias, the one the subject was made with.
	id cloakroom.Pseudonym
	// domain is that of the pseudonym asked for. A grant has to cover it; the
	// domain of the record decides nothing for who came by an alias.
	domain cloakroom.Domain
	record command.SubjectRecord // the subject's own; zero: there is none
	time   uint64                // of the shard, in unix milliseconds
}

// mayKnow says whether there is anything at all for who has these rights.
func (f *found) mayKnow(c *caller) bool {
	return !f.record.IsZero() && c.grant.Domains.Has(f.domain)
}

// find reads the subject that a pseudonym stands for, as it is now. It says
// nothing about rights. waits are writes that it must have seen.
func (n *Node) find(ctx context.Context, r *rules, waits []cloakroom.Index, id cloakroom.Pseudonym) (found, error) {
	record, at, err := n.subjectRecord(ctx, r, waits, id)
	f := found{id, record.Domain, record, at}
	if err != nil || !record.Alias {
		return f, err
	}
	if f.id, err = n.openAlias(id, record.Sealed); err != nil {
		return f, err
	}
	f.record, f.time, err = n.subjectRecord(ctx, r, waits, f.id)
	return f, err
}

// openAlias opens what stands under the token of an alias: the pseudonym that
// the subject was made with.
func (n *Node) openAlias(alias cloakroom.Pseudonym, sealed []byte) (id cloakroom.Pseudonym, err error) {
	token, err := n.records.Token(cloakroom.SubjectField, alias)
	if err != nil {
		return id, err
	}
	securemem.Do(func() { id, _, err = n.records.OpenPseudonym(token, sealed) })
	return id, err
}

// behind notes what stands behind the id of item i.
func (w *write) behind(i int, f found) {
	if f.id == w.items[i].ID {
		delete(w.mains, i)
		return
	}
	if w.mains == nil {
		w.mains = make(map[int]found)
	}
	w.mains[i] = f
}

// draftAlias turns the put of item i onto an alias into one onto the subject,
// in whose domain its records stay. It must not make the subject anew: by then
// the pseudonym would be nobody's alias.
func (w *write) draftAlias(i int) {
	if main, alias := w.mains[i]; alias {
		c := &w.drafts[i].command
		c.Domain = main.record.Domain
		c.Flags |= command.ReplaceOnly
	}
}

// followAliases finds the subjects of the puts whose shard said that their id
// is an alias. A put that names another domain than the alias's is refused, as
// one is that names another than the subject's.
func (n *Node) followAliases(ctx context.Context, w *write) error {
	for i := range w.items {
		if !errors.Is(w.results[i].Err, errElsewhere) {
			continue
		}
		f, err := n.find(ctx, w.rules, nil, w.items[i].ID)
		if err != nil {
			return err
		}
		w.behind(i, f)
		if _, alias := w.mains[i]; alias && f.domain != w.drafts[i].command.Domain {
			w.results[i].Err = cloakroom.ErrConflict
			if !w.batch {
				return cloakroom.ErrConflict
			}
		}
	}
	return nil
}

// aliases are those ids of a read that are aliases of the caller's domains. An
// id is known to be one only after it turned out to have no field of its own,
// so the ids of a subject that has one name cost nothing for it.
type aliases struct {
	every  bool // this read is of what is behind aliases: their domains decided
	at     []uint16
	tokens []*cloakroom.Token
	sealed [][]byte
}

func (a *aliases) begin() { a.at, a.tokens, a.sealed = a.at[:0], a.tokens[:0], a.sealed[:0] }

// add notes that the id in position i is an alias.
func (a *aliases) add(i int, token *cloakroom.Token, sealed []byte) {
	a.at, a.tokens, a.sealed = append(a.at, uint16(i)), append(a.tokens, token), append(a.sealed, sealed)
}

// position returns where the id in position i of the request is among the
// aliases, in whose order their subjects were read.
func (a *aliases) position(i int) int {
	j, _ := slices.BinarySearch(a.at, uint16(i))
	return j
}

// covers says whether what belongs to a domain may be answered. Behind an alias
// everything may: it is the alias's domain that the caller asks in.
func (r *read) covers(domain cloakroom.Domain) bool {
	return r.alias.every || r.caller.grant.Domains.Has(domain)
}

// readBehind reads what the subjects have whose aliases were found, and judges
// it.
func (n *Node) readBehind(ctx context.Context, r *read, req *api.Request) error {
	if len(r.alias.at) == 0 {
		return nil
	}
	b := r.behind
	b.ids = grow(b.ids, len(r.alias.at))
	var err error
	securemem.Do(func() {
		for j := range b.ids {
			if b.ids[j], _, err = n.records.OpenPseudonym(*r.alias.tokens[j], r.alias.sealed[j]); err != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	b.sharing(r)
	if err := n.place(b); err != nil {
		return err
	}
	if err := n.fetch(ctx, b, req); err != nil && len(b.ids) == len(r.ids) {
		return err // none could be answered; otherwise these alone are unreachable
	}
	for j, i := range r.alias.at {
		if r.states[i] = b.stateBehind(j); r.states[i] == aliased || r.states[i] == bare {
			r.found++
		}
	}
	return nil
}

// stateBehind judges the subject behind alias j.
func (r *read) stateBehind(j int) idState {
	if r.states[j] == unreachable {
		return unreachable
	}
	if _, there := r.subject(j, r.columns-1); !there {
		return absent
	}
	if r.dropHidden(j) == 0 {
		return bare
	}
	return aliased
}
