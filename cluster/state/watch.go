package state

import (
	"cloakroom"
	"cloakroom/cluster/command"
)

// Watcher is told what the entries of the log change, in their order. It is
// called by the goroutine that applies, once the change can be read, and must
// neither wait nor call Apply, Snapshot or Restore.
type Watcher interface {
	// Applied tells of an entry that changed something. The slice is used
	// again for the next entry.
	Applied(index uint64, changes []Change)
	// Restored tells that the state was replaced by that of a snapshot whose
	// last entry is index: what changed between is not known.
	Restored(index uint64)
}

// Change tells that a pseudonym's values changed. A subject with further
// pseudonyms has one Change for each beside its own.
type Change struct {
	Subject cloakroom.Token // of the subject or of an alias
	Domain  cloakroom.Domain
	Kind    ChangeKind
}

// ChangeKind says what happened to a subject.
type ChangeKind uint8

const (
	// Changed: values were put, merged or bound, and there were others before.
	Changed ChangeKind = 1
	// Erased: the subject was erased for good.
	Erased ChangeKind = 2
	// Expired: the subject was wiped after its expiry; readers hid it since.
	Expired ChangeKind = 3
	// Created: the pseudonym is new, nobody can have been told its values.
	Created ChangeKind = 4
)

// keptChanges is how much memory for changes is kept from one entry to the
// next, in changes of 20 bytes.
const keptChanges = 4096

// note remembers what a command is about to change until its entry is applied.
// It comes before the changes, which free the records it looks at.
func (m *Machine) note(c *command.Command, b *before, d *decision) {
	if m.watch == nil {
		return
	}
	change := Change{Subject: c.Subject, Domain: b.subject.Domain, Kind: Expired}
	switch {
	case d.stays && d.after.Erased:
		change.Kind = Erased
	case d.stays:
		if b.there && b.subject.Domain != d.after.Domain {
			m.changes = append(m.changes, change) // it had expired there
		}
		change.Domain, change.Kind = d.after.Domain, Changed
		if !b.there {
			change.Kind = Created
		}
	}
	m.changes = append(m.changes, change)
	for i := range b.subject.Links.Len() {
		if kind, token := b.subject.Links.At(i); kind == command.Alias {
			k := newKey(&token)
			if domain, ok := m.linked(&k, kind); ok {
				m.changes = append(m.changes, Change{Subject: token, Domain: domain, Kind: change.Kind})
			}
		}
	}
	for i := range c.Links {
		if l := &c.Links[i]; l.Kind == command.Alias {
			m.changes = append(m.changes, Change{Subject: l.Token, Domain: l.Domain, Kind: Created})
		}
	}
}

// tell hands the changes of an entry to the watcher; the caller holds turn.
func (m *Machine) tell(index uint64) {
	if len(m.changes) > 0 {
		m.watch.Applied(index, m.changes)
	}
	m.changes = m.changes[:0]
	if cap(m.changes) > keptChanges {
		m.changes = nil
	}
}
