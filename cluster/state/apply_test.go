package state

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Some subjects and their records, for tests by hand.
var (
	ada, bob   = cloakroom.Token{0xa0}, cloakroom.Token{0xb0}
	name, mail = cloakroom.Token{1}, cloakroom.Token{2}
	one, two   = cloakroom.Version{1}, cloakroom.Version{2}
	keyTag     = command.KeyTag{7}
)

func field(token cloakroom.Token, record string) command.Field {
	if record == "" {
		return command.Field{Token: token}
	}
	return command.Field{Token: token, Record: []byte(record)}
}

func put(version cloakroom.Version, fields ...command.Field) command.Command {
	return command.Command{Kind: command.Put, Subject: ada, Version: version, Fields: fields}
}

func wantCode(t *testing.T, got command.Result, want command.Code) {
	t.Helper()
	if got.Code != want {
		t.Errorf("answer = %s, want %s", got.Code, want)
	}
}

func TestPutThatListsAllFieldsLeavesNoOldOne(t *testing.T) {
	f := newFixture(t)
	wantCode(t, f.do(put(one, field(name, "ada"), field(mail, "a@b"))), command.Created)
	wantCode(t, f.do(put(two, field(name, "Ada"), field(mail, ""))), command.Replaced)
	if f.record(name) != "Ada" || f.record(mail) != "" {
		t.Errorf("name %q, mail %q, want Ada and none", f.record(name), f.record(mail))
	}
}

func TestErasedStaysErased(t *testing.T) {
	f := newFixture(t)
	f.do(command.Command{Kind: command.Time, Value: 5_000_999})
	p := put(one, field(name, "ada"))
	p.Domain = 4
	f.do(p)
	erase := command.Command{Kind: command.Erase, Subject: ada, Version: two, Fields: []command.Field{field(name, "")}}
	want := command.Result{Code: command.Erased, Version: two, Expiry: 5000, Domain: 4}
	if got := f.do(erase); got != want {
		t.Fatalf("erase = %+v, want %+v", got, want)
	}
	if f.record(name) != "" {
		t.Error("a field outlived its subject")
	}
	f.do(command.Command{Kind: command.Time, Value: 9_000_000})
	want.Code = command.AlreadyErased
	erase.Version = one
	if got := f.do(erase); got != want {
		t.Errorf("second erase = %+v, want the first one's time: %+v", got, want)
	}
	for _, kind := range []command.Kind{command.Put, command.Merge} {
		p.Kind = kind
		wantCode(t, f.do(p), command.Erased)
	}
	if s := f.Stats(); f.record(name) != "" || s.Subjects != 0 || s.Erased != 1 || s.Records != 1 {
		t.Errorf("after writes onto an erased subject: %+v", s)
	}
}

func TestRetryIsToldFromAnotherBody(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.KeyTag, p.Flags = keyTag, command.CreateOnly
	wantCode(t, f.do(p), command.Created)
	p.Fields[0].Record = []byte("not ada")
	wantCode(t, f.do(p), command.Replayed)
	if got := f.record(name); got != "ada" {
		t.Errorf("a retry wrote %q, want what the first try wrote", got)
	}
	p.Version = two
	wantCode(t, f.do(p), command.TagConflict)
	p.KeyTag = command.KeyTag{8}
	wantCode(t, f.do(p), command.Exists)

	// A conditional write that is retried finds its own version, not the
	// expected one.
	merge := command.Command{Kind: command.Merge, Flags: command.HasExpected, Subject: ada, Expected: one,
		Version: two, KeyTag: command.KeyTag{9}, Fields: []command.Field{field(name, "Ada")}}
	wantCode(t, f.do(merge), command.Merged)
	wantCode(t, f.do(merge), command.Replayed)
	erase := command.Command{Kind: command.Erase, Subject: ada, Version: two, KeyTag: command.KeyTag{9}}
	wantCode(t, f.do(erase), command.TagConflict)
}

