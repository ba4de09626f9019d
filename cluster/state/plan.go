package state

import (
	"fmt"

	"cloakroom/cluster/command"
	"cloakroom/securemem"
)

// plan carries out one command in two steps, so that a want of memory shows
// before anything has changed: first every slot and all room in the index is
// taken, then entries are written, which can fail only if the index finds no
// way to place one (and then the machine stops).
type plan struct {
	changes []change
	clash   bool   // a field's token is a subject's, or the other way round
	record  []byte // scratch: the subject record after
}

// change is what happens to one token: a new record, or none.
type change struct {
	key    key
	record []byte // nil: remove
	mark   mark   // subject, for a subject record; carryOut adds padded
	expiry uint32 // of a living subject
	there  bool   // before
	ref    securemem.Ref
}

// begin looks the subject and all fields up. It returns the subject record.
func (p *plan) begin(m *Machine, c *command.Command) (before command.SubjectRecord, there bool) {
	p.clash = false
	p.changes = append(p.changes[:0], change{key: newKey(&c.Subject), mark: subject})
	for i := range c.Fields {
		p.changes = append(p.changes, change{key: newKey(&c.Fields[i].Token), record: c.Fields[i].Record})
	}
	for i := range p.changes {
		change := &p.changes[i]
		s, at, ok := m.index.find(&change.key)
		if !ok {
			continue
		}
		b := s.bucket(at.bucket)
		change.there = true
		p.clash = p.clash || b.mark(at.entry)&subject != change.mark
		if i == 0 && !p.clash {
			before, there = decodeSubject(slotRecord(m.slab.Bytes(b.ref(at.entry)), b.mark(at.entry))), true
		}
	}
	return before, there
}

// carryOut brings the subject record and the fields to what was decided.
func (p *plan) carryOut(m *Machine, d decision) error {
	head := &p.changes[0]
	if d.stays {
		p.record = d.after.Append(p.record[:0])
		head.record = p.record
	}
	if d.stays && !d.after.Erased {
		head.expiry = d.after.Expiry
	} else {
		for i := range p.changes[1:] {
			p.changes[1+i].record = nil
		}
	}
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
