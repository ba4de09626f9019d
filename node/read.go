package node

import (
	"context"
	"slices"
	"sync"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/policy"
	"cloakroom/node/record"
)

// read is the working memory of one read. It holds pseudonyms, tokens and
// sealed records, never a value, and is used again for the next request, so
// that a read allocates nothing per pseudonym.
type read struct {
	caller *caller
	entry  audit.Entry
	fields []*field // asked for and granted
	names  []string // of fields, for the audit entry
	form   policy.Form
	waits  []cloakroom.Index // the writes that must be seen

	ids     []cloakroom.Pseudonym
	columns int // tokens per id: one per field, and the subject's own for a single read
	slots   []cloakroom.Slot
	order   []uint16 // position in shard order → position in ids
	tokens  []cloakroom.Token
	column  []cloakroom.Token // tokens of one field, in the order of ids
	at      []uint16          // position in ids → position in shard order
	bounds  [cloakroom.MaxShards + 1]uint16
	parts   []cluster.Part
	records command.Records
	states  []idState
	found   int
	openers []*record.Opener // by field
	single  [1]cloakroom.Pseudonym

	second *read // for the few ids that have none of the fields: are they there?
	behind *read // for those of them that are aliases: what the subjects have
	alias  aliases
	asked  []uint16 // of a second read: position among its ids → position in the request
}

// idState is what routing found out about one id.
type idState uint8

const (
	absent      idState = iota // nothing the caller may know of
	present                    // at least one record to open
	bare                       // the subject is there, without the fields
	late                       // as present, but the records are those of [read.second]
	aliased                    // as present, but the records are those of [read.behind]
	unreachable                // its shard could not answer in time
)

// reads lends out working memory.
type reads struct{ pool sync.Pool }

func (p *reads) get() *read {
	if r, _ := p.pool.Get().(*read); r != nil {
		return r
	}
	return &read{second: &read{}, behind: &read{alias: aliases{every: true}}}
}

func (p *reads) put(r *read) {
	r.caller, r.entry = nil, audit.Entry{}
	for _, b := range []*read{r.second, r.behind} {
		b.caller, b.waits, b.fields, b.openers = nil, nil, nil, nil
	}
	r.closeOpeners()
	p.pool.Put(r)
}

func (r *read) closeOpeners() {
	for _, o := range r.openers {
		o.Close()
	}
	r.openers = r.openers[:0]
}

// authorizeRead decides on the request alone what of it may be answered.
func (n *Node) authorizeRead(ctx context.Context, r *read, req *api.Request, q *api.Query, action policy.Action) error {
	r.caller = req.Caller.(*caller)
	err := n.decideRead(r, req, q, action)
	if n.outdated(ctx, r.caller.rules, err) {
		if r.caller, err = n.callerAnew(ctx, r.caller); err == nil {
			err = n.decideRead(r, req, q, action)
		}
	}
	if err != nil {
		return n.refused(ctx, r.entry, err)
	}
	return nil
}

// readAnew takes a read that met a newer schema through its gate once more.
func (n *Node) readAnew(ctx context.Context, r *read, req *api.Request, q *api.Query, action policy.Action) (err error) {
	if r.caller, err = n.callerAnew(ctx, r.caller); err == nil {
		err = n.decideRead(r, req, q, action)
	}
	return err
}

// decideRead is the gate of a read under the rules of its caller.
func (n *Node) decideRead(r *read, req *api.Request, q *api.Query, action policy.Action) error {
	c := r.caller
	r.entry = entryOf(req, c, action)
	var want policy.Fields
	for _, name := range q.Fields {
		f := c.rules.field(name)
		if f == nil {
			return cloakroom.Faults{{Item: -1, Reason: reasonUnknownField}}
		}
		want.Add(f.Number)
	}
	if len(q.Fields) == 0 {
		want = policy.NewFields(c.rules.live...)
	}
	form, known := policy.ParseForm(q.Form)
	if !known {
		return cloakroom.ErrDenied
	}
	purpose, purposeName := c.rules.purpose(req.Purpose)
	r.entry.Purpose = purposeName
	decision, err := policy.Decide(&c.grant, &policy.Request{
		Action: action, Fields: want, Form: form, Purpose: purpose,
	}, n.now().Unix())
	if err == nil && decision.Form < policy.Masked {
		err = cloakroom.ErrDenied // granted, but only masks and values can be shown yet
	}
	if err != nil {
		return err
	}
	r.form = decision.Form
	r.fields, r.names = r.fields[:0], r.names[:0]
	r.closeOpeners()
	for _, number := range c.rules.live {
		if decision.Fields.Has(number) {
			r.fields = append(r.fields, c.rules.fields[number])
			r.names = append(r.names, c.rules.fields[number].Name)
			r.openers = append(r.openers, n.records.Opener(number))
		}
	}
	r.entry.Fields, r.entry.Form = r.names, r.form.String()
	r.waits, err = n.openIndex(r.waits[:0], req.Index)
	return err
}

