package state

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Tokens of links, for tests by hand.
var handleH, aliasA, aliasB = cloakroom.Token{0x41}, cloakroom.Token{0x51}, cloakroom.Token{0x52}

func handle(token cloakroom.Token, record string) command.Link {
	return command.Link{Kind: command.Handle, Token: token, Record: []byte(record)}
}

func alias(token cloakroom.Token, domain cloakroom.Domain, record string) command.Link {
	return command.Link{Kind: command.Alias, Domain: domain, Token: token, Record: []byte(record)}
}

// bind makes or replaces ada, with a name.
func bind(version cloakroom.Version, links ...command.Link) command.Command {
	return command.Command{Kind: command.Bind, Subject: ada, Version: version, Links: links,
		Fields: []command.Field{field(name, "ada")}}
}

// bindAda makes ada with a handle and an alias in domain 9.
func bindAda(f *fixture) {
	f.t.Helper()
	b := bind(one, handle(handleH, "to ada"), alias(aliasA, 9, "to ada"))
	if got := f.do(b); got.Code != command.Created {
		f.t.Fatalf("bind = %+v", got)
	}
}

func (f *fixture) kinds(token cloakroom.Token) (kinds []command.LinkKind) {
	s, _ := f.Subject(token)
	for i := range s.Links.Len() {
		kind, _ := s.Links.At(i)
		kinds = append(kinds, kind)
	}
	return kinds
}

func TestLinksAreThereAndStay(t *testing.T) {
	f := newFixture(t)
	bindAda(f)
	for step, c := range []command.Command{
		{Kind: command.Time, Value: 5000},
		put(two, field(name, "Ada")),
		{Kind: command.Merge, Subject: ada, Version: one},
		bind(two, alias(aliasB, 8, "to ada, too")),
	} {
		if code := f.do(c).Code; code != command.Done && code != command.Replaced && code != command.Merged {
			t.Errorf("step %d: %s", step, code)
		}
		if got, err := command.DecodeHandle([]byte(f.record(handleH))); err != nil || string(got) != "to ada" {
			t.Errorf("step %d: handle %q, %v", step, got, err)
		}
		want := command.SubjectRecord{Alias: true, Domain: 9, Sealed: []byte("to ada")}
		if got, ok := f.Subject(aliasA); !ok || !got.Equal(&want) {
			t.Errorf("step %d: alias %+v, %t, want %+v", step, got, ok, want)
		}
		if _, ok := f.Subject(handleH); ok {
			t.Errorf("step %d: a handle passes for a subject", step)
		}
	}
	if got := f.kinds(ada); !slices.Equal(got, []command.LinkKind{command.Handle, command.Alias, command.Alias}) {
		t.Errorf("links = %v, want a handle and two aliases", got)
	}
	if s := f.Stats(); s.Subjects != 1 || s.Linked != 3 || s.Records != 5 || s.Erased != 0 {
		t.Errorf("stats %+v, want 1 subject, 3 links, 5 records", s)
	}
}

// Whoever erases lists fields, not links: the node may not know of them.
func TestEraseTakesHandlesAndMarksAliases(t *testing.T) {
	f := newFixture(t)
	f.do(command.Command{Kind: command.Time, Value: 7_000_000})
	bindAda(f)
	erase := command.Command{Kind: command.Erase, Subject: ada, Version: two, KeyTag: keyTag,
		Fields: []command.Field{field(name, "")}}
	wantCode(t, f.do(erase), command.Erased)
	if f.record(handleH) != "" || f.record(name) != "" {
		t.Error("handle or name outlived the subject")
	}
	if s := f.Stats(); s.Subjects != 0 || s.Erased != 2 || s.Linked != 0 || s.Records != 2 {
		t.Errorf("stats %+v, want two marks", s)
	}
	erase.Subject = aliasA
	want := command.Result{Code: command.AlreadyErased, Version: two, Expiry: 7000, Domain: 9}
	if got := f.do(erase); got != want {
		t.Errorf("erase of the alias = %+v, want that of the subject in the alias' domain: %+v", got, want)
	}
	again := put(one)
	again.Subject = aliasA
	wantCode(t, f.do(again), command.Erased)

	// The handle is free for who comes next; the alias is not.
	b := bind(one, handle(handleH, "to bob"))
	b.Subject, b.Fields = bob, nil
	wantCode(t, f.do(b), command.Created)
	b = bind(two, alias(aliasA, 9, "to bob"))
	b.Subject, b.Fields = bob, nil
	wantCode(t, f.do(b), command.Bound)
}

