package directory

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloakroom"
)

func initCommand(shards int) *Command {
	init := &Init{ClusterID: ID{1, 2}, Settings: Settings{Replication: 3, RecoveryMode: "none", LeaseMillis: 3000},
		Nodes: []NodeInfo{node("n1", 1)}, Directory: founded("0")}
	for i := range shards {
		init.Shards = append(init.Shards, ShardInfo{ID: cloakroom.ShardID(i), GroupInfo: founded(fmt.Sprint(i + 1))})
	}
	return &Command{Init: init}
}

// founded is a group with a voter on n1 called by number.
func founded(number string) GroupInfo {
	return GroupInfo{Generation: 1, Replicas: []ReplicaInfo{
		{ID: "r" + number, Address: "a" + number, Node: "n1", Life: life("n1", 1), State: Voter}}}
}

// life is the nth life of a node.
func life(name string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, n))
	return hex.EncodeToString(sum[:16])
}

func node(name string, n int) NodeInfo {
	return NodeInfo{Name: name, Life: life(name, n), Address: name + ".test:7100"}
}

// feeder feeds a machine and remembers what it was fed.
type feeder struct {
	*Machine
	t     testing.TB
	fed   [][]byte
	index uint64
}

func newFeeder(t testing.TB) *feeder {
	l := &feeder{Machine: New(), t: t}
	l.want(Done, initCommand(4))
	return l
}

// do applies a command.
func (l *feeder) do(cmd *Command) Result {
	l.t.Helper()
	data, err := cmd.Append(nil)
	if err != nil {
		l.t.Fatalf("encode: %v", err)
	}
	l.index++
	l.fed = append(l.fed, data)
	return l.Apply(l.index, data)
}

// want applies a command and checks its code, and that a refusal changed nothing.
func (l *feeder) want(code Code, cmd *Command) Result {
	l.t.Helper()
	before := l.Load()
	got := l.do(cmd)
	if got.Code != code {
		l.t.Fatalf("code: got %d (%s), want %d", got.Code, got.Detail, code)
	}
	if code != Done && l.Load() != before {
		l.t.Fatalf("a refused command changed the view")
	}
	if code == Done && (l.Load().Epoch != before.Epoch+1 || got.Epoch != before.Epoch+1) {
		l.t.Fatalf("epoch: got %d and %d, want %d", l.Load().Epoch, got.Epoch, before.Epoch+1)
	}
	return got
}

func schema(epoch uint32, fields ...Field) *Command {
	return &Command{SetSchema: &SetSchema{ExpectedEpoch: epoch, Fields: fields}}
}

func text(name string) Field { return Field{Name: name, Type: Text} }

func numbers(s *Schema) string {
	var out []string
	for _, f := range s.Fields {
		mark := ""
		if f.Retired {
			mark = "-"
		}
		out = append(out, fmt.Sprintf("%s%s=%d", mark, f.Name, f.Number))
	}
	return strings.Join(out, " ")
}

func TestFieldNumbersAreNeverUsedTwice(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, schema(0, text("name"), text("email")))
	l.want(Done, schema(1, text("name"), text("phone"))) // email retires
	l.want(Done, schema(2, text("name"), text("email"))) // a new email, phone retires
	if got, want := numbers(l.Load().Schema), "name=2 -email=3 -phone=4 email=5"; got != want {
		t.Fatalf("fields: got %s, want %s", got, want)
	}
	if f := l.Load().Schema.Field([]byte("email")); f == nil || f.Number != 5 || f.MaxBytes != 1024 {
		t.Errorf("live email: %+v", f)
	}
	if l.Load().Schema.Field([]byte("phone")) != nil {
		t.Error("a retired field is found by its name")
	}
	if f := l.Load().Schema.Number(3); f == nil || !f.Retired {
		t.Errorf("field 3: %+v, want the retired email", f)
	}
	if f := l.Load().Schema.Number(6); f != nil {
		t.Errorf("field 6: %+v, want none", f)
	}
}

