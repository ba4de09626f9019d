package state

import "cloakroom"

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
	// Changed: values were put, merged or bound; also when the subject is new.
	Changed ChangeKind = 1
	// Erased: the subject was erased for good.
	Erased ChangeKind = 2
	// Expired: the subject was wiped after its expiry; readers hid it since.
	Expired ChangeKind = 3
)