func TestExpireTakesLinksAndLeavesNoMark(t *testing.T) {
	f := newFixture(t)
	b := bind(one, handle(handleH, "to ada"), alias(aliasA, 9, "to ada"))
	b.Expiry = 100
	f.do(b)
	f.do(command.Command{Kind: command.Time, Value: 100_000})
	expire := command.Command{Kind: command.Expire, Subject: ada, Expiry: 100, Fields: []command.Field{field(name, "")}}
	wantCode(t, f.do(expire), command.Done)
	if s := f.Stats(); s.Records != 0 || s.Linked != 0 {
		t.Errorf("stats %+v, want nothing left", s)
	}
	bindAda(f) // all tokens are free
}

// A subject that expired and was not wiped comes back with its links: they
// would be nobody's otherwise.
func TestRevivedSubjectKeepsItsLinks(t *testing.T) {
	f := newFixture(t)
	b := bind(one, handle(handleH, "to ada"))
	b.Expiry = 100
	f.do(b)
	f.do(command.Command{Kind: command.Time, Value: 100_000})
	b = bind(two, alias(aliasA, 9, "to ada"))
	b.Flags = command.CreateOnly
	wantCode(t, f.do(b), command.Exists)
	b.Flags = command.HasExpected
	b.Expected = one
	wantCode(t, f.do(b), command.VersionMismatch)
	b.Flags = 0
	b.Domain++ // the handle says of which domain the subject is
	wantCode(t, f.do(b), command.Exists)
	b.Domain--
	wantCode(t, f.do(b), command.Created)
	if got := f.kinds(ada); len(got) != 2 {
		t.Errorf("links = %v, want the old one and the new one", got)
	}
	wantCode(t, f.do(command.Command{Kind: command.Expire, Subject: ada, Expiry: 100}), command.VersionMismatch)
}

func TestBindOntoAnErasedSubject(t *testing.T) {
	f := newFixture(t)
	f.do(put(one))
	f.do(command.Command{Kind: command.Erase, Subject: ada, Version: two})
	wantCode(t, f.do(bind(one, handle(handleH, "to ada"))), command.Erased)
	if f.record(handleH) != "" {
		t.Error("an erased subject got a handle")
	}
}

// Bound means that nothing changed, not even what the free links brought.
func TestBoundChangesNothing(t *testing.T) {
	for what, taken := range map[string]cloakroom.Token{
		"another's handle": handleH, "another's alias": aliasA, "a subject": bob, "a field": mail,
		"an erased mark": {0xe0}, "a field of its own": name,
	} {
		f := newFixture(t)
		b := bind(one, handle(handleH, "to bob"), alias(aliasA, 9, "to bob"))
		b.Subject, b.Fields = bob, []command.Field{field(mail, "b@b")}
		f.do(b)
		f.do(put(one, field(name, "ada")))
		gone := put(one)
		gone.Subject = cloakroom.Token{0xe0}
		f.do(gone)
		gone.Kind = command.Erase
		f.do(gone)
		before := streamOf(t, f.Machine)
		b = bind(two, handle(cloakroom.Token{0x42}, "free"), handle(taken, "taken"))
		b.Fields = nil
		if got, want := f.do(b), (command.Result{Code: command.Bound, Version: one}); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
		if after := streamOf(t, f.Machine); !bytes.Equal(records(before), records(after)) {
			t.Errorf("%s: a bind that was refused changed something", what)
		}
	}
}

// records returns the records of a stream, without what every entry changes.
func records(stream []byte) []byte { return stream[headerBytes-24 : len(stream)-32] }

func TestRetriedBindIsReplayedThoughItsLinksAreTaken(t *testing.T) {
	f := newFixture(t)
	b := bind(one, handle(handleH, "to ada"))
	b.Flags, b.KeyTag = command.CreateOnly, keyTag
	wantCode(t, f.do(b), command.Created)
	wantCode(t, f.do(b), command.Replayed)
	p := put(one, field(name, "ada")) // the retry found the handle and puts
	p.KeyTag = keyTag
	wantCode(t, f.do(p), command.Replayed)
	b.Version = two
	wantCode(t, f.do(b), command.TagConflict)
	b.KeyTag, b.Flags = command.KeyTag{}, 0
	wantCode(t, f.do(b), command.Bound)
	b.Flags = command.CreateOnly
	wantCode(t, f.do(b), command.Exists)
}