// route turns ids into tokens, sorts them by shard, and copies the sealed
// records out of every shard. withSubject also fetches the subject records. It
// returns [cloakroom.ErrStaleSchema] if a shard knows a newer schema than the
// read was authorized by.
func (n *Node) route(ctx context.Context, r *read, req *api.Request, ids []cloakroom.Pseudonym, withSubject bool) error {
	r.ids = ids
	r.columns = len(r.fields)
	if withSubject {
		r.columns++
	}
	if err := n.place(r); err != nil {
		return err
	}
	if err := n.fetch(ctx, r, req); err != nil {
		return err
	}
	if r.records.Schema > r.caller.rules.view.Schema.Epoch {
		return cloakroom.ErrStaleSchema // some of the fields may have retired
	}
	if withSubject {
		return n.judgeSubject(ctx, r, req)
	}
	n.judge(r)
	return n.lookForBare(ctx, r, req)
}

// place computes slots and tokens and lays the tokens out shard by shard: all
// fields of an id side by side, so that one read lock covers them.
func (n *Node) place(r *read) error {
	size := len(r.ids)
	r.slots = grow(r.slots, size)
	r.order, r.at = grow(r.order, size), grow(r.at, size)
	r.column = grow(r.column, size)
	r.tokens = grow(r.tokens, size*r.columns)
	n.records.Slots(r.ids, r.slots)
	r.sortByShard(r.caller.rules)
	for c := range r.columns {
		number := cloakroom.SubjectField
		if c < len(r.fields) {
			number = r.fields[c].Number
		}
		if err := n.records.Tokens(number, r.ids, r.column); err != nil {
			return err
		}
		for i, token := range r.column {
			r.tokens[int(r.at[i])*r.columns+c] = token
		}
	}
	return nil
}

// sortByShard is a counting sort of the ids by the shard that owns them.
func (r *read) sortByShard(rules *rules) {
	shards := len(rules.view.Shards)
	clear(r.bounds[:shards+1])
	for _, slot := range r.slots {
		r.bounds[rules.view.ShardOf(slot)+1]++
	}
	for s := range shards {
		r.bounds[s+1] += r.bounds[s]
	}
	next := r.bounds
	for i, slot := range r.slots {
		shard := rules.view.ShardOf(slot)
		r.order[next[shard]], r.at[i] = uint16(i), next[shard]
		next[shard]++
	}
}

// fetch reads from all shards at once. Ids of a shard that cannot answer are
// unreachable; only when no shard could is that an error.
func (n *Node) fetch(ctx context.Context, r *read, req *api.Request) error {
	r.states = grow(r.states, len(r.ids))
	clear(r.states)
	r.records.Reset()
	spans := r.records.Extend(len(r.tokens))
	r.parts = r.parts[:0]
	for s := range r.caller.rules.view.Shards {
		from, to := int(r.bounds[s])*r.columns, int(r.bounds[s+1])*r.columns
		if from < to {
			wait := indexOf(r.waits, cloakroom.ShardID(s))
			r.parts = append(r.parts, cluster.Part{Shard: cloakroom.ShardID(s),
				Index: wait.Index, Generation: wait.Generation, Tokens: r.tokens[from:to], Spans: spans[from:to]})
		}
	}
	looked := n.cluster.ReadParts(ctx, req.Level, r.parts, &r.records)
	if err := n.current(r.caller.rules, looked); err != nil {
		return err
	}
	failed := 0
	for i := range r.parts {
		if p := &r.parts[i]; p.Err != nil {
			failed++
			for _, at := range r.order[r.bounds[p.Shard]:r.bounds[p.Shard+1]] {
				r.states[at] = unreachable
			}
		}
	}
	if failed > 0 && failed == len(r.parts) {
		return r.parts[0].Err
	}
	return nil
}

// judge finds out which ids have something the caller may be told. What may
// not be told is dropped here, so that what is left can be opened.
func (n *Node) judge(r *read) {
	r.found = 0
	for i := range r.ids {
		if r.states[i] == unreachable {
			continue
		}
		if r.dropHidden(i) > 0 {
			r.states[i] = present
			r.found++
		}
	}
}

