package state

import (
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// plan carries out one command in two steps, so that a want of memory shows
// before anything has changed: first every slot and all room in the index is
// taken, then entries are written, which can fail only if the index finds no
// way to place one (and then the machine stops).
type plan struct {
	changes []change // of the subject, then of the fields, then of the links
	clash   bool     // a token is of another kind than the command says
	counts  counts   // what the changes do to the counters
	record  []byte   // scratch: the subject record after
	links   command.Links
	stored  []byte // scratch: what is put under the tokens of links
}

// change is what happens to one token: a new record, or none.
type change struct {
	key    key
	record []byte // nil: remove
	mark   mark   // subject, unless it is a field; carryOut adds padded
	expiry uint32 // of a living subject
	there  bool   // before
	ref    securemem.Ref
}

// counts are the counters of a machine, or what a command adds to them.
type counts struct {
	living int // subjects not erased
	erased int // erased marks
	linked int // handles and aliases
}

func (n *counts) add(more counts) {
	n.living += more.living
	n.erased += more.erased
	n.linked += more.linked
}

// begin looks the subject, all fields and all links up, and says what it found.
// The subject record found is good until carryOut.
func (p *plan) begin(m *Machine, c *command.Command) (b before) {
	p.clash, p.counts, p.stored = false, counts{}, p.stored[:0]
	p.changes = append(p.changes[:0], change{key: newKey(&c.Subject), mark: subject})
	for i := range c.Fields {
		p.changes = append(p.changes, change{key: newKey(&c.Fields[i].Token), record: c.Fields[i].Record})
	}
	for i := range c.Links {
		at := len(p.stored)
		p.stored = c.Links[i].AppendStored(p.stored)
		p.changes = append(p.changes, change{key: newKey(&c.Links[i].Token), record: p.stored[at:], mark: subject})
	}
	for i := range p.changes { // apart from making them, so that cache misses overlap
		change := &p.changes[i]
		s, at, ok := m.index.find(&change.key)
		if !ok {
			continue
		}
		change.there = true
		if i > len(c.Fields) {
			b.taken = true
			continue
		}
		bucket := s.bucket(at.bucket)
		kind := bucket.mark(at.entry)
		p.clash = p.clash || kind&subject != change.mark
		if i == 0 && !p.clash {
			p.meet(slotRecord(m.slab.Bytes(bucket.ref(at.entry)), kind), &b)
		}
	}
	return b
}

// meet takes what stands under the subject's token, which is no field's.
func (p *plan) meet(record []byte, b *before) {
	if p.clash = command.IsHandle(record); !p.clash {
		b.subject, b.there = decodeSubject(record), true
	}
}

// find returns the record under a token and its mark; the caller holds mu or
// turn.
func (m *Machine) find(k *key) ([]byte, mark, bool) {
	s, at, ok := m.index.find(k)
	if !ok {
		return nil, 0, false
	}
	b := s.bucket(at.bucket)
	kind := b.mark(at.entry)
	return slotRecord(m.slab.Bytes(b.ref(at.entry)), kind), kind, true
}

// carryOut brings the subject record, the fields and the links to what was
// decided.
func (p *plan) carryOut(m *Machine, c *command.Command, b *before, d *decision) error {
	p.settle(m, c, b, d)
	if err := p.prepare(m); err != nil {
		return err
	}
	for i := range p.changes {
		if err := p.changes[i].commit(m); err != nil {
			return err
		}
	}
	for i := range p.changes { // entries move: only when all are done
		if p.changes[i].record == nil && p.changes[i].there {
			m.index.shrink(&p.changes[i].key)
		}
	}
	return nil
}

// settle completes the changes by what was decided of the subject.
func (p *plan) settle(m *Machine, c *command.Command, b *before, d *decision) {
	m.note(c, b, d)
	lives := d.stays && !d.after.Erased
	if !lives || c.Kind == command.Expire {
		for i := range p.changes[1:] {
			p.changes[1+i].record = nil
		}
	}
	switch {
	case !lives:
		p.unlink(m, b.subject.Links, d)
	case len(c.Links) > 0:
		p.links = d.after.Links.AppendMerged(p.links[:0], c.Links)
		d.after.Links = p.links
		p.counts.linked += len(c.Links)
	}
	head := &p.changes[0]
	if d.stays {
		p.record = d.after.Append(p.record[:0])
		head.record = p.record
	}
	if lives {
		head.expiry = d.after.Expiry
		p.counts.living++
	} else if d.stays {
		p.counts.erased++
	}
	if b.there {
		p.counts.living-- // an erased mark stays as it is for good
	}
}

// unlink adds what happens to the links of a subject that is no more: handles
// go, and so do aliases, unless the subject was erased. Then each alias is an
// erased mark as well, in its own domain.
//
// A link whose token holds something else is left alone: no log makes one, a
// forged snapshot could, and must not make replicas panic.
func (p *plan) unlink(m *Machine, links command.Links, d *decision) {
	for i := range links.Len() {
		kind, token := links.At(i)
		link := change{key: newKey(&token), mark: subject, there: true}
		domain, ok := m.linked(&link.key, kind)
		if !ok {
			continue
		}
		p.counts.linked--
		if kind == command.Alias && d.stays {
			s := command.SubjectRecord{Version: d.after.Version, Domain: domain, Expiry: d.after.Expiry, Erased: true}
			at := len(p.stored)
			p.stored = s.Append(p.stored)
			link.record = p.stored[at:]
			p.counts.erased++
		}
		p.changes = append(p.changes, link)
	}
}

// linked reports whether what stands under the token of a link is of its kind,
// and the domain of an alias.
func (m *Machine) linked(k *key, kind command.LinkKind) (cloakroom.Domain, bool) {
	record, entry, ok := m.find(k)
	if !ok || entry&subject == 0 {
		return 0, false
	}
	if command.IsHandle(record) {
		return 0, kind == command.Handle
	}
	s := decodeSubject(record)
	return s.Domain, s.Alias && kind == command.Alias
}

// prepare takes all the memory the changes need, or none.
func (p *plan) prepare(m *Machine) error {
	fresh := 0
	for i := range p.changes {
		if p.changes[i].record != nil && !p.changes[i].there {
			fresh++
		}
	}
	for i := range p.changes {
		c := &p.changes[i]
		if c.record == nil && !c.there {
			continue
		}
		if err := c.prepare(m, fresh); err != nil {
			for j := range p.changes[:i+1] {
				if ref := p.changes[j].ref; ref != 0 {
					m.slab.Free(ref)
				}
			}
			return err
		}
	}
	return nil
}

func (c *change) prepare(m *Machine, fresh int) error {
	if c.record != nil {
		ref, slot, err := m.slab.Alloc(slotHead + len(c.record))
		if err != nil {
			return fmt.Errorf("store record: %w", err)
		}
		c.ref = ref
		c.mark |= fillSlot(slot, &c.key.token, c.record)
	}
	return m.index.reserve(&c.key, fresh)
}

// commit writes the change into the index.
func (c *change) commit(m *Machine) error {
	switch {
	case c.record == nil && !c.there:
		return nil
	case !c.there:
		return m.index.insert(&c.key, c.ref, c.mark, c.expiry)
	}
	s, at, ok := m.index.find(&c.key)
	if !ok {
		panic("state: an entry vanished")
	}
	b := s.bucket(at.bucket)
	m.free(b.ref(at.entry))
	if c.record == nil {
		m.index.remove(s, at, &c.key)
		return nil
	}
	b.set(at.entry, b.tag(at.entry), c.ref, c.mark)
	s.expires(c.expiry)
	return nil
}