func TestSchemaRoundTripRenameAndRetire(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, schema(0, text("name"), text("email")))
	l.want(Done, schema(1, text("name")))
	// What was read can be written back, retired fields and all.
	l.want(Done, schema(2, l.Load().Schema.Fields...))
	renamed := slices.Clone(l.Load().Schema.Fields)
	renamed[0].Name = "display_name"
	l.want(Done, schema(3, renamed...))
	retired := slices.Clone(l.Load().Schema.Fields)
	retired[0].Retired = true
	l.want(Done, schema(4, retired...))
	if got, want := numbers(l.Load().Schema), "-display_name=2 -email=3"; got != want {
		t.Fatalf("fields: got %s, want %s", got, want)
	}
}

func TestSchemaRefuses(t *testing.T) {
	many := make([]Field, cloakroom.MaxFields+1)
	for i := range many {
		many[i] = text(fmt.Sprintf("f%d", i))
	}
	crowded := text("crowded")
	for i := range MaxPurposes + 1 {
		crowded.Purposes = append(crowded.Purposes, fmt.Sprintf("p%d", i))
	}
	tests := map[string][]Field{
		"two of a name":      {text("a"), text("a")},
		"upper case":         {text("Name")},
		"empty name":         {text("")},
		"digit first":        {text("1a")},
		"long name":          {text(strings.Repeat("a", 65))},
		"dash":               {text("a-b")},
		"unknown type":       {{Name: "a", Type: "blob"}},
		"too long a value":   {{Name: "a", Type: Text, MaxBytes: cloakroom.MaxSubjectBytes + 1}},
		"negative length":    {{Name: "a", Type: Text, MaxBytes: -1}},
		"negative retention": {{Name: "a", Type: Text, MaxRetention: -1}},
		"reserved number":    {{Name: "a", Type: Text, Number: 1}},
		"unknown number":     {{Name: "a", Type: Text, Number: 77}},
		"new and retired":    {{Name: "a", Type: Text, Retired: true}},
		"type changed":       {{Name: "kept", Type: Email}},
		"unretired":          {{Name: "old", Type: Text, Number: 3}},
		"listed twice":       {text("kept"), {Name: "other", Type: Text, Number: 2}},
		"malformed purpose":  {{Name: "a", Type: Text, Purposes: []string{"Big Deal"}}},
		"too many purposes":  {crowded},
		"too many fields":    many,
	}
	for name, fields := range tests {
		t.Run(name, func(t *testing.T) {
			l := newFeeder(t)
			l.want(Done, schema(0, text("kept"), text("old")))
			l.want(Done, schema(1, text("kept")))
			got := l.want(Invalid, schema(2, fields...))
			if err := got.Err(); !errors.Is(err, cloakroom.ErrSchema) {
				t.Errorf("error: got %v, want one of the schema", err)
			}
		})
	}
}

