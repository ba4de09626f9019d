package node

import (
	"context"
	"errors"

	"cloakroom"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/policy"
	"cloakroom/securemem"
)

// This file is the one way through the house. Every read and every write takes
// the gates below, in this order; the files beside it say how each gate works.
//
//	reads:    authorize → route → current → audit → open → reply
//	writes:   current → authorize → seal → audit → propose → audit
//	erasures: authorize → current → audit → propose → ledger and barrier → audit
//
// Rights are decided on the request alone, before anything is looked up. An
// audit entry is written before a value is opened or a command proposed, so
// that a log that cannot be written denies the request instead of missing it.

// Resolve answers a page of pseudonyms.
func (n *Node) Resolve(ctx context.Context, req *api.Request, q *api.Query, reply *api.ResolveReply) error {
	r := n.reads.get()
	defer n.reads.put(r)
	if err := n.authorizeRead(ctx, r, req, q, policy.Resolve); err != nil {
		return err
	}
	err := n.route(ctx, r, req, q.IDs, false)
	for try := 0; try < writeRetries && errors.Is(err, cloakroom.ErrStaleSchema); try++ {
		if err = n.readAnew(ctx, r, req, q, policy.Resolve); err == nil {
			err = n.route(ctx, r, req, q.IDs, false)
		}
	}
	if err != nil {
		return n.refused(ctx, r.entry, err)
	}
	if err := n.auditRead(ctx, r, q.Asked); err != nil {
		return err
	}
	securemem.Do(func() { err = n.openPage(r, q.IDs, reply) })
	return err
}

// Get answers one subject with its version.
func (n *Node) Get(ctx context.Context, req *api.Request, id cloakroom.Pseudonym, q *api.Query, reply *api.SubjectReply) error {
	r := n.reads.get()
	defer n.reads.put(r)
	if err := n.authorizeRead(ctx, r, req, q, policy.Read); err != nil {
		return err
	}
	r.single[0] = id
	err := n.route(ctx, r, req, r.single[:], true)
	for try := 0; try < writeRetries && errors.Is(err, cloakroom.ErrStaleSchema); try++ {
		if err = n.readAnew(ctx, r, req, q, policy.Read); err == nil {
			err = n.route(ctx, r, req, r.single[:], true)
		}
	}
	if err != nil {
		return n.refused(ctx, r.entry, err)
	}
	if err := n.auditRead(ctx, r, 1); err != nil {
		return err
	}
	securemem.Do(func() { err = n.openSubject(r, id, reply) })
	return err
}

// Deposit stores a new subject under a pseudonym drawn here.
func (n *Node) Deposit(ctx context.Context, req *api.Request, d *api.Deposit) (api.Deposited, error) {
	return n.subjectWrite(ctx, req, *d, true)
}

// Put creates or replaces the subject with a pseudonym the caller chose.
func (n *Node) Put(ctx context.Context, req *api.Request, id cloakroom.Pseudonym, d *api.Deposit) (api.Deposited, error) {
	item := *d
	item.ID, item.HasID = id, true
	return n.subjectWrite(ctx, req, item, false)
}

// DepositBatch stores many subjects, each whole or not at all. An item with an
// id is a Put, one without is a Deposit.
func (n *Node) DepositBatch(ctx context.Context, req *api.Request, items []api.Deposit, results []api.Deposited) error {
	return n.write(ctx, &write{req: req, action: policy.Deposit, creates: true, batch: true, items: items, results: results})
}

// Patch changes some fields of a subject that is there.
func (n *Node) Patch(ctx context.Context, req *api.Request, id cloakroom.Pseudonym, d *api.Deposit) (api.Deposited, error) {
	var result [1]api.Deposited
	item := *d
	item.ID, item.HasID = id, true
	err := n.write(ctx, &write{req: req, action: policy.Update, items: []api.Deposit{item}, results: result[:]})
	return result[0], err
}

// Erase removes a subject for good and returns the signed receipt.
func (n *Node) Erase(ctx context.Context, req *api.Request, id cloakroom.Pseudonym) ([]byte, error) {
	c := req.Caller.(*caller)
	entry := entryOf(req, c, policy.Erase)
	purpose, name := c.rules.purpose(req.Purpose)
	entry.Purpose, entry.Asked = name, 1
	if _, err := policy.Decide(&c.grant, &policy.Request{Action: policy.Erase, Purpose: purpose}, n.now().Unix()); err != nil {
		return nil, n.refused(ctx, entry, err)
	}
	if err := n.current(c.rules, 0); err != nil {
		return nil, n.refused(ctx, entry, err)
	}
	if _, err := n.openIndex(nil, req.Index); err != nil {
		return nil, n.refused(ctx, entry, err)
	}
	if err := n.intent(ctx, entry); err != nil {
		return nil, err
	}
	result, err := n.eraseForGood(ctx, req, c, id)
	if err := n.outcome(ctx, entry, err); err != nil {
		return nil, err
	}
	return n.receipt(id, result), nil
}

// refused records a request that a gate turned away and returns why it was.
func (n *Node) refused(ctx context.Context, entry audit.Entry, why error) error {
	entry.Outcome = outcomeOf(why)
	if err := n.audit.Write(ctx, &entry); err != nil {
		return err
	}
	return why
}

// intent records a write before anything is proposed.
func (n *Node) intent(ctx context.Context, entry audit.Entry) error {
	entry.Outcome = "intent"
	return n.audit.Write(ctx, &entry)
}

// outcome records how a write ended and returns err. When the record cannot be
// written the write has been done all the same: the intent stands in the log,
// and the caller hears outcome-unknown, because that is what the log can show.
func (n *Node) outcome(ctx context.Context, entry audit.Entry, err error) error {
	entry.Outcome = outcomeOf(err)
	if err == nil && entry.Missing == 0 {
		entry.Found = entry.Asked
	}
	// The write is done: the end of the caller's time is no reason to hide it.
	ctx = context.WithoutCancel(ctx)
	if failed := n.audit.Write(ctx, &entry); failed != nil && err == nil {
		return cloakroom.ErrOutcomeUnknown
	}
	return err
}
