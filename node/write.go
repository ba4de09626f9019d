package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/securemem"
)

// write carries one deposit, of one subject or many, through its gates. It
// aliases the values in the guarded request only until they are sealed.
type write struct {
	req    *api.Request
	caller *caller
	rules  *rules
	action policy.Action
	key    idempotency
	base   command.SubjectRecord // PATCH: what the change builds on
	waits  []cloakroom.Index     // PATCH: the writes that it must build on

	baseTime uint64 // PATCH: of the shard when base was read, unix milliseconds

	items   []api.Deposit
	results []api.Deposited
	batch   bool // a fault names its item
	creates bool // POST: no item may replace a subject
	retry   bool // only what [write.pending] says is still to do

	person *person // of an upsert

	// mains are the pseudonyms that the subjects of those items were made with
	// whose id is an alias.
	mains map[int]found

	drafts []draft
	named  policy.Fields     // fields that some item names
	at     []cloakroom.Index // where the shards' histories stand after it, each shard once
}

// draft is one item on its way to a shard.
type draft struct {
	id      cloakroom.Pseudonym // its records are kept under
	answer  cloakroom.Pseudonym // the caller knows it by
	shard   cloakroom.ShardID
	command command.Command
	now     time.Time // that its expiries count from
	bytes   int       // of its sealed records
}

// subjectWrite is a write of one subject.
func (n *Node) subjectWrite(ctx context.Context, req *api.Request, item api.Deposit, creates bool) (api.Deposited, error) {
	var result [1]api.Deposited
	w := &write{req: req, action: policy.Deposit, creates: creates,
		items: []api.Deposit{item}, results: result[:]}
	if err := n.write(ctx, w); err != nil {
		return api.Deposited{}, err
	}
	return result[0], nil
}

// write takes items through authorize → seal → audit → propose → audit.
func (n *Node) write(ctx context.Context, w *write) error {
	w.caller = w.req.Caller.(*caller)
	w.rules = w.caller.rules
	entry := entryOf(w.req, w.caller, w.action)
	entry.Asked = len(w.items)
	err := n.authorizeWrite(w)
	if n.outdated(ctx, w.rules, err) {
		err = n.authorizeAnew(ctx, w)
	}
	if err != nil {
		return n.refused(ctx, entry, err)
	}
	if w.waits, err = n.openIndex(nil, w.req.Index); err != nil {
		return n.refused(ctx, entry, err)
	}
	_, entry.Purpose = w.rules.purpose(w.req.Purpose)
	entry.Fields = w.rules.names(w.named)
	if err := n.prepare(ctx, w); err != nil {
		return n.refused(ctx, entry, err)
	}
	if err := n.intent(ctx, entry); err != nil {
		return err
	}
	err = n.propose(ctx, w)
	for try := 0; try < writeRetries && w.again(err); try++ {
		err = n.proposeAgain(ctx, w, err)
	}
	if err != nil && w.batch && w.begun() {
		w.refuseRest(err)
		err = nil
	}
	if err == nil && w.action == policy.Update {
		err = n.confirmRemovals(ctx, w)
	}
	entry.Found = countDone(w.results)
	entry.Missing = len(w.items) - entry.Found
	n.answerIndex(w.req, w.at)
	return n.outcome(ctx, entry, err)
}

// writeRetries bounds how often a write starts again because the schema or,
// for a patch, the subject changed between its gate and its shard.
const writeRetries = 10

// again says whether err is a reason to start again: nothing was done, and
// the caller named no version.
func (w *write) again(err error) bool {
	return again(err) ||
		w.action == policy.Update && !w.req.HasIfMatch && errors.Is(err, cloakroom.ErrVersion)
}

// again says whether an item is to be proposed once more.
func again(err error) bool {
	return errors.Is(err, cloakroom.ErrStaleSchema) || errors.Is(err, errElsewhere)
}

// prepare reads what a write builds on, if anything, and seals.
func (n *Node) prepare(ctx context.Context, w *write) (err error) {
	switch {
	case w.person != nil:
		err = n.lookUp(ctx, w)
	case w.action == policy.Update:
		err = n.readBase(ctx, w)
	case w.retry:
		err = n.followAliases(ctx, w)
	}
	if err != nil {
		return err
	}
	return n.sealItems(w)
}

// begun says whether some item was done, or may have been.
func (w *write) begun() bool {
	return slices.ContainsFunc(w.results, func(r api.Deposited) bool {
		return r.Err == nil || errors.Is(r.Err, cloakroom.ErrOutcomeUnknown)
	})
}

// refuseRest answers the items that are still to do with err.
func (w *write) refuseRest(err error) {
	for i := range w.results {
		if w.pending(i) {
			w.results[i].Err = err
		}
	}
}

// pending says whether item i is to be proposed: in a retry only what met an old
// schema or an alias, since doing the others again would make subjects under
// pseudonyms that nobody is told, or undo a later change.
func (w *write) pending(i int) bool {
	return !w.retry || !w.batch || again(w.results[i].Err)
}

// proposeAgain takes what is still to do through the gates once more, under
// the newest rules: the grant is read anew with them, since its purposes and
// fields are numbered by its own schema.
func (n *Node) proposeAgain(ctx context.Context, w *write, why error) error {
	w.retry = true
	var err error
	if errors.Is(why, cloakroom.ErrStaleSchema) {
		err = n.authorizeAnew(ctx, w)
	} else {
		err = n.authorizeUnder(w, n.rulesNow())
	}
	if err != nil {
		return err
	}
	if err := n.prepare(ctx, w); err != nil {
		return err
	}
	return n.propose(ctx, w)
}