// What would leave stored values behind is refused and says how to get there.
func TestSchemaStrandsNoValues(t *testing.T) {
	wide := Field{Name: "kept", Type: Text, MaxBytes: 2000, Purposes: []string{"mail", "login"}}
	change := func(what func(*Field)) Field {
		f := wide
		what(&f)
		return f
	}
	tests := map[string]struct {
		fields []Field
		hint   string // "": it is fine
	}{
		"the same":          {[]Field{wide}, ""},
		"the limit kept":    {[]Field{change(func(f *Field) { f.MaxBytes = 0 })}, ""},
		"a wider limit":     {[]Field{change(func(f *Field) { f.MaxBytes++ })}, ""},
		"a narrower limit":  {[]Field{change(func(f *Field) { f.MaxBytes-- })}, "declare a new field"},
		"narrower, retired": {[]Field{change(func(f *Field) { f.MaxBytes, f.Retired = 1, true })}, ""},
		"another type":      {[]Field{change(func(f *Field) { f.Type = JSON })}, "declare a new field"},
		"type, retired":     {[]Field{change(func(f *Field) { f.Type, f.Retired = JSON, true })}, "declare a new field"},
		"fewer purposes":    {[]Field{change(func(f *Field) { f.Purposes = []string{"mail"} })}, ""},
		"more purposes":     {[]Field{change(func(f *Field) { f.Purposes = []string{"mail", "ads"} })}, ""},
		"other purposes":    {[]Field{change(func(f *Field) { f.Purposes = []string{"ads"} })}, "beside the old ones"},
		"any purpose":       {[]Field{change(func(f *Field) { f.Purposes = nil })}, ""},
		"a shorter stay":    {[]Field{change(func(f *Field) { f.MaxRetention = 1 })}, ""}, // holds for what is written from then on
		"retired by name":   {nil, ""},
		"a retired number":  {[]Field{wide, {Number: 3, Name: "anew", Type: Text}}, "without a number"},
		"a retired name":    {[]Field{wide, {Name: "old", Type: Date}}, ""},
		"a name taken over": {[]Field{{Number: 2, Name: "was_kept", Type: Text}, {Name: "kept", Type: Text}}, "in a change before"},
		"names exchanged":   {[]Field{{Number: 2, Name: "other", Type: Text}, {Number: 4, Name: "kept", Type: Text}}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newFeeder(t)
			l.want(Done, schema(0, wide, text("old"), text("other")))
			l.want(Done, schema(1, wide, text("other")))
			if tt.hint == "" {
				l.want(Done, schema(2, tt.fields...))
				if f := l.Load().Schema.Number(2); !f.Retired && f.MaxBytes < 2000 {
					t.Errorf("stored values don't fit any more: %+v", f)
				}
				return
			}
			faults := l.Load().Schema.Faults(tt.fields)
			got := l.want(Invalid, schema(2, tt.fields...))
			if len(faults) != 1 || !strings.Contains(faults[0].Reason, tt.hint) || !strings.Contains(got.Detail, tt.hint) {
				t.Errorf("faults %+v, detail %s", faults, got.Detail)
			}
			if at := len(tt.fields) - 1; faults[0].Item != at {
				t.Errorf("fault of field %d, want %d", faults[0].Item, at)
			}
		})
	}
}

func TestSchemaReportsEveryFault(t *testing.T) {
	l := newFeeder(t)
	got := l.want(Invalid, schema(0, text("A"), text("ok"), Field{Name: "b", Type: "x"}))
	if !strings.Contains(got.Detail, "field 0") || !strings.Contains(got.Detail, "field 2") || strings.Contains(got.Detail, "field 1") {
		t.Errorf("detail: %s", got.Detail)
	}
}

func TestSchemaExpectsItsEpoch(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, schema(0, text("a")))
	got := l.want(Conflict, schema(0, text("b")))
	if !errors.Is(got.Err(), cloakroom.ErrConflict) || got.SchemaEpoch != 1 {
		t.Errorf("got %+v", got)
	}
}

func principal(name string, credential byte) *Principal {
	return &Principal{Name: name, Credential: Digest{credential},
		Grant: Grant{Actions: []Action{Resolve}, Fields: []cloakroom.FieldNumber{2}, Form: FormPlain}}
}

