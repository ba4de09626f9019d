package node

import (
	"context"
	"errors"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/policy"
)

// readBase reads what a patch builds on. A subject that the grant's domains do
// not cover, or that has expired, is not there.
func (n *Node) readBase(ctx context.Context, w *write) error {
	base, err := n.find(ctx, w.rules, w.waits, w.items[0].ID)
	switch {
	case err != nil:
		return err
	case !base.mayKnow(w.caller):
		return cloakroom.ErrNotFound
	case base.record.Erased:
		return cloakroom.ErrErased
	case expired(base.record.Expiry, base.time):
		return cloakroom.ErrNotFound
	}
	w.base, w.baseTime = base.record, base.time
	w.behind(0, base)
	return nil
}

// subjectRecord reads the subject record of id, the zero record if there is
// none, and the shard's time. It says nothing about rights.
func (n *Node) subjectRecord(ctx context.Context, r *rules, waits []cloakroom.Index, id cloakroom.Pseudonym) (command.SubjectRecord, uint64, error) {
	token, err := n.records.Token(cloakroom.SubjectField, id)
	if err != nil {
		return command.SubjectRecord{}, 0, err
	}
	shard := r.view.ShardOf(n.records.Slot(id))
	var records command.Records
	err = n.cluster.Read(ctx, shard, cloakroom.Linearizable, indexOf(waits, shard), []cloakroom.Token{token}, &records)
	if err != nil || records.At(0) == nil {
		return command.SubjectRecord{}, records.Time, err
	}
	s, err := command.DecodeSubject(records.At(0))
	return s, records.Time, err
}

// erased is what became of an erasure in its shard.
type erased struct {
	command.Result
	subject cloakroom.Token // whose mark stays
	at      cloakroom.Index
}

// proposeErase removes every field ever declared, retired ones included. The
// shard removes the subject's handles and aliases with it, whichever of its
// pseudonyms id is.
func (n *Node) proposeErase(ctx context.Context, req *api.Request, c *caller, id cloakroom.Pseudonym) (erased, error) {
	base, err := n.find(ctx, c.rules, nil, id)
	if err != nil {
		return erased{}, err
	}
	if !base.mayKnow(c) {
		return erased{}, cloakroom.ErrNotFound
	}
	for try := 1; ; try++ {
		rules := n.rulesNow()
		done, err := n.eraseOnce(ctx, req, c, rules, id, base)
		if !errors.Is(err, cloakroom.ErrStaleSchema) || try == writeRetries {
			return done, err
		}
		n.awaitSchema(ctx, rules)
	}
}

func (n *Node) eraseOnce(ctx context.Context, req *api.Request, c *caller, rules *rules, id cloakroom.Pseudonym, base found) (erased, error) {
	w := &write{req: req, caller: c, rules: rules, items: []api.Deposit{{ID: id, HasID: true}}, drafts: make([]draft, 1)}
	w.behind(0, base)
	err := n.identify(w)
	d := &w.drafts[0]
	if err == nil {
		err = n.listAll(w.rules, d, command.Erase)
	}
	if err != nil {
		return erased{}, err
	}
	if req.HasIfMatch {
		d.command.Flags |= command.HasExpected
		d.command.Expected = req.IfMatch
	}
	results, at, err := n.cluster.Propose(ctx, d.shard, []command.Command{d.command})
	if err != nil {
		return erased{}, err
	}
	return erased{results[0], d.command.Subject, at}, results[0].Err(command.Erase)
}

// listAll makes d the command of that kind that removes every field ever
// declared.
func (n *Node) listAll(r *rules, d *draft, kind command.Kind) error {
	subject, err := n.records.Token(cloakroom.SubjectField, d.id)
	if err != nil {
		return err
	}
	d.command.Kind, d.command.Subject = kind, subject
	d.command.SchemaEpoch = r.view.Schema.Epoch
	if err := n.removeOthers(r, d, noFields, policy.AllFields()); err != nil {
		return err
	}
	d.command.SortFields()
	return nil
}
