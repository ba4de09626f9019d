package state

import (
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// maxSubjectBytes is what a subject with one 25-byte name may take, all in:
// what Redis takes for the same.
const maxSubjectBytes = 137

// TestMemoryOfASubject counts the chunks a shard has mapped, index and unused
// slots included.
func TestMemoryOfASubject(t *testing.T) {
	m := newMachine(t)
	r := seeded(t)
	for n := 50_000; n <= 300_000; n += 50_000 {
		fill(t, m, 50_000, r)
		s := m.Stats()
		perSubject := float64(s.Slab.Mapped) / float64(n)
		t.Logf("%d subjects: %.1f bytes each, index %.1f at load %.3f",
			n, perSubject, float64(s.IndexBytes)/float64(n), s.Load)
		if perSubject > maxSubjectBytes {
			t.Errorf("%d subjects: %.1f bytes each, want at most %d", n, perSubject, maxSubjectBytes)
		}
	}
}

// maxLinkedBytes is what a subject may take that has a handle and an alias
// beside its name. Each adds a link in the subject record (17), a slot
// (15 + 1 or 3 + a sealed pseudonym of 69) and an index entry.
const maxLinkedBytes = 360

func TestMemoryOfALinkedSubject(t *testing.T) {
	m := newMachine(t)
	r := seeded(t)
	for n := 50_000; n <= 150_000; n += 50_000 {
		fillLinked(t, m, 50_000, r)
		perSubject := float64(m.Stats().Slab.Mapped) / float64(n)
		t.Logf("%d subjects: %.1f bytes each", n, perSubject)
		if perSubject > maxLinkedBytes {
			t.Errorf("%d subjects: %.1f bytes each, want at most %d", n, perSubject, maxLinkedBytes)
		}
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	m := newMachine(t)
	r := seeded(t)
	names := fill(t, m, 20_000, r)
	var dst command.Records
	tokens := make([]cloakroom.Token, 0, 250)
	if n := testing.AllocsPerRun(200, func() {
		tokens = tokens[:0]
		for len(tokens) < 250 {
			if r.IntN(5) == 0 {
				tokens = append(tokens, randomToken(r)) // not there
			} else {
				tokens = append(tokens, names[r.IntN(len(names))])
			}
		}
		dst.Reset()
		m.Read(tokens, &dst)
	}); n > 0 {
		t.Errorf("a read allocates %v times, want 0", n)
	}
}

// Apply allocates nothing per command; the slab's tables and the index grow a
// little now and then.
func TestApplyHardlyAllocates(t *testing.T) {
	m := newMachine(t)
	r := seeded(t)
	names := fill(t, m, 20_000, r)
	commands := make([]command.Command, 100)
	for i := range commands {
		commands[i].Kind, commands[i].Fields = command.Put, make([]command.Field, 1)
	}
	var batch []byte
	results := make([]command.Result, 0, 100)
	index := m.Applied()
	if n := testing.AllocsPerRun(50, func() {
		for i := range commands {
			name := &names[r.IntN(len(names))]
			commands[i].Subject = randomToken(r)
			commands[i].Fields[0] = command.Field{Token: *name, Record: name[:]}
		}
		batch = command.AppendBatch(batch[:0], commands)
		index++
		if _, err := m.Apply(index, batch, results); err != nil {
			t.Fatal(err)
		}
	}); n > 10 {
		t.Errorf("an entry of 100 commands allocates %v times, want at most 10", n)
	}
}
