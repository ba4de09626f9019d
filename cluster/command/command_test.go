package command

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloakroom"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func token(first byte) (t cloakroom.Token) {
	for i := range t {
		t[i] = first + byte(i)
	}
	return t
}

// samples are the commands of the golden file: every optional part is there
// once and absent once.
func samples() []Command {
	return []Command{
		{Kind: Put, SchemaEpoch: 7, Subject: token(1), Version: cloakroom.Version{1, 2, 3, 4, 5, 6, 7, 8},
			Fields: []Field{{token(2), []byte("sealed one")}, {token(3), nil}}},
		{Kind: Put, Flags: CreateOnly, Domain: 3, SchemaEpoch: 7, Subject: token(4),
			Version: cloakroom.Version{9}, KeyTag: KeyTag{8, 7}, Expiry: 1_800_000_000,
			Fields: []Field{{token(0x20), []byte("x")}}},
		{Kind: Merge, Flags: HasExpected, SchemaEpoch: 8, Subject: token(5),
			Version: cloakroom.Version{1}, Expected: cloakroom.Version{},
			Fields: []Field{{token(0x21), []byte("y")}}},
		{Kind: Erase, SchemaEpoch: 9, Subject: token(6), Fields: []Field{{token(0x22), nil}, {token(0x23), nil}}},
		{Kind: Time, Value: 1_800_000_000_123},
		{Kind: Bind, Flags: CreateOnly, Domain: 3, SchemaEpoch: 9, Subject: token(7), Version: cloakroom.Version{2},
			Fields: []Field{{token(0x24), []byte("z")}},
			Links: []Link{{Kind: Handle, Token: token(0x25), Record: []byte("sealed id")},
				{Kind: Alias, Domain: 0x0405, Token: token(0x26), Record: []byte("sealed too")}}},
		{Kind: Put, Flags: ReplaceOnly, SchemaEpoch: 9, Subject: token(8), Version: cloakroom.Version{3}},
	}
}

// golden compares got with a golden file of hex lines.
func golden(t *testing.T, name string, got [][]byte) {
	t.Helper()
	var text strings.Builder
	for _, line := range got {
		text.WriteString(hex.EncodeToString(line) + "\n")
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("%s: format changed:\n got %s\nwant %s", name, text.String(), want)
	}
}

func TestCommandGolden(t *testing.T) {
	var lines [][]byte
	for _, c := range samples() {
		lines = append(lines, c.Append(nil))
		if got, want := c.Size(), len(lines[len(lines)-1]); got != want {
			t.Errorf("%s: Size() = %d, want %d", c.Kind, got, want)
		}
	}
	golden(t, "command-1.golden", lines)
	golden(t, "batch-1.golden", [][]byte{AppendBatch(nil, samples()), AppendBatch(nil, nil)})
}

func TestSubjectGolden(t *testing.T) {
	links := samples()[5].Links
	golden(t, "subject-1.golden", [][]byte{
		(&SubjectRecord{Version: cloakroom.Version{1, 2, 3, 4, 5, 6, 7, 8}, Domain: 9}).Append(nil),
		(&SubjectRecord{Version: cloakroom.Version{1}, KeyTag: KeyTag{2}}).Append(nil),
		(&SubjectRecord{Version: cloakroom.Version{1}, Expiry: 1_800_000_000, Erased: true}).Append(nil),
		(&SubjectRecord{Version: cloakroom.Version{1}, KeyTag: KeyTag{2}, Expiry: 1_800_000_000}).Append(nil),
		(&SubjectRecord{Version: cloakroom.Version{1}, Links: Links(nil).AppendMerged(nil, links)}).Append(nil),
		(&SubjectRecord{Version: cloakroom.Version{1}, KeyTag: KeyTag{2}, Expiry: 1_800_000_000,
			Links: Links(nil).AppendMerged(nil, links[1:])}).Append(nil),
		links[0].AppendStored(nil),
		links[1].AppendStored(nil),
	})
}

