package record

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cloakroom"
	"cloakroom/securemem/keyring"

	"github.com/go-json-experiment/json/jsontext"
)

// Nothing makes Open panic, and what opens was sealed: its value, sealed anew,
// has the same header and length.
func FuzzOpen(f *testing.F) {
	text, err := os.ReadFile(goldenRecords)
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		_, rec, _ := strings.Cut(line, " ")
		f.Add(unhex(f, rec))
	}
	room, _ := newTestRoom(f, true)
	dst := make([]byte, 0, MaxRecordBytes)
	f.Fuzz(func(t *testing.T, rec []byte) {
		if len(rec) > MaxRecordBytes {
			return
		}
		if len(rec) > 6 && rec[1]|rec[2]|rec[3]|rec[4]|rec[5] != 0 {
			rec[1], rec[2], rec[3], rec[4], rec[5] = 0, 1, 0, 0, 0 // deriving keys takes milliseconds
		}
		for _, c := range goldenCases {
			value, h, err := room.Open(dst, c.tok, c.field, rec)
			if err != nil {
				if !errors.Is(err, ErrRecord) && !errors.Is(err, keyring.ErrUnknownKey) {
					t.Fatalf("Open: %v", err)
				}
				continue
			}
			again := h.append(nil)
			if !bytes.HasPrefix(rec, again) || SealedSize(len(value), h.Expiry, h.Fine) != len(rec) {
				t.Fatalf("%x opens, but would not be sealed like this", rec)
			}
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add((&Header{Epoch: 1, Sealing: 7}).append(nil))
	f.Add(append((&Header{Epoch: 1, Sealing: 7, Domain: 3, Expiry: 1_800_000_000}).append(nil), make([]byte, 44)...))
	f.Add(append((&Header{Epoch: 1, Sealing: 7, Domain: 3, Expiry: 1_800_000_000, Fine: true}).append(nil), make([]byte, 92)...))
	f.Fuzz(func(t *testing.T, rec []byte) {
		h, n, err := parseHeader(rec)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("ParseHeader: %v", err)
			}
			return
		}
		beyond := n == fixedHeader+2 && h.Expiry == 1<<32-1 // a day that 32 bits of seconds do not reach
		if again := h.append(nil); !bytes.Equal(again, rec[:n]) && !beyond {
			t.Errorf("%x encodes to %x", rec[:n], again)
		}
	})
}

func FuzzOpenBatch(f *testing.F) {
	text, err := os.ReadFile(goldenBatch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unhex(f, strings.TrimSpace(string(text))))
	f.Add([]byte{batchFormat})
	room, _ := newTestRoom(f, true)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if len(sealed) > 6 {
			sealed[1], sealed[2], sealed[3], sealed[4], sealed[5] = 0, 1, 0, 0, 0
		}
		batch, err := room.OpenBatch(nil, 3, 9, sealed)
		if err != nil {
			if !errors.Is(err, ErrBatch) && !errors.Is(err, keyring.ErrUnknownKey) {
				t.Fatalf("OpenBatch: %v", err)
			}
			return
		}
		if batchHeaderBytes+nonceBytes+batchClass(len(batch))+tagBytes != len(sealed) {
			t.Fatalf("%x opens, but would not be sealed like this", sealed)
		}
	})
}

func FuzzCheckText(f *testing.F) {
	for _, s := range []string{"Ada Lovelace", "a\x00", "a\u0085b", "\xff", "李", "a\ufffd"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		want := len(value) > 0 && len(value) <= MaxValueBytes && utf8.Valid(value) &&
			!strings.ContainsFunc(string(value), unicode.IsControl)
		if got := Check(Text, value, 0) == nil; got != want {
			t.Errorf("Check(text, %q) = %v, reference says %v", value, got, want)
		}
	})
}

func FuzzCheckEmail(f *testing.F) {
	for _, s := range []string{"ada@example.org", "δοκιμή@παράδειγμα.δοκιμή", "a..b@c.d", "a@b", "a@1.2", "a@-b.c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if got, want := Check(Email, value, 0) == nil, referenceEmail(string(value)); got != want {
			t.Errorf("Check(email, %q) = %v, reference says %v", value, got, want)
		}
	})
}

// referenceEmail is the same rule, written with strings and expressions.
func referenceEmail(s string) bool {
	if len(s) > 254 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.Count(s, "@") != 1 {
		return false
	}
	local, host, _ := strings.Cut(s, "@")
	if len(local) > 64 {
		return false
	}
	for _, atom := range strings.Split(local, ".") {
		if !referenceAtom.MatchString(atom) || strings.ContainsFunc(atom, notVisible) {
			return false
		}
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) > 63 || !referenceLabel.MatchString(label) {
			return false
		}
	}
	return len(labels) >= 2 && !referenceDigits.MatchString(labels[len(labels)-1])
}

