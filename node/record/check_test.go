package record

import (
	"errors"
	"strings"
	"testing"

	"cloakroom"
)

// checkCase is a value and why it is refused, "" when it is not.
type checkCase struct {
	value string
	want  Reason
}

func testCheck(t *testing.T, typ Type, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		err := Check(typ, []byte(c.value), 100)
		if c.want == "" {
			if err != nil {
				t.Errorf("Check(%v, %q) = %v, want nil", typ, c.value, err)
			}
			continue
		}
		if err != c.want || !errors.Is(err, cloakroom.ErrSchema) {
			t.Errorf("Check(%v, %q) = %v, want %v", typ, c.value, err, c.want)
		}
	}
}

func TestCheckText(t *testing.T) {
	testCheck(t, Text, []checkCase{
		{"Ada Lovelace", ""},
		{"Ἀριστοτέλης 李清照 👩‍🚀", ""},
		{"a\u00a0b", ""},
		{"", reasonEmpty},
		{"a\x00b", reasonControl},
		{"a\nb", reasonControl},
		{"a\x7f", reasonControl},
		{"a\u0085", reasonControl},
		{"a\xff", reasonUTF8},
		{"a\xc3", reasonUTF8},
		{"\xed\xa0\x80", reasonUTF8},
		{"a\ufffd", ""}, // the character itself is valid
		{strings.Repeat("x", 100), ""},
		{strings.Repeat("x", 101), reasonLong},
	})
}

func TestCheckEmail(t *testing.T) {
	testCheck(t, Email, []checkCase{
		{"ada@example.org", ""},
		{"ada.o'neil+list@sub-domain.example.co.uk", ""},
		{"δοκιμή@παράδειγμα.δοκιμή", ""},
		{strings.Repeat("x", 64) + "@example.org", ""},
		{strings.Repeat("x", 65) + "@example.org", reasonEmail},
		{"a@" + strings.Repeat("x", 63) + ".org", ""},
		{"a@" + strings.Repeat("x", 64) + ".org", reasonEmail},
		{"ada", reasonEmail},
		{"@example.org", reasonEmail},
		{"ada@", reasonEmail},
		{"ada@localhost", reasonEmail},
		{"ada@@example.org", reasonEmail},
		{"ada@example..org", reasonEmail},
		{"ada@.example.org", reasonEmail},
		{"ada@example.org.", reasonEmail},
		{"ada@-example.org", reasonEmail},
		{"ada@example-.org", reasonEmail},
		{"ada@exa_mple.org", reasonEmail},
		{"ada@10.0.0.1", reasonEmail},
		{"ada@[10.0.0.1]", reasonEmail},
		{".ada@example.org", reasonEmail},
		{"ada.@example.org", reasonEmail},
		{"a..da@example.org", reasonEmail},
		{`"ada"@example.org`, reasonEmail},
		{"a da@example.org", reasonEmail},
		{"a\u2003da@example.org", reasonEmail},
		{"Ada <ada@example.org>", reasonEmail},
		{"ada@exam\tple.org", reasonControl},
		{"ada\xff@example.org", reasonUTF8},
	})
}

func TestCheckPhone(t *testing.T) {
	testCheck(t, Phone, []checkCase{
		{"+14155550123", ""},
		{"+12", ""},
		{"+123456789012345", ""},
		{"+1234567890123456", reasonPhone},
		{"+1", reasonPhone},
		{"14155550123", reasonPhone},
		{"+04155550123", reasonPhone},
		{"+1 415 555 0123", reasonPhone},
		{"+1415555012a", reasonPhone},
		{"++4155550123", reasonPhone},
	})
}

func TestCheckDate(t *testing.T) {
	testCheck(t, Date, []checkCase{
		{"1815-12-10", ""},
		{"2000-02-29", ""},
		{"1900-02-29", reasonDate},
		{"2023-02-29", reasonDate},
		{"2023-04-31", reasonDate},
		{"2023-00-01", reasonDate},
		{"2023-13-01", reasonDate},
		{"2023-01-00", reasonDate},
		{"2023-1-01", reasonDate},
		{"2023-01-01T", reasonDate},
		{"2023/01/01", reasonDate},
		{"-023-01-01", reasonDate},
	})
}