func TestPrincipalsAreFoundByCredentialUntilRevoked(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, schema(0, text("a")))
	p := principal("renderer", 7)
	p.Grant.Actions = []Action{Resolve, Deposit, Resolve}
	p.Grant.Issuers = []string{"https://b.test", "https://a.test", "https://b.test"}
	l.want(Done, &Command{PutPrincipal: p})
	l.want(Done, &Command{PutPrincipal: principal("auth", 8)})
	old := l.Load()
	found := old.Principal(&Digest{7})
	if found == nil || found.Name != "renderer" || !reflect.DeepEqual(found.Grant.Actions, []Action{Deposit, Resolve}) ||
		!slices.Equal(found.Grant.Issuers, []string{"https://a.test", "https://b.test"}) {
		t.Fatalf("found: %+v", found)
	}
	if old.Principal(&Digest{9}) != nil {
		t.Error("an unknown credential found somebody")
	}
	l.want(Done, &Command{RevokePrincipal: &RevokePrincipal{Name: "renderer"}})
	if l.Load().Principal(&Digest{7}) != nil {
		t.Error("a revoked principal is found")
	}
	if got := l.Load().PrincipalNamed("renderer"); got == nil || !got.Revoked {
		t.Errorf("by name: %+v", got)
	}
	if old.Principal(&Digest{7}) == nil {
		t.Error("an old view changed")
	}
	l.want(Conflict, &Command{PutPrincipal: principal("renderer", 10)})
	l.want(Conflict, &Command{PutPrincipal: principal("other", 7)}) // a revoked credential stays taken
	l.want(Conflict, &Command{PutPrincipal: principal("other", 8)})
	l.want(NotFound, &Command{RevokePrincipal: &RevokePrincipal{Name: "nobody"}})
	l.want(Done, &Command{PutPrincipal: principal("auth", 11)}) // a new credential for the same one
	if l.Load().Principal(&Digest{8}) != nil || l.Load().Principal(&Digest{11}) == nil {
		t.Error("the credential was not exchanged")
	}
}

func TestPrincipalRefuses(t *testing.T) {
	tests := map[string]func(*Principal){
		"empty issuer":       func(p *Principal) { p.Grant.Issuers = []string{""} },
		"long issuer":        func(p *Principal) { p.Grant.Issuers = []string{strings.Repeat("a", MaxIssuerBytes+1)} },
		"issuer of controls": func(p *Principal) { p.Grant.Issuers = []string{"a\x00b"} },
		"many issuers": func(p *Principal) {
			for i := range MaxIssuers + 1 {
				p.Grant.Issuers = append(p.Grant.Issuers, fmt.Sprint(i))
			}
		},
		"malformed name":    func(p *Principal) { p.Name = "Mr X" },
		"no credential":     func(p *Principal) { p.Credential = Digest{} },
		"put as revoked":    func(p *Principal) { p.Revoked = true },
		"no action":         func(p *Principal) { p.Grant.Actions = nil },
		"unknown action":    func(p *Principal) { p.Grant.Actions = []Action{"browse"} },
		"reserved form":     func(p *Principal) { p.Grant.Form = FormPresent },
		"unknown field":     func(p *Principal) { p.Grant.Fields = []cloakroom.FieldNumber{9} },
		"unknown domain":    func(p *Principal) { p.Grant.Domains = []cloakroom.Domain{1} },
		"negative expiry":   func(p *Principal) { p.Grant.Expires = -1 },
		"malformed purpose": func(p *Principal) { p.Grant.Purposes = []string{""} },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			l := newFeeder(t)
			l.want(Done, schema(0, text("a")))
			p := principal("renderer", 1)
			change(p)
			l.want(Invalid, &Command{PutPrincipal: p})
		})
	}
}

func TestDomainsGetNumbers(t *testing.T) {
	l := newFeeder(t)
	if n, ok := l.Load().Domain([]byte("default")); !ok || n != cloakroom.DefaultDomain {
		t.Errorf("default: got %d, %v", n, ok)
	}
	if got := l.want(Done, &Command{PutDomain: &PutDomain{Name: "research"}}); got.Domain != 1 {
		t.Errorf("number: got %d, want 1", got.Domain)
	}
	l.want(Conflict, &Command{PutDomain: &PutDomain{Name: "research"}})
	l.want(Invalid, &Command{PutDomain: &PutDomain{Name: "A b"}})
	if n, ok := l.Load().Domain([]byte("research")); !ok || n != 1 {
		t.Errorf("research: got %d, %v", n, ok)
	}
}