// dropHidden drops the field records of id i that the caller may not be told,
// and returns how many are left.
func (r *read) dropHidden(i int) (left int) {
	first := int(r.at[i]) * r.columns
	for k := first; k < first+len(r.fields); k++ {
		rec := r.records.At(k)
		switch {
		case rec == nil:
		case r.visible(rec):
			left++
		default:
			r.records.Spans[k] = command.Span{}
		}
	}
	return left
}

// record returns the sealed record of field c of id i, nil if there is none.
func (r *read) record(i, c int) []byte {
	return r.records.At(int(r.at[i])*r.columns + c)
}

// token returns the token of field c of id i.
func (r *read) token(i, c int) *cloakroom.Token {
	return &r.tokens[int(r.at[i])*r.columns+c]
}

// visible says whether a field record has not expired by shard time and
// belongs to a domain of the grant. What stands in its header is proven only
// when it is opened.
func (r *read) visible(rec []byte) bool {
	header, err := record.ParseHeader(rec)
	if err != nil {
		return true // let opening it fail loudly
	}
	return !expired(header.Expiry, r.records.Time) && r.covers(header.Domain)
}

// expired says whether an expiry in unix seconds has passed at the time now,
// in unix milliseconds.
func expired(expiry uint32, now uint64) bool {
	return expiry != 0 && uint64(expiry)*1000 <= now
}

// judgeSubject is judge for a single read, where the subject record is the
// last column and says whether there is anything at all.
func (n *Node) judgeSubject(ctx context.Context, r *read, req *api.Request) error {
	r.found = 0
	if r.states[0] == unreachable {
		return nil
	}
	r.dropHidden(0)
	s, there := r.subject(0, r.columns-1)
	if there && s.Alias {
		r.alias.begin()
		r.alias.add(0, r.token(0, r.columns-1), s.Sealed)
		return n.readBehind(ctx, r, req)
	}
	if there {
		r.states[0] = present
		r.found = 1
	}
	return nil
}

// subject returns the subject record of id i in column c, which may be an
// alias's, if the caller may know of the subject.
func (r *read) subject(i, c int) (command.SubjectRecord, bool) {
	rec := r.record(i, c)
	if rec == nil {
		return command.SubjectRecord{}, false
	}
	s, err := command.DecodeSubject(rec)
	if err != nil || s.Erased || expired(s.Expiry, r.records.Time) || !r.covers(s.Domain) {
		return command.SubjectRecord{}, false
	}
	return s, true
}

// lookForBare asks for the subject records of the ids that have none of the
// fields: a subject without them is {} in the answer, not missing, and an alias
// has none itself. It asks for the fields once more: a subject that was made
// between the two reads has them by now, and never was without.
func (n *Node) lookForBare(ctx context.Context, r *read, req *api.Request) error {
	b := r.second
	b.ids, b.asked = b.ids[:0], b.asked[:0]
	for i, id := range r.ids {
		if r.states[i] == absent {
			b.ids, b.asked = append(b.ids, id), append(b.asked, uint16(i))
		}
	}
	if len(b.ids) == 0 {
		return nil
	}
	b.sharing(r)
	if err := n.place(b); err != nil {
		return err
	}
	if err := n.fetch(ctx, b, req); err != nil && len(b.ids) == len(r.ids) {
		return err // none could be answered; otherwise these alone are unreachable
	}
	r.alias.begin()
	for j, i := range b.asked {
		if b.states[j] == unreachable {
			r.states[i] = unreachable
		} else if s, there := b.subject(j, b.columns-1); there && s.Alias {
			r.alias.add(int(i), b.token(j, b.columns-1), s.Sealed)
		} else if there {
			if r.states[i] = late; b.dropHidden(j) == 0 {
				r.states[i] = bare
			}
			r.found++
		}
	}
	return n.readBehind(ctx, r, req)
}

// sharing makes b a further read of the same request: of the same fields, and
// of the subject records.
func (b *read) sharing(r *read) {
	b.caller, b.waits, b.fields, b.openers, b.form = r.caller, r.waits, r.fields, r.openers, r.form
	b.columns = len(b.fields) + 1
}

// position returns where the id in position i of the request is among those of
// this second read.
func (b *read) position(i int) int {
	j, _ := slices.BinarySearch(b.asked, uint16(i))
	return j
}

// grow returns s with length n, its content undefined.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
