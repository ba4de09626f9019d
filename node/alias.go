package node

import (
	"context"

	"cloakroom"
	"cloakroom/cluster/command"
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
