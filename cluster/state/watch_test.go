package state

import (
	"slices"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// witness reads what it is told of, at once.
type witness struct {
	t       *testing.T
	machine *Machine
	got     []seen
}

// seen is what a witness was told and what it then read.
type seen struct {
	index   uint64
	changes []Change
	name    string
}

func (w *witness) Applied(index uint64, changes []Change) {
	if got := w.machine.Applied(); got != index {
		w.t.Errorf("told of entry %d when %d is applied", index, got)
	}
	var r command.Records
	w.machine.Read([]cloakroom.Token{name}, &r)
	w.got = append(w.got, seen{index, slices.Clone(changes), string(r.At(0))})
}

func (w *witness) Restored(uint64) {}

func TestWatcherIsToldWhatCanBeRead(t *testing.T) {
	w := &witness{t: t}
	m, err := New(Config{Slab: newSlab(t, 0), Watch: w})
	if err != nil {
		t.Fatal(err)
	}
	w.machine = m
	f := &fixture{Machine: m, t: t}
	b := bind(one, handle(handleH, "to ada"), alias(aliasA, 9, "to ada"))
	b.Domain, b.KeyTag = 4, keyTag
	f.do(b)
	f.do(b) // replayed: nothing changes
	f.do(command.Command{Kind: command.Time, Value: 1000})
	f.do(command.Command{Kind: command.Erase, Subject: aliasA}) // aliased: nothing changes
	p := put(two, field(name, "Ada"))
	p.Domain = 4
	q := put(one)
	q.Subject = bob
	f.all(p, q)
	f.do(command.Command{Kind: command.Erase, Subject: ada, Version: one, Fields: []command.Field{field(name, "")}})

	want := []seen{
		{1, []Change{{ada, 4, Created}, {aliasA, 9, Created}}, "ada"},
		{5, []Change{{ada, 4, Changed}, {aliasA, 9, Changed}, {bob, 0, Created}}, "Ada"},
		{6, []Change{{ada, 4, Erased}, {aliasA, 9, Erased}}, ""},
	}
	if !slices.EqualFunc(w.got, want, func(a, b seen) bool {
		return a.index == b.index && slices.Equal(a.changes, b.changes) && a.name == b.name
	}) {
		t.Errorf("told\n%v, want\n%v", w.got, want)
	}
}

// One huge entry does not keep its memory for changes.
func TestMemoryForChangesIsGivenBack(t *testing.T) {
	m, err := New(Config{Slab: newSlab(t, 0), Watch: new(recorder)})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Machine: m, t: t}
	commands := make([]command.Command, 2*keptChanges)
	r := seeded(t)
	for i := range commands {
		commands[i] = command.Command{Kind: command.Put, Subject: randomToken(r)}
	}
	f.all(commands...)
	if got := cap(m.changes); got > keptChanges {
		t.Errorf("room for %d changes is kept, want at most %d", got, keptChanges)
	}
	f.all(commands[:10]...)
	if got := cap(m.changes); got == 0 {
		t.Error("no room for changes is kept")
	}
}