func TestExpectedVersion(t *testing.T) {
	f := newFixture(t)
	p := put(two, field(name, "ada"))
	p.Flags, p.Expected = command.HasExpected, one
	wantCode(t, f.do(p), command.VersionMismatch) // nobody there
	f.do(put(two, field(name, "ada")))
	if got, want := f.do(p), (command.Result{Code: command.VersionMismatch, Version: two}); got != want {
		t.Errorf("put = %+v, want %+v", got, want)
	}
	p.Expected, p.Version = two, one
	wantCode(t, f.do(p), command.Replaced)
}

// Who knows a subject by a link must not make it anew without that link.
func TestReplaceOnlyMakesNoSubject(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.Flags = command.ReplaceOnly
	wantCode(t, f.do(p), command.NotFound)
	if s := f.Stats(); s.Subjects != 0 || f.record(name) != "" {
		t.Errorf("after a put that was refused: %+v", s)
	}
	first := put(one, field(name, "ada"))
	first.Expiry = 5
	f.do(first)
	p.Version = two
	wantCode(t, f.do(p), command.Replaced)
	first.Version = one
	f.do(first)
	f.do(command.Command{Kind: command.Time, Value: 6_000})
	wantCode(t, f.do(p), command.Created) // hidden, not wiped: it comes back
}

func TestStaleSchemaIsSentBack(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.SchemaEpoch = 3
	wantCode(t, f.do(p), command.Created)
	p.SchemaEpoch = 2
	wantCode(t, f.do(p), command.StaleSchema)
	wantCode(t, f.do(command.Command{Kind: command.Erase, Subject: ada, SchemaEpoch: 2}), command.StaleSchema)
	wantCode(t, f.do(command.Command{Kind: command.Time, Value: 1}), command.Done)
}

func TestTimeNeverGoesBack(t *testing.T) {
	f := newFixture(t)
	for _, step := range []struct{ value, want uint64 }{{1000, 1000}, {500, 1000}, {1001, 1001}, {0, 1001}} {
		wantCode(t, f.do(command.Command{Kind: command.Time, Value: step.value}), command.Done)
		if got := f.Time(); got != step.want {
			t.Errorf("time = %d after %d, want %d", got, step.value, step.want)
		}
	}
}

func TestExpireWipesOnlyWhatIsDue(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.Expiry = 100
	f.do(p)
	expire := command.Command{Kind: command.Expire, Subject: ada, Expiry: 100, Fields: []command.Field{field(name, "")}}
	wantCode(t, f.do(expire), command.VersionMismatch) // not due
	f.do(command.Command{Kind: command.Time, Value: 100_000})
	expire.Expiry = 90
	wantCode(t, f.do(expire), command.VersionMismatch) // changed since the sweep
	wantCode(t, f.do(command.Command{Kind: command.Merge, Subject: ada, Expiry: 500}), command.NotFound)
	expire.Expiry = 100
	wantCode(t, f.do(expire), command.Done)
	if s := f.Stats(); s.Records != 0 || s.Subjects != 0 {
		t.Errorf("after expiry %d records of %d subjects are left, want none", s.Records, s.Subjects)
	}
	wantCode(t, f.do(expire), command.NotFound)
}

// Fields that expired before their subject go by themselves, if it is still
// what the sweeper saw; the subject's record stays as it is.
func TestExpireWipesSingleFields(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"), field(mail, "a@b"))
	p.Expiry, p.KeyTag = 900, keyTag
	f.do(p)
	wipe := command.Command{Kind: command.Expire, Flags: command.HasExpected, Expected: two, Subject: ada, Fields: []command.Field{field(mail, "")}}
	wantCode(t, f.do(wipe), command.VersionMismatch)
	wipe.Expected = one
	want := command.Result{Code: command.Done, Version: one, Expiry: 900}
	if got := f.do(wipe); got != want {
		t.Errorf("wipe = %+v, want %+v", got, want)
	}
	if f.record(mail) != "" || f.record(name) != "ada" {
		t.Error("the other field went, or this one stayed")
	}
	wantCode(t, f.do(p), command.Replayed) // the tag is what it was
	wipe.Fields[0].Record = []byte("new")
	wantCode(t, f.do(wipe), command.Done)
	if f.record(mail) != "" {
		t.Error("a wipe wrote a value")
	}
	f.do(command.Command{Kind: command.Erase, Subject: ada, Version: two})
	wantCode(t, f.do(wipe), command.NotFound)
}