func TestCheckJSON(t *testing.T) {
	testCheck(t, JSON, []checkCase{
		{`{"street":"1 High St","lines":[1,-2.5e+3,true,null]}`, ""},
		{" [ ] \n", ""},
		{`"text"`, ""},
		{"0", ""},
		{"null", reasonNull},
		{" null ", reasonNull},
		{"nul", reasonJSON},
		{" ", reasonJSON},
		{"{}{}", reasonJSON},
		{"[1,]", reasonJSON},
		{`{"a":1,}`, reasonJSON},
		{`{"a" 1}`, reasonJSON},
		{`{a:1}`, reasonJSON},
		{"[01]", reasonJSON},
		{"[1.]", reasonJSON},
		{"[.5]", reasonJSON},
		{"[+1]", reasonJSON},
		{"[1e]", reasonJSON},
		{"[NaN]", reasonJSON},
		{"['a']", reasonJSON},
		{"[1]//", reasonJSON},
		{"[\"a\nb\"]", reasonJSON},
		{`["\x"]`, reasonJSON},
		{`["\u12g4"]`, reasonJSON},
		{`["\ud83d\ude00"]`, ""},
		{`["\ud83d"]`, reasonJSON},
		{`["\ude00"]`, reasonJSON},
		{"[\"\xff\"]", reasonJSON},
		{`["a`, reasonJSON},
		{`["a\`, reasonJSON},
		{`{"a":1,"b":{"a":2},"c":[{"a":3}]}`, ""},
		{`{"a":1,"a":2}`, reasonRepeated},
		{`{"a":1,"\u0061":2}`, reasonRepeated},
		{`{"\ud83d\ude00":1,"😀":2}`, reasonRepeated},
		{`{"":1,"":2}`, reasonRepeated},
		{`{"a\u0000":1,"a":2}`, ""},
		{strings.Repeat("[", 32) + strings.Repeat("]", 32), ""},
		{strings.Repeat("[", 33) + strings.Repeat("]", 33), reasonDeep},
	})
}

func TestCheckSealedAndUnknown(t *testing.T) {
	testCheck(t, Sealed, []checkCase{{"\x00\xff", ""}, {"", reasonEmpty}})
	testCheck(t, 0, []checkCase{{"x", reasonType}})
	testCheck(t, 7, []checkCase{{"x", reasonType}})
}

func TestCheckLimits(t *testing.T) {
	value := make([]byte, MaxValueBytes+1)
	for i := range value {
		value[i] = 'x'
	}
	for _, limit := range []int{0, -1, MaxValueBytes, 1 << 20} {
		if err := Check(Text, value[:MaxValueBytes], limit); err != nil {
			t.Errorf("the longest value, limit %d: %v", limit, err)
		}
		if err := Check(Text, value, limit); err != reasonLong {
			t.Errorf("a longer value, limit %d: %v", limit, err)
		}
	}
	email := []byte("a@" + strings.Repeat("example.", 31) + "org")
	if len(email) != maxEmail-1 {
		t.Fatal(len(email))
	}
	if err := Check(Email, append(email, 'x'), 0); err != nil {
		t.Errorf("an address of 254 bytes: %v", err)
	}
	if err := Check(Email, append(email, "yz"...), 0); err != reasonLong {
		t.Errorf("an address of 255 bytes: %v", err)
	}
}

func TestJSONNames(t *testing.T) {
	object := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			b.WriteByte("{,"[min(i, 1)])
			b.WriteByte('"')
			b.WriteString(strings.Repeat("n", 1+i))
			b.WriteString(`":0`)
		}
		b.WriteByte('}')
		return []byte(b.String())
	}
	if err := Check(JSON, object(MaxJSONNames), 0); err != nil {
		t.Errorf("%d members: %v", MaxJSONNames, err)
	}
	if err := Check(JSON, object(MaxJSONNames+1), 0); err != reasonMembers {
		t.Errorf("one more: %v, want %v", err, reasonMembers)
	}
	// Members of objects that are closed do not count.
	many := []byte("[" + strings.Repeat(`{"a":1,"b":2},`, MaxJSONNames) + "0]")
	if err := Check(JSON, many, 0); err != nil {
		t.Errorf("many objects: %v", err)
	}
}

func TestTypes(t *testing.T) {
	for typ := Text; typ <= Sealed; typ++ {
		if got, err := ParseType(typ.String()); err != nil || got != typ {
			t.Errorf("ParseType(%q) = %v, %v", typ, got, err)
		}
		if typ.RawJSON() != (typ == JSON) {
			t.Errorf("%v.RawJSON() = %v", typ, typ.RawJSON())
		}
	}
	for _, name := range []string{"", "TEXT", "unknown"} {
		if _, err := ParseType(name); !errors.Is(err, cloakroom.ErrSchema) {
			t.Errorf("ParseType(%q) = %v, want ErrSchema", name, err)
		}
	}
	if Type(0).String() != "unknown" || Type(7).String() != "unknown" {
		t.Error("numbers that are no type have a name")
	}
}

func TestMask(t *testing.T) {
	for _, c := range []struct {
		t           Type
		value, want string
	}{
		{Text, "Ada Lovelace", "A***"},
		{Text, "Ada", "***"},
		{Text, "Adam", "A***"},
		{Text, "李清照", "***"},   // three characters, nine bytes
		{Text, "欧阳修之", "欧***"}, // four
		{Text, "e\u0301a\u0300o", "***"},
		{Text, "e\u0301a\u0300oo", "e\u0301***"},
		{Text, "👩\u200d🚀a", "***"},
		{Text, "", "***"},
		{Email, "ada.l@example.org", "a***@***.org"},
		{Email, "ada@example.org", "***@***.org"},
		{Email, "δοκιμή@παράδειγμα.δοκιμή", "δ***@***.δοκιμή"},
		{Email, "broken", "***"},
		{Phone, "+14155550123", "+***23"},
		{Phone, "+123456", "+***"},
		{Date, "1815-12-10", "1815-**-**"},
		{Date, "broken", "***"},
		{JSON, `{"zip":"12345","n":7}`, `{"zip":"***","n":0}`},
		{JSON, `{"a" : {"b":[true,false,null,-1.5e+3,"x\"y"]}}`, `{"a" : {"b":[false,false,null,0,"***"]}}`},
		{JSON, `"text"`, `"***"`},
		{JSON, `12`, `0`},
		{JSON, `true`, `false`},
		{JSON, `{"a\"b":"c:"}`, `{"a\"b":"***"}`},
		{JSON, `["",""]`, `["***","***"]`},
		{Sealed, "\x00\x01\x02\x03\x04", "***"},
	} {
		before := []byte("before")
		dst := append(make([]byte, 0, len(before)+MaskBound(c.t, len(c.value))), before...)
		got, err := Mask(dst, c.t, []byte(c.value))
		if err != nil || string(got) != c.want {
			t.Errorf("Mask(%v, %q) = %q, %v, want %q", c.t, c.value, got, err, c.want)
			continue
		}
		if &got[0] != &dst[:cap(dst)][len(before)] {
			t.Errorf("Mask(%v, %q) moved dst", c.t, c.value)
		}
	}
	if _, err := Mask(make([]byte, 0, 10), Text, []byte("Ada Lovelace")); !errors.Is(err, cloakroom.ErrTooLarge) {
		t.Errorf("Mask into a short dst = %v, want ErrTooLarge", err)
	}
}

func TestSealedText(t *testing.T) {
	for _, c := range []struct {
		text, want string
		ok         bool
	}{
		{"AAEC", "\x00\x01\x02", true},
		{"AAECAw==", "\x00\x01\x02\x03", true},
		{"/+8=", "\xff\xef", true},
		{"", "", false},
		{"AAE", "", false},
		{"AAECA===", "", false},
		{"AAECAx==", "", false}, // stray bits
		{"AA==AAEC", "", false},
		{"AAEC\nAAE", "", false},
		{"AAEC\nAA\r", "", false},
		{"_-8=", "", false},
		{"A A=", "", false},
	} {
		got, err := DecodeSealed([]byte(c.text))
		if (err == nil) != c.ok || string(got) != c.want {
			t.Errorf("DecodeSealed(%q) = %q, %v", c.text, got, err)
		}
		if c.ok && string(AppendSealed(nil, got)) != c.text {
			t.Errorf("AppendSealed(%q) = %s", got, AppendSealed(nil, got))
		}
	}
}