// Two nodes make the same new person: one of them wins.
func TestTwoBindsOfOneHandleInOneEntry(t *testing.T) {
	f := newFixture(t)
	first, second := bind(one, handle(handleH, "to ada")), bind(one, handle(handleH, "to bob"))
	first.Flags, second.Flags = command.CreateOnly, command.CreateOnly
	second.Subject, second.Fields = bob, []command.Field{field(mail, "bob")}
	got := f.all(first, second)
	wantCode(t, got[0], command.Created)
	wantCode(t, got[1], command.Bound)
	if _, ok := f.Subject(bob); ok || f.record(mail) != "" {
		t.Error("half of the second person is there")
	}
}

func TestAliasIsNoSubject(t *testing.T) {
	f := newFixture(t)
	bindAda(f)
	before := streamOf(t, f.Machine)
	for kind := command.Put; kind <= command.Expire; kind++ {
		c := command.Command{Kind: kind, Subject: aliasA, Version: two, KeyTag: keyTag, Fields: []command.Field{field(mail, "")}}
		if got, want := f.do(c), (command.Result{Code: command.Aliased, Domain: 9}); got != want {
			t.Errorf("%s onto an alias = %+v, want %+v", kind, got, want)
		}
	}
	b := bind(two, handle(cloakroom.Token{0x42}, "x"))
	b.Subject = aliasA
	wantCode(t, f.do(b), command.Aliased)
	if !bytes.Equal(records(before), records(streamOf(t, f.Machine))) {
		t.Error("a command onto an alias changed something")
	}
}

// What stands under a link goes with its subject only: no field and no subject
// is put in its place, so a link cannot come to mean another's record.
func TestLinksAreNotOverwritten(t *testing.T) {
	f := newFixture(t)
	bindAda(f)
	before := streamOf(t, f.Machine)
	for _, token := range []cloakroom.Token{handleH, aliasA} {
		for _, record := range []string{"", "x"} {
			for _, subject := range []cloakroom.Token{ada, bob} {
				for _, kind := range []command.Kind{command.Put, command.Merge, command.Erase, command.Expire} {
					c := command.Command{Kind: kind, Subject: subject, Version: two,
						Fields: []command.Field{field(token, record)}}
					wantCode(t, f.do(c), command.Malformed)
				}
			}
		}
	}
	c := put(two)
	c.Subject = handleH
	wantCode(t, f.do(c), command.Malformed)
	if !bytes.Equal(records(before), records(streamOf(t, f.Machine))) {
		t.Error("something changed")
	}
}

func TestTooManyLinks(t *testing.T) {
	f := newFixture(t)
	for n := range command.MaxLinks / 16 {
		var links []command.Link
		for i := range 16 { // every second alias in another command's range, so that merging is needed
			links = append(links, alias(cloakroom.Token{0x60, byte(i), byte(n)}, cloakroom.Domain(i), "to ada"))
		}
		if got := f.do(bind(one, links...)); got.Code != command.Created && got.Code != command.Replaced {
			t.Fatalf("bind %d = %+v", n, got)
		}
	}
	before := streamOf(t, f.Machine)
	wantCode(t, f.do(bind(two, handle(handleH, "one more"))), command.TooManyLinks)
	if !bytes.Equal(records(before), records(streamOf(t, f.Machine))) {
		t.Error("a bind that was refused changed something")
	}
	if s, ok := f.Subject(ada); !ok || s.Links.Len() != command.MaxLinks || s.Size() > command.MaxSubjectRecord {
		t.Errorf("%d links, %d bytes, want %d and at most %d", s.Links.Len(), s.Size(), command.MaxLinks, command.MaxSubjectRecord)
	}
	other := newMachine(t)
	if err := other.Restore(bytes.NewReader(before)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.do(command.Command{Kind: command.Erase, Subject: ada, Version: two}), command.Erased)
	if s := f.Stats(); s.Erased != 1+command.MaxLinks || s.Linked != 0 {
		t.Errorf("%d marks, want one for each pseudonym", s.Erased)
	}
}

// What an old or a faulty proposer sends is refused by every replica alike, and
// its neighbours in the batch are not.
func TestMalformedLinksAreRefused(t *testing.T) {
	long := strings.Repeat("x", command.MaxLinkRecordBytes+1)
	many := make([]command.Link, command.MaxLinks+1)
	for i := range many {
		many[i] = handle(cloakroom.Token{0x60, byte(i)}, "x")
	}
	unbound := put(one)
	unbound.Links = []command.Link{handle(handleH, "x")}
	for what, c := range map[string]command.Command{
		"none":                   bind(one),
		"too many":               bind(one, many...),
		"of a put":               unbound,
		"its own subject":        bind(one, handle(ada, "x")),
		"a field of the command": bind(one, handle(name, "x")),
		"twice":                  bind(one, handle(handleH, "x"), alias(handleH, 1, "x")),
		"no record":              bind(one, handle(handleH, "")),
		"a long record":          bind(one, handle(handleH, long)),
		"of kind 0":              bind(one, command.Link{Token: handleH, Record: []byte("x")}),
		"of kind 3":              bind(one, command.Link{Kind: 3, Token: handleH, Record: []byte("x")}),
		"a handle with a domain": bind(one, command.Link{Kind: command.Handle, Domain: 1, Token: handleH, Record: []byte("x")}),
	} {
		f := newFixture(t)
		p := put(one)
		p.Subject = bob
		got := f.all(c, p)
		if got[0].Code != command.Malformed || got[1].Code != command.Created {
			t.Errorf("%s: %s, then %s, want malformed, created", what, got[0].Code, got[1].Code)
		}
		if s := f.Stats(); s.Records != 1 {
			t.Errorf("%s: %d records, want one", what, s.Records)
		}
	}
}