// A put of some fields does not end the life of the others.
func TestAPutThatKeepsTheLaterExpiry(t *testing.T) {
	for _, test := range []struct{ before, put, want uint32 }{
		{900, 500, 900}, {500, 900, 900}, {0, 500, 0}, {500, 0, 0},
	} {
		f := newFixture(t)
		p := put(one, field(name, "ada"))
		p.Expiry = test.before
		f.do(p)
		p = put(two, field(mail, "a@b"))
		p.Expiry, p.Flags = test.put, command.LaterExpiry
		if got := f.do(p); got.Expiry != test.want || got.Code != command.Replaced {
			t.Errorf("%d over %d: got %+v, want %d", test.put, test.before, got, test.want)
		}
	}
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.Expiry = 100
	f.do(p)
	f.do(command.Command{Kind: command.Time, Value: 200_000})
	p.Expiry, p.Flags, p.Version = 300, command.LaterExpiry, two
	if got := f.do(p); got.Expiry != 300 || got.Code != command.Created {
		t.Errorf("over an expired one: %+v", got)
	}
}

func TestPutDoesNotMoveASubjectToAnotherDomain(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.Domain = 4
	wantCode(t, f.do(p), command.Created)
	taken := put(two, field(name, "eve"))
	taken.Domain = 5
	wantCode(t, f.do(taken), command.Exists)
	if got := f.record(name); got != "ada" {
		t.Errorf("record after the refused put: got %q", got)
	}
	taken.Domain = 4
	wantCode(t, f.do(taken), command.Replaced)
}

func TestMergeKeepsDomainAndExpiry(t *testing.T) {
	f := newFixture(t)
	p := put(one, field(name, "ada"))
	p.Domain, p.Expiry = 5, 900
	f.do(p)
	merge := command.Command{Kind: command.Merge, Subject: ada, Version: two, Fields: []command.Field{field(mail, "a@b")}}
	want := command.Result{Code: command.Merged, Version: two, Expiry: 900, Domain: 5}
	if got := f.do(merge); got != want {
		t.Errorf("merge = %+v, want %+v", got, want)
	}
	merge.Expiry = 950
	if got := f.do(merge).Expiry; got != 950 {
		t.Errorf("expiry = %d, want 950", got)
	}
	if f.record(name) != "ada" || f.record(mail) != "a@b" {
		t.Error("a merge touched a field it does not list")
	}
}

func TestReservedKindsAreUnsupported(t *testing.T) {
	f := newFixture(t)
	for _, kind := range []command.Kind{command.Touch, command.Reseal, command.Slice} {
		wantCode(t, f.do(command.Command{Kind: kind, Subject: ada, SchemaEpoch: 99}), command.Unsupported)
	}
	wantCode(t, f.do(command.Command{Kind: command.Level, Value: 1, SchemaEpoch: 99}), command.Unsupported)
	wantCode(t, f.do(put(one)), command.Created) // their schema epoch did not count
}

// A shard that was told of a schema refuses writes of an older one, and says so
// to whoever reads.
func TestAShardIsToldTheSchema(t *testing.T) {
	f := newFixture(t)
	c := put(one)
	c.SchemaEpoch = 4
	wantCode(t, f.do(c), command.Created)
	for _, epoch := range []uint32{5, 3} {
		wantCode(t, f.do(command.Command{Kind: command.Level, SchemaEpoch: epoch}), command.Done)
		var got command.Records
		f.Read([]cloakroom.Token{ada}, &got)
		if got.Schema != 5 {
			t.Errorf("told %d: the shard knows epoch %d, want 5", epoch, got.Schema)
		}
	}
	wantCode(t, f.do(c), command.StaleSchema)
}

// A token is a subject's or a field's for good; a command that confuses them
// changes nothing.
func TestTokensDoNotChangeSides(t *testing.T) {
	f := newFixture(t)
	f.do(put(one, field(name, "ada")))
	c := command.Command{Kind: command.Put, Subject: bob, Version: one, Fields: []command.Field{field(ada, "x")}}
	wantCode(t, f.do(c), command.Malformed)
	c = command.Command{Kind: command.Put, Subject: name, Version: one}
	wantCode(t, f.do(c), command.Malformed)
	if s := f.Stats(); s.Records != 2 || s.Subjects != 1 {
		t.Errorf("%d records of %d subjects, want 2 of 1", s.Records, s.Subjects)
	}
}