func notVisible(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }

var (
	referenceAtom   = regexp.MustCompile("^(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\\x00-\\x7f])+$")
	referenceLabel  = regexp.MustCompile(`^(?:[A-Za-z0-9]|[\p{L}\p{M}\p{Nd}])(?:[A-Za-z0-9-]|[\p{L}\p{M}\p{Nd}])*$`)
	referenceDigits = regexp.MustCompile(`^[0-9]+$`)
	referencePhone  = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)
)

func FuzzCheckPhone(f *testing.F) {
	for _, s := range []string{"+14155550123", "+0", "+12", "12", "+1234567890123456"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		want := referencePhone.Match(value)
		if got := Check(Phone, value, 0) == nil; got != want {
			t.Errorf("Check(phone, %q) = %v, reference says %v", value, got, want)
		}
	})
}

func FuzzCheckDate(f *testing.F) {
	for _, s := range []string{"1815-12-10", "1900-02-29", "2000-02-29", "0000-01-01", "2023-13-01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		_, err := time.Parse(time.DateOnly, string(value))
		if got := Check(Date, value, 0) == nil; got != (err == nil) {
			t.Errorf("Check(date, %q) = %v, time.Parse says %v", value, got, err)
		}
	})
}

// Two readers of JSON must agree, the strict one on everything but our limits.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[true,null]}`, `{"a":1,"\u0061":2}`, `"\ud83d\ude00"`, `"\ud83d"`, "[1,]", " null", "-0.5e-3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		err := Check(JSON, value, 0)
		if strict := jsontext.Value(value).IsValid(); err == nil != strict {
			switch {
			case strict && (err == reasonNull || err == reasonDeep || err == reasonMembers || err == reasonLong):
			default:
				t.Errorf("Check(json, %q) = %v, jsontext says %v", value, err, strict)
			}
		}
		if err == nil && !json.Valid(value) {
			t.Errorf("Check(json, %q) accepts what encoding/json refuses", value)
		}
	})
}

// A mask keeps the JSON type, stays within its bound, shows no more than it
// says, and takes anything without a panic.
func FuzzMask(f *testing.F) {
	for typ, value := range checked {
		f.Add(byte(typ), value)
	}
	f.Add(byte(JSON), []byte(`{"a":{"b":["c",1.5e3,true]}}`))
	f.Add(byte(JSON), []byte(`"\`))
	f.Add(byte(Text), []byte("e\u0301\xff"))
	f.Fuzz(func(t *testing.T, typ byte, value []byte) {
		dst := make([]byte, 0, MaskBound(Type(typ), len(value)))
		got, err := Mask(dst, Type(typ), value)
		if err != nil {
			t.Fatalf("Mask: %v", err)
		}
		if len(got) > cap(dst) {
			t.Fatalf("%d bytes, bound %d", len(got), cap(dst))
		}
		if Check(Type(typ), value, 0) != nil {
			return
		}
		switch Type(typ) {
		case JSON:
			if jsontext.Value(got).Kind() != maskedKind(value) || !jsontext.Value(got).IsValid() {
				t.Errorf("mask of %q is %q", value, got)
			}
		case Text:
			if n := utf8.RuneCount(value); n < 4 && string(got) != fullMask || !utf8.Valid(got) {
				t.Errorf("mask of %q is %q", value, got)
			}
		}
	})
}

// maskedKind is the kind of a JSON value, with all booleans false.
func maskedKind(value []byte) jsontext.Kind {
	if k := jsontext.Value(value).Kind(); k != 't' {
		return k
	}
	return 'f'
}

func FuzzDecodeSealed(f *testing.F) {
	for _, s := range []string{"AAEC", "AA==", "AA=A", "AAEC\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want, wantErr := base64.StdEncoding.Strict().DecodeString(string(text))
		if len(text) == 0 || bytes.ContainsAny(text, "\r\n") {
			wantErr = errors.New("refused here")
		}
		got, err := DecodeSealed(bytes.Clone(text))
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("DecodeSealed(%q) = %q, %v, reference %q, %v", text, got, err, want, wantErr)
		}
		if err != nil && !errors.Is(err, cloakroom.ErrSchema) {
			t.Errorf("DecodeSealed(%q) = %v, want ErrSchema", text, err)
		}
	})
}