// A bind that finds no memory has changed nothing, and nobody is told of it.
func TestFullMemoryStopsBeforeABind(t *testing.T) {
	var watch recorder
	m, err := New(Config{Slab: newSlab(t, 4<<20), Watch: &watch})
	if err != nil {
		t.Fatal(err)
	}
	r := seeded(t)
	record := strings.Repeat("x", command.MaxLinkRecordBytes)
	for index := uint64(1); ; index++ {
		c := command.Command{Kind: command.Bind, Subject: randomToken(r),
			Fields: []command.Field{{Token: randomToken(r), Record: make([]byte, 2000)}}}
		for range 20 {
			c.Links = append(c.Links, handle(randomToken(r), record), alias(randomToken(r), 3, record))
		}
		c.SortFields()
		stats := m.Stats()
		watch = recorder{}
		if _, err = m.Apply(index, command.AppendBatch(nil, []command.Command{c}), nil); err == nil {
			continue
		}
		now := m.Stats()
		if !errors.Is(err, cloakroom.ErrMemoryFull) || now.Records != stats.Records || now.Linked != stats.Linked ||
			now.Slab.Used != stats.Slab.Used || watch.told != 0 {
			t.Errorf("%v left %+v, want %+v; told %d times", err, now, stats, watch.told)
		}
		return
	}
}

// Links survive what the index does: growing, splitting, shrinking, a snapshot
// and its restore.
func TestManyLinkedSubjects(t *testing.T) {
	const people = 20_000
	m, r := newMachine(t), seeded(t)
	subjects := fillLinked(t, m, people, r)
	other := newMachine(t)
	if err := other.Restore(bytes.NewReader(streamOf(t, m))); err != nil {
		t.Fatal(err)
	}
	if a, b := m.Stats(), other.Stats(); a.Linked != 2*people || b.Linked != a.Linked || b.Subjects != a.Subjects {
		t.Errorf("restored %+v, want %+v", b, a)
	}
	var erases []command.Command
	for _, token := range subjects {
		erases = append(erases, command.Command{Kind: command.Erase, Subject: token})
	}
	batch := command.AppendBatch(nil, erases)
	for _, machine := range []*Machine{m, other} {
		results, err := machine.Apply(m.Applied()+1, batch, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			wantCode(t, result, command.Erased)
		}
		if s := machine.Stats(); s.Linked != 0 || s.Erased != 2*people || s.Subjects != 0 || s.Records != 3*people {
			t.Errorf("after all were erased: %+v", s) // the erases list no field: the names are left
		}
		batch = bytes.Clone(batch)
	}
	if !bytes.Equal(records(streamOf(t, m)), records(streamOf(t, other))) {
		t.Error("the restored machine went another way")
	}
}

// fillLinked puts n subjects into m with a name, a handle and an alias each.
func fillLinked(t testing.TB, m *Machine, n int, r *rand.Rand) (subjects []cloakroom.Token) {
	t.Helper()
	sealed := strings.Repeat("s", 69)
	var commands []command.Command
	for len(subjects) < n {
		commands = commands[:0]
		for range min(500, n-len(subjects)) {
			c := command.Command{Kind: command.Bind, Flags: command.CreateOnly, Subject: randomToken(r),
				Fields: []command.Field{{Token: randomToken(r), Record: make([]byte, nameRecord)}},
				Links:  []command.Link{handle(randomToken(r), sealed), alias(randomToken(r), 2, sealed)}}
			c.SortFields()
			commands = append(commands, c)
			subjects = append(subjects, c.Subject)
		}
		results, err := m.Apply(m.Applied()+1, command.AppendBatch(nil, commands), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, result := range results {
			if result.Code != command.Created {
				t.Fatalf("bind answered %s", result.Code)
			}
		}
	}
	return subjects
}