func TestMalformedItemsDoNotStopTheirBatch(t *testing.T) {
	f := newFixture(t)
	batch := command.BeginBatch(nil)
	batch = command.AppendEncoded(batch, []byte("nonsense"))
	p := put(one, field(name, "ada"))
	batch = command.AppendItem(batch, &p)
	command.EndBatch(batch, 2)
	results, err := f.Apply(1, batch, nil)
	if err != nil || len(results) != 2 {
		t.Fatalf("Apply = %v, %v", results, err)
	}
	wantCode(t, results[0], command.Malformed)
	wantCode(t, results[1], command.Created)

	before := f.Hash()
	results, err = f.Apply(2, []byte("no batch"), nil)
	if err != nil || len(results) != 1 || results[0].Code != command.Malformed {
		t.Fatalf("Apply of no batch = %v, %v, want one malformed", results, err)
	}
	if f.Applied() != 2 || f.Hash() == before {
		t.Error("an entry that cannot be read is left out of the applied prefix")
	}
}

// One entry may bring more commands than fit one hold of the lock.
func TestLongBatch(t *testing.T) {
	f := newFixture(t)
	r := seeded(t)
	commands := make([]command.Command, 5*stretch+3)
	for i := range commands {
		commands[i] = command.Command{Kind: command.Put, Subject: randomToken(r),
			Fields: []command.Field{field(randomToken(r), "x")}}
	}
	for _, result := range f.all(commands...) {
		wantCode(t, result, command.Created)
	}
	if got := f.Stats().Subjects; got != len(commands) {
		t.Errorf("%d subjects, want %d", got, len(commands))
	}
}

func TestLogThatGoesBackStopsTheMachine(t *testing.T) {
	f := newFixture(t)
	f.all()
	if _, err := f.Apply(1, command.AppendBatch(nil, nil), nil); err == nil {
		t.Fatal("an entry was applied twice")
	}
	if f.Err() == nil {
		t.Error("the machine does not say that it stopped")
	}
}

// A replica that runs out of memory stops before the command that did it has
// changed anything, and for good.
func TestFullMemoryStopsTheMachineBetweenCommands(t *testing.T) {
	m, err := New(Config{Slab: newSlab(t, 4<<20)})
	if err != nil {
		t.Fatal(err)
	}
	r := seeded(t)
	record := []byte(strings.Repeat("x", 5000))
	var before, after bytes.Buffer
	for index := uint64(1); ; index++ {
		c := command.Command{Kind: command.Put, Subject: randomToken(r), Fields: []command.Field{
			{Token: randomToken(r), Record: record}, {Token: randomToken(r), Record: record[:3000]}}}
		c.SortFields()
		v, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		before.Reset()
		v.WriteTo(&before)
		v.Release()
		stats := m.Stats()
		_, err = m.Apply(index, command.AppendBatch(nil, []command.Command{c}), nil)
		if err == nil {
			continue
		}
		if !errors.Is(err, cloakroom.ErrMemoryFull) {
			t.Fatalf("Apply = %v, want ErrMemoryFull", err)
		}
		if now := m.Stats(); now.Records != stats.Records || now.Slab.Used != stats.Slab.Used || now.Hash != stats.Hash {
			t.Errorf("a command that failed left %+v, want %+v", now, stats)
		}
		_, again := m.Apply(index+1, command.AppendBatch(nil, nil), nil)
		if !errors.Is(again, cloakroom.ErrMemoryFull) || !errors.Is(m.Err(), cloakroom.ErrMemoryFull) {
			t.Errorf("after it: Apply = %v, Err = %v, want ErrMemoryFull from both", again, m.Err())
		}
		if _, err := m.Snapshot(); err == nil {
			t.Error("a machine that stopped gives snapshots")
		}
		if err := m.Restore(&after); err == nil {
			t.Error("a machine that stopped goes on after a restore")
		}
		return
	}
}

func TestNewWantsASlab(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New without a slab succeeds")
	}
}