// authorizeAnew takes w through its gate under a schema newer than its own.
func (n *Node) authorizeAnew(ctx context.Context, w *write) error {
	n.awaitSchema(ctx, w.rules)
	return n.authorizeUnder(w, n.rulesNow())
}

func (n *Node) authorizeUnder(w *write, rules *rules) error {
	c, known := rules.callers[w.caller.credential]
	if !known {
		return cloakroom.ErrDenied // revoked since
	}
	w.caller, w.rules = c, rules
	return n.authorizeWrite(w)
}

func countDone(results []api.Deposited) int {
	done := 0
	for i := range results {
		if results[i].Err == nil {
			done++
		}
	}
	return done
}

// authorizeWrite decides on every item, and checks every value, before
// anything is sealed. All faults are reported at once.
func (n *Node) authorizeWrite(w *write) error {
	if err := n.current(w.rules, 0); err != nil {
		return err
	}
	w.drafts = grow(w.drafts, len(w.items))
	var faults cloakroom.Faults
	var err error
	securemem.Do(func() { faults, err = n.decideItems(w) })
	if err == nil && len(faults) > 0 {
		return slices.Clone(faults) // out of what Do erases
	}
	return err
}

func (n *Node) decideItems(w *write) (faults cloakroom.Faults, err error) {
	purpose, _ := w.rules.purpose(w.req.Purpose)
	now := n.now().Unix()
	for i := range w.items {
		domain, known := w.rules.domain(w.items[i].Domain)
		if !known {
			return nil, cloakroom.ErrDenied
		}
		var fields policy.Fields
		fields, faults = w.check(i, faults)
		for k, word := range fields {
			w.named[k] |= word
		}
		_, err := policy.Decide(&w.caller.grant, &policy.Request{
			Action: w.action, Fields: fields, Domain: domain, Purpose: purpose, Issuer: w.issuer(),
		}, now)
		if err != nil {
			return nil, err
		}
		w.drafts[i].command.Domain = domain
	}
	return faults, nil
}

// propose hands the commands to their shards, to all of them at once.
func (n *Node) propose(ctx context.Context, w *write) error {
	if !w.batch {
		at, err := n.proposeGroup(ctx, w, []int{0})
		w.reached(at)
		return err
	}
	order := make([]int, 0, len(w.drafts))
	for i := range w.drafts {
		if w.pending(i) {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return nil // what was still to do turned out to be refused
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(w.drafts[a].shard) - int(w.drafts[b].shard) })
	var wait sync.WaitGroup
	var errs [cloakroom.MaxShards]error
	var ends [cloakroom.MaxShards]cloakroom.Index
	groups := 0
	for len(order) > 0 {
		shard := w.drafts[order[0]].shard
		end := slices.IndexFunc(order, func(i int) bool { return w.drafts[i].shard != shard })
		if end < 0 {
			end = len(order)
		}
		group, at, failed := order[:end], &ends[groups], &errs[groups]
		wait.Go(func() { *at, *failed = n.proposeGroup(ctx, w, group) }) // ends with the shard's answer or ctx
		order, groups = order[end:], groups+1
	}
	wait.Wait()
	for _, at := range ends[:groups] {
		w.reached(at)
	}
	return batchError(errs[:groups])
}

// reached notes where a shard's history stands; a later try moves it on.
func (w *write) reached(at cloakroom.Index) {
	if at.Index == 0 {
		return // no answer, and the shard is not named either
	}
	for i := range w.at {
		if w.at[i].Shard == at.Shard {
			w.at[i] = at
			return
		}
	}
	w.at = append(w.at, at)
}

// batchError is what a batch as a whole is told. As soon as one shard did its
// part, or may have, every item tells its own end; a stale schema sends the
// whole batch through the gates again.
func batchError(errs []error) error {
	for _, err := range errs {
		if again(err) {
			return err
		}
	}
	for _, err := range errs {
		if err == nil || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			return nil
		}
	}
	return errs[0]
}

// proposeGroup proposes the items of one shard, fills in their results, and
// returns where the shard's history stands then. It returns an error when all
// of them share it.
func (n *Node) proposeGroup(ctx context.Context, w *write, group []int) (cloakroom.Index, error) {
	commands := make([]command.Command, len(group))
	for i, at := range group {
		commands[i] = w.drafts[at].command
	}
	results, end, err := n.cluster.Propose(ctx, w.drafts[group[0]].shard, commands)
	if err != nil {
		for _, at := range group {
			w.results[at] = api.Deposited{ID: w.drafts[at].answer, Err: err}
		}
		return end, err
	}
	var stale error
	for i, at := range group {
		w.settle(at, &commands[i], results[i])
		if again(w.results[at].Err) {
			stale = w.results[at].Err
		}
	}
	if !w.batch {
		return end, w.results[0].Err
	}
	return end, stale
}

// settle turns a shard's answer into the item's result.
func (w *write) settle(at int, c *command.Command, result command.Result) {
	out := api.Deposited{
		ID:      w.drafts[at].answer,
		Version: result.Version,
		Created: result.Code == command.Created || result.Code == command.Replayed && c.Flags&command.CreateOnly != 0,
		Err:     result.Err(c.Kind),
	}
	if result.Code == command.Exists && w.key.given && c.Flags&command.CreateOnly != 0 {
		// The id comes from the key: this is the caller's own earlier deposit,
		// changed since. It stands, and is not written again.
		out.Err = nil
	}
	switch {
	case w.person != nil:
		w.person.settle(c, result, &out)
	case result.Code == command.Aliased, result.Code == command.NotFound && c.Flags&command.ReplaceOnly != 0:
		out.Err = errElsewhere
	}
	w.results[at] = out
}
