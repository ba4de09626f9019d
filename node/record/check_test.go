package record

import (
	"errors"
	"strings"
	"testing"

	"cloakroom"
)

func TestCheck(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		t     Type
		value string
		want  Reason
	}{
		{Text, "Ada Lovelace", ""},
		{Text, "Ἀριστοτέλης 李清照 👩‍🚀", ""},
		{Text, "a\u00a0b", ""},
		{Text, "", reasonEmpty},
		{Text, "a\x00b", reasonControl},
		{Text, "a\nb", reasonControl},
		{Text, "a\x7f", reasonControl},
		{Text, "a\u0085", reasonControl},
		{Text, "a\xff", reasonUTF8},
		{Text, "a\xc3", reasonUTF8},
		{Text, "\xed\xa0\x80", reasonUTF8},
		{Text, "a\ufffd", ""}, // the character itself is valid
		{Text, long(100), ""},
		{Text, long(101), reasonLong},

		{Email, "ada@example.org", ""},
		{Email, "ada.o'neil+list@sub-domain.example.co.uk", ""},
		{Email, "δοκιμή@παράδειγμα.δοκιμή", ""},
		{Email, long(64) + "@example.org", ""},
		{Email, long(65) + "@example.org", reasonEmail},
		{Email, "a@" + long(63) + ".org", ""},
		{Email, "a@" + long(64) + ".org", reasonEmail},
		{Email, "ada", reasonEmail},
		{Email, "@example.org", reasonEmail},
		{Email, "ada@", reasonEmail},
		{Email, "ada@localhost", reasonEmail},
		{Email, "ada@@example.org", reasonEmail},
		{Email, "ada@example..org", reasonEmail},
		{Email, "ada@.example.org", reasonEmail},
		{Email, "ada@example.org.", reasonEmail},
		{Email, "ada@-example.org", reasonEmail},
		{Email, "ada@example-.org", reasonEmail},
		{Email, "ada@exa_mple.org", reasonEmail},
		{Email, "ada@10.0.0.1", reasonEmail},
		{Email, "ada@[10.0.0.1]", reasonEmail},
		{Email, ".ada@example.org", reasonEmail},
		{Email, "ada.@example.org", reasonEmail},
		{Email, "a..da@example.org", reasonEmail},
		{Email, `"ada"@example.org`, reasonEmail},
		{Email, "a da@example.org", reasonEmail},
		{Email, "a\u2003da@example.org", reasonEmail},
		{Email, "Ada <ada@example.org>", reasonEmail},
		{Email, "ada@exam\tple.org", reasonControl},
		{Email, "ada\xff@example.org", reasonUTF8},

		{Phone, "+14155550123", ""},
		{Phone, "+12", ""},
		{Phone, "+123456789012345", ""},
		{Phone, "+1234567890123456", reasonPhone},
		{Phone, "+1", reasonPhone},
		{Phone, "14155550123", reasonPhone},
		{Phone, "+04155550123", reasonPhone},
		{Phone, "+1 415 555 0123", reasonPhone},
		{Phone, "+1415555012a", reasonPhone},
		{Phone, "++4155550123", reasonPhone},

		{Date, "1815-12-10", ""},
		{Date, "2000-02-29", ""},
		{Date, "1900-02-29", reasonDate},
		{Date, "2023-02-29", reasonDate},
		{Date, "2023-04-31", reasonDate},
		{Date, "2023-00-01", reasonDate},
		{Date, "2023-13-01", reasonDate},
		{Date, "2023-01-00", reasonDate},
		{Date, "2023-1-01", reasonDate},
		{Date, "2023-01-01T", reasonDate},
		{Date, "2023/01/01", reasonDate},
		{Date, "-023-01-01", reasonDate},

		{JSON, `{"street":"1 High St","lines":[1,-2.5e+3,true,null]}`, ""},
		{JSON, " [ ] \n", ""},
		{JSON, `"text"`, ""},
		{JSON, "0", ""},
		{JSON, "null", reasonNull},
		{JSON, " null ", reasonNull},
		{JSON, "nul", reasonJSON},
		{JSON, " ", reasonJSON},
		{JSON, "{}{}", reasonJSON},
		{JSON, "[1,]", reasonJSON},
		{JSON, `{"a":1,}`, reasonJSON},
		{JSON, `{"a" 1}`, reasonJSON},
		{JSON, `{a:1}`, reasonJSON},
		{JSON, "[01]", reasonJSON},
		{JSON, "[1.]", reasonJSON},
		{JSON, "[.5]", reasonJSON},
		{JSON, "[+1]", reasonJSON},
		{JSON, "[1e]", reasonJSON},
		{JSON, "[NaN]", reasonJSON},
		{JSON, "['a']", reasonJSON},
		{JSON, "[1]//", reasonJSON},
		{JSON, "[\"a\nb\"]", reasonJSON},
		{JSON, `["\x"]`, reasonJSON},
		{JSON, `["\u12g4"]`, reasonJSON},
		{JSON, `["\ud83d\ude00"]`, ""},
		{JSON, `["\ud83d"]`, reasonJSON},
		{JSON, `["\ude00"]`, reasonJSON},
		{JSON, "[\"\xff\"]", reasonJSON},
		{JSON, `["a`, reasonJSON},
		{JSON, `["a\`, reasonJSON},
		{JSON, `{"a":1,"b":{"a":2},"c":[{"a":3}]}`, ""},
		{JSON, `{"a":1,"a":2}`, reasonRepeated},
		{JSON, `{"a":1,"\u0061":2}`, reasonRepeated},
		{JSON, `{"\ud83d\ude00":1,"😀":2}`, reasonRepeated},
		{JSON, `{"":1,"":2}`, reasonRepeated},
		{JSON, `{"a\u0000":1,"a":2}`, ""},
		{JSON, strings.Repeat("[", 32) + strings.Repeat("]", 32), ""},
		{JSON, strings.Repeat("[", 33) + strings.Repeat("]", 33), reasonDeep},

		{Sealed, "\x00\xff", ""},
		{Sealed, "", reasonEmpty},
		{0, "x", reasonType},
		{7, "x", reasonType},
	} {
		err := Check(c.t, []byte(c.value), 100)
		if c.want == "" {
			if err != nil {
				t.Errorf("Check(%v, %q) = %v, want nil", c.t, c.value, err)
			}
			continue
		}
		if err != c.want || !errors.Is(err, cloakroom.ErrSchema) {
			t.Errorf("Check(%v, %q) = %v, want %v", c.t, c.value, err, c.want)
		}
	}
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
	email := []byte("a@" + strings.Repeat("xxxxxxx.", 31) + "org")
	if len(email) != maxEmail-1 {
		t.Fatal(len(email))
	}
	if err := Check(Email, append(email, 'x'), 0); err != nil {
		t.Errorf("an address of 254 bytes: %v", err)
	}
	if err := Check(Email, append(email, "xx"...), 0); err != reasonLong {
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
