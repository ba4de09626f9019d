package node

import (
	"math"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/node/record"
	"cloakroom/securemem"
)

// sealItems turns every checked item into a command of sealed records. After
// it nothing of the request's values is needed any more.
func (n *Node) sealItems(w *write) error {
	if err := n.identify(w); err != nil {
		return err
	}
	sealed, fields := 0, 0
	for i := range w.items {
		w.drafts[i].now = n.timeOf(w.rules, w.drafts[i].shard)
		n.draft(w, i)
		w.keepOthers(i)
		sealed += w.drafts[i].bytes
		fields += cap(w.drafts[i].command.Fields)
	}
	memory := make([]byte, 0, sealed)
	var err error
	securemem.Do(func() {
		for i := range w.items {
			if memory, err = n.sealItem(w, i, memory); err != nil {
				return
			}
		}
	})
	return err
}

// timeOf returns how late it is for a deposit into a shard: what the clock here
// shows, or the shard's own if that is later. A clock that is behind would have
// values expire as soon as they come.
func (n *Node) timeOf(r *rules, shard cloakroom.ShardID) time.Time {
	late := n.cluster.ShardTime(shard)
	for i := 0; late == 0 && i < len(r.view.Shards); i++ { // no replica here: any other's
		late = n.cluster.ShardTime(r.view.Shards[i].ID)
	}
	now := n.now()
	if agreed := time.UnixMilli(int64(late)); agreed.After(now) {
		return agreed
	}
	return now
}

// draft fills in what of an item's command needs no key.
func (n *Node) draft(w *write, i int) {
	item, d := &w.items[i], &w.drafts[i]
	c := &d.command
	c.SchemaEpoch = w.rules.view.Schema.Epoch
	c.Kind, c.Flags = command.Put, 0
	switch {
	case w.action == policy.Update:
		c.Kind, c.Flags = command.Merge, command.HasExpected
		c.Expected, c.Expiry, c.Domain = w.base.Version, w.base.Expiry, w.base.Domain
	case w.person != nil:
		w.person.draft(c)
	case w.creates && !item.HasID:
		c.Flags = command.CreateOnly
	default:
		w.draftAlias(i)
	}
	if w.req.HasIfMatch {
		c.Flags |= command.HasExpected
		c.Expected = w.req.IfMatch
	}
	d.bytes = 0
	if c.Kind == command.Bind {
		d.bytes = linkBytes
	}
	for j := range item.Fields {
		v := &item.Fields[j]
		if v.Kind == api.Null {
			continue
		}
		expiry, fine := w.expiry(item, w.rules.field(v.Name), d.now)
		d.bytes += record.SealedSize(len(v.Value), expiry, fine)
	}
	if c.Kind != command.Merge {
		c.Expiry = w.subjectExpiry(item, d.now)
	}
}

// expiry says until when a value may be kept, in unix seconds: its ttl, or as
// long as the schema keeps the field, and in a PATCH no longer than the
// subject. Whole days are enough unless somebody asked for less.
func (w *write) expiry(item *api.Deposit, f *field, now time.Time) (at uint32, fine bool) {
	const days = 2 * 24 * time.Hour
	keep, asked := item.TTLOf(f.Name)
	if !asked {
		keep = f.MaxRetention
	}
	if keep > 0 {
		at, fine = unixAfter(now, keep), asked || keep < days
	}
	if bound := w.base.Expiry; bound != 0 && (at == 0 || bound < at) {
		at, fine = bound, true
	}
	return at, fine
}

// subjectExpiry is the latest expiry of the item's fields, 0 if one has none.
func (w *write) subjectExpiry(item *api.Deposit, now time.Time) uint32 {
	latest := uint32(0)
	for j := range item.Fields {
		at, _ := w.expiry(item, w.rules.field(item.Fields[j].Name), now)
		if at == 0 {
			return 0
		}
		latest = max(latest, at)
	}
	return latest
}

// keepOthers has a put by somebody whose grant does not cover every field leave
// the others their time: the subject lives as long as the last of its fields.
func (w *write) keepOthers(i int) {
	c := &w.drafts[i].command
	if c.Kind == command.Merge || c.Flags&command.CreateOnly != 0 {
		return
	}
	for _, number := range w.rules.declared {
		if !w.caller.grant.Fields.Has(number) {
			c.Flags |= command.LaterExpiry
			return
		}
	}
}

func unixAfter(now time.Time, d time.Duration) uint32 {
	return uint32(min(now.Add(d).Unix(), math.MaxUint32))
}

// sealItem seals the values of item i into memory and lists them, and the
// fields to remove, in its command.
func (n *Node) sealItem(w *write, i int, memory []byte) ([]byte, error) {
	item, d := &w.items[i], &w.drafts[i]
	c := &d.command
	subject, err := n.records.Token(cloakroom.SubjectField, d.id)
	if err != nil {
		return memory, err
	}
	c.Subject, c.Fields = subject, c.Fields[:0]
	var written policy.Fields
	for j := range item.Fields {
		v := &item.Fields[j]
		f := w.rules.field(v.Name)
		written.Add(f.Number)
		token, err := n.records.Token(f.Number, d.id)
		if err != nil {
			return memory, err
		}
		if v.Kind == api.Null {
			c.Fields = append(c.Fields, command.Field{Token: token})
			continue
		}
		expiry, fine := w.expiry(item, f, d.now)
		from := len(memory)
		memory, err = n.records.Seal(memory, token, f.Number, c.Domain, expiry, fine, v.Value)
		if err != nil {
			return memory, err
		}
		c.Fields = append(c.Fields, command.Field{Token: token, Record: memory[from:len(memory):len(memory)]})
	}
	if c.Kind != command.Merge && c.Flags&command.CreateOnly == 0 {
		if err := n.removeOthers(w.rules, d, written, w.caller.grant.Fields); err != nil {
			return memory, err
		}
	}
	if w.person != nil {
		if memory, err = n.sealLinks(w.person, c, memory); err != nil {
			return memory, err
		}
	}
	c.SortFields()
	return memory, nil
}

// removeOthers lists every declared field within the given ones that is not
// written. A put replaces what its grant covers of a subject; the rest is not
// its caller's to remove.
func (n *Node) removeOthers(r *rules, d *draft, written, within policy.Fields) error {
	for _, number := range r.declared {
		if written.Has(number) || !within.Has(number) {
			continue
		}
		token, err := n.records.Token(number, d.id)
		if err != nil {
			return err
		}
		d.command.Fields = append(d.command.Fields, command.Field{Token: token})
	}
	return nil
}
