package command

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"cloakroom"

	"pgregory.net/rapid"
)

func TestDecodeRefusesLinks(t *testing.T) {
	encode := func(change func(*Command)) []byte {
		c := samples()[5]
		c.Links = slices.Clone(c.Links)
		change(&c)
		return c.Append(nil)
	}
	many := make([]Link, MaxLinks+1)
	for i := range many {
		many[i] = Link{Kind: Handle, Token: cloakroom.Token{0xf0, byte(i)}, Record: []byte("x")}
	}
	full := encode(func(c *Command) { c.Links = many[:MaxLinks] })
	var c Command
	if err := Decode(full, &c); err != nil || len(c.Links) != MaxLinks {
		t.Fatalf("Decode of the most links = %v, %d links", err, len(c.Links))
	}
	for name, b := range map[string][]byte{
		"none":                 encode(func(c *Command) { c.Links = nil }),
		"too many":             encode(func(c *Command) { c.Links = many }),
		"far too many":         encode(func(c *Command) { c.Links = slices.Repeat(many, 4)[:256+1] }),
		"of a put":             encode(func(c *Command) { c.Kind = Put }),
		"unsorted":             encode(func(c *Command) { slices.Reverse(c.Links) }),
		"twice":                encode(func(c *Command) { c.Links[1].Token = c.Links[0].Token }),
		"the subject itself":   encode(func(c *Command) { c.Links[0].Token = c.Subject }),
		"a field":              encode(func(c *Command) { c.Links[0].Token = c.Fields[0].Token }),
		"the last field":       encode(func(c *Command) { c.Fields = append(c.Fields, Field{Token: c.Links[1].Token}) }),
		"kind 0":               encode(func(c *Command) { c.Links[0].Kind = 0 }),
		"kind 3":               encode(func(c *Command) { c.Links[1].Kind = 3 }),
		"handle with a domain": encode(func(c *Command) { c.Links[0].Domain = 1 }),
		"empty record":         encode(func(c *Command) { c.Links[0].Record = nil }),
		"long record":          encode(func(c *Command) { c.Links[1].Record = make([]byte, MaxLinkRecordBytes+1) }),
		"long record first":    encode(func(c *Command) { c.Links[0].Record = make([]byte, 3*256) }),
		"cut short":            full[:len(full)-1],
		"one byte more":        append(bytes.Clone(full), 0),
	} {
		if err := Decode(b, &c); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: Decode = %v, want ErrMalformed", name, err)
		}
	}
}

func TestDecodeSubjectRefusesLinks(t *testing.T) {
	links := samples()[5].Links
	record := func(erased bool, links []byte) []byte {
		return (&SubjectRecord{Erased: erased, Links: links}).Append(nil)
	}
	both := Links(nil).AppendMerged(nil, links)
	many := make([]Link, MaxLinks+1)
	for i := range many {
		many[i] = Link{Kind: Handle, Token: cloakroom.Token{0xf0, byte(i)}}
	}
	flagless := record(false, both)
	flagless[0] &^= subjectHasLinks
	for name, b := range map[string][]byte{
		"of an erased one":  record(true, both),
		"cut short":         record(false, both[:len(both)-1]),
		"out of order":      record(false, append(bytes.Clone(both[17:]), both[:17]...)),
		"twice":             record(false, append(bytes.Clone(both[:17]), both[:17]...)),
		"of kind 3":         record(false, append([]byte{3}, both[1:]...)),
		"too many":          record(false, Links(nil).AppendMerged(nil, many)),
		"without the flag":  flagless,
		"the flag alone":    {formatSubject<<4 | subjectHasLinks, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a handle":          links[0].AppendStored(nil),
		"an empty alias":    {formatAlias << 4, 0, 1},
		"a long alias":      append([]byte{formatAlias << 4, 0, 1}, make([]byte, MaxLinkRecordBytes+1)...),
		"an alias' flag":    {formatAlias<<4 | 1, 0, 1, 'x'},
		"of another format": {4 << 4, 0, 1, 'x'},
	} {
		if s, err := DecodeSubject(b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: DecodeSubject = %+v, %v, want ErrMalformed", name, s, err)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "an empty one": {formatHandle << 4}, "a flag": {formatHandle<<4 | 1, 'x'},
		"a long one": append([]byte{formatHandle << 4}, make([]byte, MaxLinkRecordBytes+1)...),
		"an alias":   links[1].AppendStored(nil),
	} {
		if _, err := DecodeHandle(b); !errors.Is(err, cloakroom.ErrMalformed) {
			t.Errorf("%s: DecodeHandle = %v, want ErrMalformed", name, err)
		}
	}
}

// The largest subject record is as large as MaxSubjectRecord says.
func TestLargestSubjectRecord(t *testing.T) {
	many := make([]Link, MaxLinks)
	for i := range many {
		many[i] = Link{Kind: Alias, Token: cloakroom.Token{byte(i)}}
	}
	s := SubjectRecord{KeyTag: KeyTag{1}, Expiry: 1, Links: Links(nil).AppendMerged(nil, many)}
	if got := s.Append(nil); len(got) != MaxSubjectRecord || s.Size() != MaxSubjectRecord {
		t.Errorf("%d bytes, size %d, want %d", len(got), s.Size(), MaxSubjectRecord)
	}
}

// However links come together, their record lists them in order, and says what
// they were.
func TestLinksMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfNDistinct(rapid.Byte(), 1, MaxLinks, rapid.ID).Draw(t, "tokens")
		var got Links
		for rest := tokens; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "at once")
			c := Command{}
			for _, first := range rest[:n] {
				c.Links = append(c.Links, Link{Kind: Handle + LinkKind(first&1), Token: cloakroom.Token{first}})
			}
			c.SortFields()
			got, rest = got.AppendMerged(nil, c.Links), rest[n:]
		}
		slices.Sort(tokens)
		if got.Len() != len(tokens) || !got.valid() {
			t.Fatalf("%d links of %d, %x", got.Len(), len(tokens), got)
		}
		for i, first := range tokens {
			if kind, token := got.At(i); token != (cloakroom.Token{first}) || kind != Handle+LinkKind(first&1) {
				t.Fatalf("link %d = %d, %x, want %x", i, kind, token, first)
			}
		}
	})
}

func TestSubjectRecordsAreToldApart(t *testing.T) {
	zero := SubjectRecord{}
	if !zero.IsZero() || !zero.Equal(&SubjectRecord{Links: Links{}}) {
		t.Error("no subject is one")
	}
	for i, s := range []SubjectRecord{
		{Version: cloakroom.Version{1}}, {Domain: 1}, {KeyTag: KeyTag{1}}, {Expiry: 1}, {Erased: true}, {Alias: true},
		{Links: make(Links, 17)}, {Sealed: []byte{0}},
	} {
		if s.IsZero() || s.Equal(&zero) || !s.Equal(&s) {
			t.Errorf("record %d passes for none", i)
		}
	}
}