func TestSealingNumbersOnlyGoUp(t *testing.T) {
	l := newFeeder(t)
	for want := cloakroom.SealingNumber(1); want < 4; want++ {
		if got := l.want(Done, &Command{NextSealing: &NextSealing{}}); got.SealingNumber != want {
			t.Fatalf("got %d, want %d", got.SealingNumber, want)
		}
	}
	last := *l.Load()
	last.SealingNumber = math.MaxUint32
	l.view.Store(&last)
	l.want(Exhausted, &Command{NextSealing: &NextSealing{}})
}

func TestKeyringVersionsFollowEachOther(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, &Command{SetKeyring: &SetKeyring{Version: 1, Hash: Digest{1}}})
	l.want(Conflict, &Command{SetKeyring: &SetKeyring{Version: 3, Hash: Digest{1}}})
	l.want(Conflict, &Command{SetKeyring: &SetKeyring{Version: 1, Hash: Digest{2}}})
	l.want(Invalid, &Command{SetKeyring: &SetKeyring{Version: 2}})
}

func TestInitComesFirstAndOnce(t *testing.T) {
	l := &feeder{Machine: New(), t: t}
	l.want(Invalid, schema(0, text("a")))
	for name, change := range map[string]func(*Init){
		"no id":          func(i *Init) { i.ClusterID = ID{} },
		"no shard":       func(i *Init) { i.Shards = nil },
		"gap":            func(i *Init) { i.Shards[1].ID = 7 },
		"no generation":  func(i *Init) { i.Shards[1].Generation = 0 },
		"same identity":  func(i *Init) { i.Shards[1].Replicas[0].ID = "r0" },
		"same address":   func(i *Init) { i.Shards[1].Replicas[0].Address = "a0" },
		"two voters":     func(i *Init) { i.Settings.Replication = 2 },
		"unknown mode":   func(i *Init) { i.Settings.RecoveryMode = "often" },
		"lease too long": func(i *Init) { i.Settings.LeaseMillis = 1 << 20 },
		"no node":        func(i *Init) { i.Nodes = nil },
		"no directory":   func(i *Init) { i.Directory = GroupInfo{} },
		"nodes unsorted": func(i *Init) { i.Nodes = []NodeInfo{node("n2", 1), node("n1", 1)} },
		"node twice":     func(i *Init) { i.Nodes = append(i.Nodes, i.Nodes[0]) },
		"life twice":     func(i *Init) { i.Nodes = append(i.Nodes, NodeInfo{Name: "n2", Life: life("n1", 1), Address: "b:1"}) },
		"unreachable":    func(i *Init) { i.Nodes = []NodeInfo{{Name: "n1", Life: life("n1", 1)}, node("n2", 1)} },
		"unknown node":   func(i *Init) { i.Shards[1].Replicas[0].Node = "n2" },
		"other life":     func(i *Init) { i.Shards[1].Replicas[0].Life = life("n1", 2) },
		"no voter":       func(i *Init) { i.Shards[1].Replicas[0].State = Preparing },
		"leaving":        func(i *Init) { i.Shards[1].Replicas[0].State = Leaving },
		"no state":       func(i *Init) { i.Shards[1].Replicas[0].State = "" },
		"changed":        func(i *Init) { i.Shards[1].Changed = 1 },
	} {
		cmd := initCommand(4)
		change(cmd.Init)
		if got := l.do(cmd); got.Code != Invalid {
			t.Errorf("%s: got %+v, want invalid", name, got)
		}
	}
	l.want(Done, initCommand(16))
	l.want(Conflict, initCommand(16))
	count := make(map[cloakroom.ShardID]int)
	for slot := range cloakroom.Slots {
		count[l.Load().ShardOf(cloakroom.Slot(slot))]++
	}
	for shard, n := range count {
		if n != cloakroom.Slots/16 {
			t.Errorf("shard %d owns %d slots", shard, n)
		}
	}
}

