package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/policy"
)

// An erasure is acknowledged when three things are so: its shard has carried it
// out, the directory's ledger holds it (or a restore would bring the value
// back), and no replica answers from before it any more. The last two wait for
// each other's like, not for each other. What did not come about in time is
// cloakroom.ErrOutcomeUnknown: the value is gone from the shard, and asking
// again does the rest.

// eraseForGood carries the erasure of a subject to its end, and that of one
// which was erased before as well: what came of the first try's end nobody
// knows. The ledger names the subject's own token, or that of an alias whose
// mark is all that is left.
func (n *Node) eraseForGood(ctx context.Context, req *api.Request, c *caller, id cloakroom.Pseudonym) (command.Result, error) {
	done, err := n.proposeErase(ctx, req, c, id)
	if err != nil {
		return done.Result, err
	}
	err = n.confirmErasure(ctx, done.at, directory.Erasure{Subject: done.subject, At: int64(done.Expiry) * 1000})
	if err == nil {
		n.answerIndex(req, []cloakroom.Index{done.at})
	}
	return done.Result, err
}

// confirmRemovals does the same for the fields that a patch set to null, if
// any. It counts a retry of the patch too.
func (n *Node) confirmRemovals(ctx context.Context, w *write) error {
	var removed policy.Fields
	for i := range w.items[0].Fields {
		if v := &w.items[0].Fields[i]; v.Kind == api.Null {
			removed.Add(w.rules.field(v.Name).Number)
		}
	}
	if removed == noFields || len(w.at) == 0 {
		return nil
	}
	erasure := directory.Erasure{Subject: w.drafts[0].command.Subject, At: int64(w.baseTime)}
	for _, number := range w.rules.declared {
		if removed.Has(number) {
			erasure.Fields = append(erasure.Fields, number)
		}
	}
	return n.confirmErasure(ctx, w.at[0], erasure)
}

// confirmErasure enters an erasure that its shard carried out at that index in
// the ledger, and waits until nothing answers from before.
func (n *Node) confirmErasure(ctx context.Context, at cloakroom.Index, e directory.Erasure) error {
	e.Shard, e.Generation, e.Index = at.Shard, at.Generation, at.Index
	var entered error
	var ledger sync.WaitGroup
	ledger.Go(func() { entered = n.cluster.RecordErasure(ctx, e) }) // ends with the directory's answer or ctx
	settled := n.cluster.Settle(ctx, at)
	ledger.Wait()
	if err := errors.Join(entered, settled); err != nil {
		n.cfg.Logger.Warn("erasure not confirmed", "shard", at.Shard, "error", err)
		return fmt.Errorf("%w: erased, not confirmed: %v", cloakroom.ErrOutcomeUnknown, err) // whatever err is: it was done
	}
	return nil
}