// drawCommand makes any well-formed command.
func drawCommand(t *rapid.T) Command {
	bytes8 := rapid.SliceOfN(rapid.Byte(), 8, 8)
	tokens := rapid.SliceOfN(rapid.Byte(), 16, 16)
	c := Command{
		Kind:        Kind(rapid.IntRange(1, 10).Draw(t, "kind")),
		Flags:       Flags(rapid.SampledFrom([]int{0, 1, 2, 3, 32, 33, 34, 35}).Draw(t, "flags")),
		Domain:      cloakroom.Domain(rapid.Uint16().Draw(t, "domain")),
		SchemaEpoch: rapid.Uint32().Draw(t, "schema"),
		Subject:     cloakroom.Token(tokens.Draw(t, "subject")),
		Version:     cloakroom.Version(bytes8.Draw(t, "version")),
		KeyTag:      KeyTag(bytes8.Draw(t, "tag")),
		Expiry:      rapid.Uint32().Draw(t, "expiry"),
		Value:       rapid.Uint64().Draw(t, "value"),
	}
	if c.Flags&HasExpected != 0 {
		c.Expected = cloakroom.Version(bytes8.Draw(t, "expected"))
	}
	seen := map[cloakroom.Token]bool{c.Subject: true}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		f := Field{Token: cloakroom.Token(tokens.Draw(t, "token"))}
		if rec := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "record"); len(rec) > 0 {
			f.Record = rec
		}
		if !seen[f.Token] {
			seen[f.Token] = true
			c.Fields = append(c.Fields, f)
		}
	}
	for range rapid.IntRange(1, 4).Draw(t, "links") {
		if l := drawLink(t); c.Kind == Bind && !seen[l.Token] {
			seen[l.Token] = true
			c.Links = append(c.Links, l)
		}
	}
	if c.Kind == Bind && len(c.Links) == 0 {
		c.Kind = Put
	}
	c.SortFields()
	return c
}

func drawLink(t *rapid.T) Link {
	l := Link{
		Kind:   LinkKind(rapid.IntRange(1, 2).Draw(t, "link")),
		Token:  cloakroom.Token(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "link token")),
		Record: rapid.SliceOfN(rapid.Byte(), 1, MaxLinkRecordBytes).Draw(t, "link record"),
	}
	if l.Kind == Alias {
		l.Domain = cloakroom.Domain(rapid.Uint16().Draw(t, "link domain"))
	}
	return l
}

func TestCommandsSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawCommand(t)
		var got Command
		if err := Decode(want.Append(nil), &got); err != nil {
			t.Fatalf("Decode(%+v): %v", want, err)
		}
		if len(got.Fields) != len(want.Fields) {
			t.Fatalf("fields = %d, want %d", len(got.Fields), len(want.Fields))
		}
		for i, f := range want.Fields {
			if got.Fields[i].Token != f.Token || !bytes.Equal(got.Fields[i].Record, f.Record) ||
				(f.Record == nil) != (got.Fields[i].Record == nil) {
				t.Fatalf("field %d = %v, want %v", i, got.Fields[i], f)
			}
		}
		if !slices.EqualFunc(got.Links, want.Links, equalLinks) {
			t.Fatalf("links = %v, want %v", got.Links, want.Links)
		}
		got.Fields, want.Fields = nil, nil
		if got.Append(nil); !equalHeads(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func equalLinks(a, b Link) bool {
	return a.Kind == b.Kind && a.Domain == b.Domain && a.Token == b.Token && bytes.Equal(a.Record, b.Record)
}

func equalHeads(a, b Command) bool {
	return a.Kind == b.Kind && a.Flags == b.Flags && a.Domain == b.Domain &&
		a.SchemaEpoch == b.SchemaEpoch && a.Subject == b.Subject && a.Version == b.Version &&
		a.Expected == b.Expected && a.KeyTag == b.KeyTag && a.Expiry == b.Expiry && a.Value == b.Value
}

func TestDecodeRefuses(t *testing.T) {
	valid := samples()[0]
	encode := func(change func(*Command)) []byte {
		c := valid
		c.Fields = append([]Field(nil), valid.Fields...)
		change(&c)
		return c.Append(nil)
	}
	patch := func(at int, b byte) []byte {
		e := valid.Append(nil)
		e[at] = b
		return e
	}
	many := make([]Field, MaxFields+1)
	for i := range many {
		many[i].Token = cloakroom.Token{0xf0, byte(i)}
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"other format":     patch(0, 2),
		"kind 0":           patch(1, 0),
		"kind 11":          patch(1, 11),
		"unknown flag":     patch(2, 1<<7),
		"flag without tag": patch(2, byte(hasKeyTag)), // shifts the rest
		"cut short":        valid.Append(nil)[:40],
		"one byte more":    append(valid.Append(nil), 0),
		"fields unsorted":  encode(func(c *Command) { c.Fields[0], c.Fields[1] = c.Fields[1], c.Fields[0] }),
		"field twice":      encode(func(c *Command) { c.Fields[1] = c.Fields[0] }),
		"subject as field": encode(func(c *Command) { c.Fields[0].Token = c.Subject }),
		"too many fields":  encode(func(c *Command) { c.Fields = many }),
		"record too long":  encode(func(c *Command) { c.Fields[0].Record = make([]byte, MaxRecordBytes+1) }),
	} {
		var c Command
		if err := Decode(b, &c); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: Decode = %v, want ErrMalformed", name, err)
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, sample := range []Command{samples()[0], samples()[5]} {
		b := sample.Append(nil)
		c := Command{Fields: make([]Field, 0, 4), Links: make([]Link, 0, 4)}
		if n := testing.AllocsPerRun(100, func() {
			if Decode(b, &c) != nil {
				t.Fatal("malformed")
			}
		}); n != 0 {
			t.Errorf("Decode of a %s allocates %v times, want 0", sample.Kind, n)
		}
	}
}

func TestBatchHandsOutItsItemsInOrder(t *testing.T) {
	commands := samples()
	encoded := BeginBatch([]byte("before"))
	for i := range commands {
		if i%2 == 0 {
			encoded = AppendItem(encoded, &commands[i])
		} else {
			encoded = AppendEncoded(encoded, commands[i].Append(nil))
		}
	}
	EndBatch(encoded[len("before"):], len(commands))
	if want := AppendBatch([]byte("before"), commands); !bytes.Equal(encoded, want) {
		t.Fatal("the two ways to make a batch differ")
	}
	batch, err := OpenBatch(encoded[len("before"):])
	if err != nil || batch.Len() != len(commands) {
		t.Fatalf("OpenBatch = %d items, %v, want %d", batch.Len(), err, len(commands))
	}
	for i := range commands {
		item, ok := batch.Next()
		if want := commands[i].Append(nil); !ok || !bytes.Equal(item, want) {
			t.Errorf("item %d = %x, %t, want %x", i, item, ok, want)
		}
	}
	if _, ok := batch.Next(); ok {
		t.Error("a batch hands out more than it holds")
	}
}

func TestOpenBatchRefuses(t *testing.T) {
	valid := AppendBatch(nil, samples())
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"other format": append([]byte{2}, valid[1:]...),
		"cut short":    valid[:len(valid)-1],
		"more":         append(bytes.Clone(valid), 0),
		"huge count":   {1, 0xff, 0xff, 0xff, 0xff},
		"huge item":    {1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, err := OpenBatch(b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: OpenBatch = %v, want ErrMalformed", name, err)
		}
	}
}

func TestNamesAndErrors(t *testing.T) {
	for k := Put; k <= Time; k++ {
		if k.String() == "" || k.String() == "unknown" {
			t.Errorf("kind %d has no name", k)
		}
	}
	for c := Created; c <= TooManyLinks; c++ {
		if c.String() == "" || c.String() == "unknown" {
			t.Errorf("code %d has no name", c)
		}
	}
	if err := (Result{Code: Erased}).Err(Put); !errors.Is(err, cloakroom.ErrErased) {
		t.Errorf("put answered erased: %v, want ErrErased", err)
	}
	if err := (Result{Code: Erased}).Err(Erase); err != nil {
		t.Errorf("erase answered erased: %v, want nil", err)
	}
	for _, code := range []Code{Bound, Aliased, TooManyLinks} {
		if err := (Result{Code: code}).Err(Bind); !errors.Is(err, cloakroom.ErrConflict) || err == cloakroom.ErrConflict {
			t.Errorf("answered %s: %v, want ErrConflict with the reason", code, err)
		}
	}
	if err := (Result{}).Err(Put); err == nil {
		t.Error("an answer without a code is no error")
	}
}

func TestRecordsAt(t *testing.T) {
	r := Records{Buf: []byte("abcdef"), Spans: []Span{{1, 2}, {}, {3, 3}}, Time: 5}
	if got := string(r.At(0)) + "|" + string(r.At(2)); got != "bc|def" || r.At(1) != nil {
		t.Errorf("records = %q, %v, want bc|def, nil", got, r.At(1))
	}
	if got := cap(r.At(0)); got != 2 {
		t.Errorf("cap of a record = %d, want 2: an append would overwrite the next", got)
	}
	r.Reset()
	if len(r.Buf)+len(r.Spans) != 0 || r.Time != 0 {
		t.Errorf("after Reset: %+v", r)
	}
}