func TestSettingsAndSlotsChange(t *testing.T) {
	l := newFeeder(t)
	s := l.Load().Settings
	s.RetentionSec++
	l.want(Done, &Command{SetSettings: &s})
	s.LeaseMillis = 5000
	l.want(Invalid, &Command{SetSettings: &s})

	old := l.Load()
	slots := old.SlotTable[:]
	moved := slices.Clone(slots)
	moved[0] = 3
	l.want(Done, &Command{SetSlots: &SetSlots{Slots: moved}})
	if l.Load().ShardOf(0) != 3 || old.ShardOf(0) != 0 {
		t.Errorf("slot 0: new %d, old %d", l.Load().ShardOf(0), old.ShardOf(0))
	}
	moved[1] = 4
	l.want(Invalid, &Command{SetSlots: &SetSlots{Slots: moved}})
	l.want(Invalid, &Command{SetSlots: &SetSlots{Slots: moved[:9]}})
}

// preparing is a replica to be made in the nth life of a node.
func preparing(identity, on string, n int) ReplicaInfo {
	return ReplicaInfo{ID: "r-" + identity, Address: "at-" + identity, Node: on, Life: life(on, n), State: Preparing}
}

// history is a run of commands, good and bad, that touches all there is.
func history(l *feeder) {
	l.do(schema(0, text("name"), Field{Name: "email", Type: Email, Purposes: []string{"mail", "login"}}))
	l.do(&Command{PutPrincipal: principal("renderer", 1)})
	l.do(&Command{PutPrincipal: principal("auth", 2)})
	l.do(&Command{PutPrincipal: principal("bad name", 2)})
	l.do(&Command{RevokePrincipal: &RevokePrincipal{Name: "auth"}})
	l.do(&Command{PutDomain: &PutDomain{Name: "research"}})
	l.do(&Command{PutPrincipal: accessor("access-1", 3)})
	l.do(&Command{PutPrincipal: principal("batch", 4)})
	l.do(&Command{RequestPrincipal: request("page", "access-1", Resolve)})
	l.do(&Command{SuspendPrincipal: &SuspendPrincipal{Name: "batch", By: "access-1", Suspended: true}})
	l.do(&Command{NextSealing: &NextSealing{}})
	l.do(schema(1, text("name")))
	l.do(schema(9, text("name")))
	l.do(&Command{SetKeyring: &SetKeyring{Version: 1, Hash: Digest{5}}})
	l.do(&Command{SetRecovery: recoveryOf(2, 3)})
	l.do(&Command{PutNode: &PutNode{Node: node("n2", 1)}})
	l.do(&Command{AddReplica: &AddReplica{Group: 2, Seen: l.Load().Epoch, Replica: preparing("s", "n2", 1)}})
	l.do(&Command{SetReplica: &SetReplica{Group: 2, ID: "r-s", State: Voter}})
	l.do(&Command{AddReplica: &AddReplica{Group: 0, Seen: l.Load().Epoch, Replica: preparing("d", "n2", 1)}})
	l.do(&Command{SetReplica: &SetReplica{Group: 0, ID: "r0", State: Leaving}})
	l.do(&Command{PutNode: &PutNode{Node: node("n2", 2), Replaces: life("n2", 1)}})
	l.do(&Command{DropReplica: &DropReplica{Group: 0, ID: "r-d"}})
	l.do(token(1))
	l.do(token(2))
	l.do(use(1, "n4"))
	l.do(use(2, "n5"))
	l.do(&Command{AdmitNode: &AdmitNode{Name: "n4", Key: Digest{'4'}, At: 7000}})
	l.do(&Command{DrainNode: &DrainNode{Name: "n2", LeadersOnly: true}})
	l.do(&Command{RemoveNode: &RemoveNode{Name: "n5"}})
	l.do(recordErasures(erasureOf(1, 100), erasureOf(2, 101, 2, 3), erasureOf(1, 102)))
}

// erasureOf is one of a subject called by its number, at an index of shard 1.
func erasureOf(subject byte, index uint64, fields ...cloakroom.FieldNumber) Erasure {
	return Erasure{Subject: cloakroom.Token{subject}, Fields: fields, Shard: 1, Generation: 1,
		Index: index, At: 1_800_000_000_000 + int64(index)}
}

func recordErasures(entries ...Erasure) *Command {
	return &Command{RecordErasures: &RecordErasures{Entries: entries}}
}

func image(t testing.TB, m *Machine) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := m.Snapshot().WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: %d of %d bytes, %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func TestSameCommandsSameBytes(t *testing.T) {
	a := newFeeder(t)
	history(a)
	b := New()
	for i, data := range a.fed {
		b.Apply(uint64(i+1), data)
	}
	if !bytes.Equal(image(t, a.Machine), image(t, b)) {
		t.Fatal("two machines fed alike differ")
	}
	_, before := b.Applied()
	b.Apply(uint64(len(a.fed)+1), []byte("garbage"))
	if _, after := b.Applied(); after == before {
		t.Error("a malformed entry left no trace in the hash of the prefix")
	}
}

func TestRestoredMachineGoesOnAlike(t *testing.T) {
	a := newFeeder(t)
	history(a)
	b := New()
	if err := b.Restore(bytes.NewReader(image(t, a.Machine))); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*Command{schema(2, text("name"), text("phone")), {NextSealing: &NextSealing{}}, {PutPrincipal: principal("x", 9)}} {
		data, _ := cmd.Append(nil)
		if got, want := b.Apply(50, data), a.Apply(50, data); got != want {
			t.Fatalf("results differ: %+v and %+v", got, want)
		}
	}
	if !bytes.Equal(image(t, a.Machine), image(t, b)) {
		t.Fatal("states differ after a restore")
	}
	if b.Load().Principal(&Digest{1}) == nil || b.Load().Schema.Field([]byte("phone")) == nil {
		t.Error("the look-up tables were not rebuilt")
	}
	if _, ok := b.Load().Domain([]byte("research")); !ok {
		t.Error("the domains were not rebuilt")
	}
}

// spoil replaces old in the JSON object of a snapshot, at most n times (-1: as
// often as it is there), and corrects the length.
func spoil(snapshot []byte, old, with string, n int) []byte {
	size := binary.BigEndian.Uint32(snapshot[1:])
	head := bytes.Replace(snapshot[5:5+size], []byte(old), []byte(with), n)
	out := binary.BigEndian.AppendUint32([]byte{snapshot[0]}, uint32(len(head)))
	return append(append(out, head...), snapshot[5+size:]...)
}

func TestRestoreRefusesAndChangesNothing(t *testing.T) {
	a := newFeeder(t)
	history(a)
	good := image(t, a.Machine)
	headless := append([]byte{1, 0, 0, 0, 8}, "nonsense"...)
	rows := 9 + int(binary.BigEndian.Uint32(good[1:])) // where they start
	tests := map[string][]byte{
		"empty":        nil,
		"other format": append([]byte{2}, good[1:]...),
		"cut short":    good[:len(good)-1],
		"trailing":     append(bytes.Clone(good), ' '),
		"no view":      spoil(good, string(good[5:rows-4]), `{"index":1,"hash":"`+strings.Repeat("00", 32)+`","view":null}`, 1),
		"not json":     append(headless, 0, 0, 0, 0),
		"length lies":  append([]byte{1, 0, 0, 0, 9}, good[5:]...),
		"huge":         append([]byte{1, 0xff, 0xff, 0xff, 0xff}, good[5:]...),
		"spaced":       spoil(good, `"index":`, `"index": `, 1),
		"nobody":       spoil(good, `"principals":[`, `"principals":[null,`, 1),
		"order":        spoil(good, `"number":3`, `"number":2`, 1),
		"no group":     spoil(good, `"directory":{"generation":1`, `"directory":{"generation":0`, 1),
		"no voter":     spoil(good, `"state":"voter"`, `"state":"leaving"`, -1),
		"no life":      spoil(good, life("n1", 1), "0", -1),
		"two of one":   spoil(good, `"id":"r4"`, `"id":"r3"`, 1),
		"stray":        spoil(good, life("n2", 1)+`","state":"leaving"`, life("n2", 1)+`","state":"preparing"`, 1),
		"node twice":   spoil(good, `"name":"n2"`, `"name":"n1"`, 1),
		"too late":     spoil(good, `"changed":1,`, `"changed":99,`, 1),
		"too early":    spoil(good, fmt.Sprintf(`"view":{"epoch":%d`, a.Load().Epoch), `"view":{"epoch":0`, 1),
		"lost slot":    spoil(good, `"slot_table":[0,`, `"slot_table":[9,`, 1),
		"no ledger":    good[:rows-4],
		"rows missing": good[:len(good)-rowBytes],
		"row twice":    append(append(bytes.Clone(good[:rows-1]), 4), append(bytes.Clone(good[rows:]), good[rows:rows+rowBytes]...)...),
		"more rows":    append(append(bytes.Clone(good[:rows-4]), 0, 16, 0, 1), good[rows:]...),
		"no field":     change1(good, rows+17, 9),
		"no shard":     change1(good, rows+19, 9),
		"no index":     append(append(bytes.Clone(good[:rows+24]), make([]byte, 8)...), good[rows+32:]...),
		"no life yet":  change1(good, rows+23, 2), // a later generation
	}
	for name, data := range tests {
		if bytes.Equal(data, good) {
			t.Errorf("%s: nothing is wrong", name)
		}
		m := New()
		before := m.Load()
		if err := m.Restore(bytes.NewReader(data)); err == nil || m.Load() != before || m.ErasureCount() != 0 {
			t.Errorf("%s: got %v, changed: %v", name, err, m.Load() != before)
		}
	}
}

// change1 returns data with one byte changed.
func change1(data []byte, at int, to byte) []byte {
	data = bytes.Clone(data)
	data[at] = to
	return data
}

func TestLookUpsDoNotAllocate(t *testing.T) {
	l := newFeeder(t)
	history(l)
	name, domain, credential := []byte("name"), []byte("research"), Digest{1}
	got := testing.AllocsPerRun(100, func() {
		v := l.Load()
		if v.Principal(&credential) == nil || v.Schema.Field(name) == nil {
			t.Fatal("not found")
		}
		if _, ok := v.Domain(domain); !ok {
			t.Fatal("no domain")
		}
	})
	if got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

// recoveryOf is a recovery secret that k of n shares restore.
func recoveryOf(k, n int) *Recovery {
	r := &Recovery{Recipient: "age1pq1xyz", Threshold: k}
	for i := range n {
		r.Shares = append(r.Shares, Digest{byte(i + 1)})
	}
	return r
}

func TestRecovery(t *testing.T) {
	l := newFeeder(t)
	for name, bad := range map[string]*Recovery{
		"no share": recoveryOf(0, 0), "too many": recoveryOf(2, 33), "no threshold": recoveryOf(0, 3),
		"more than there are": recoveryOf(4, 3), "no recipient": {Threshold: 1, Shares: []Digest{{1}}},
	} {
		t.Run(name, func(*testing.T) { l.want(Invalid, &Command{SetRecovery: bad}) })
	}
	if l.Load().Recovery != nil {
		t.Errorf("got %+v", l.Load().Recovery)
	}
	l.want(Done, &Command{SetRecovery: recoveryOf(2, 3)})
	l.want(Done, &Command{SetRecovery: recoveryOf(1, 1)})
	if got := l.Load().Recovery; got == nil || got.Threshold != 1 || len(got.Shares) != 1 {
		t.Errorf("got %+v", got)
	}
}
