package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"cloakroom"

	"github.com/go-json-experiment/json/jsontext"
)

// testDecoder is a decoder whose spare memory is on the heap, as long as was
// asked for and asked for once.
func testDecoder() *decoder {
	d := new(decoder)
	d.spare = func(n int) ([]byte, error) { return make([]byte, n), nil }
	return d
}

// reference decodes a resolve with jsontext, one obvious step at a time, and
// reports what must come out of ours. ok is false for what must be refused.
func reference(body []byte) (ids, names []string, form, purpose string, ok bool) {
	raw := make(map[string]jsontext.Value)
	if !splitObject(body, raw) {
		return
	}
	var present bool
	for name, value := range raw {
		switch name {
		case "ids":
			if ids, present = stringsOf(value); !present {
				return
			}
		case "fields":
			if names, present = stringsOf(value); !present {
				return
			}
		case "form", "purpose":
			text, isString := stringOf(value)
			if !isString || !isWord([]byte(text)) {
				return
			}
			if name == "form" {
				form = text
			} else {
				purpose = text
			}
		default:
			return
		}
	}
	seen := make(map[string]bool)
	for _, name := range names {
		if !isWord([]byte(name)) || seen[name] {
			return
		}
		seen[name] = true
	}
	ok = len(ids) > 0 && len(ids) <= cloakroom.MaxResolveIDs && len(names) > 0 && len(names) <= cloakroom.MaxFields
	for _, id := range ids {
		_, err := cloakroom.ParsePseudonym([]byte(id))
		ok = ok && err == nil
	}
	return ids, names, form, purpose, ok
}

// splitObject splits an object into its members; false if body is anything else.
func splitObject(body []byte, into map[string]jsontext.Value) bool {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return false
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return false
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil {
			return false
		}
		into[name] = value.Clone()
	}
	if _, err := d.ReadToken(); err != nil {
		return false
	}
	_, err := d.ReadToken()
	return err == io.EOF
}

func stringOf(value jsontext.Value) (string, bool) {
	if value.Kind() != '"' {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err == nil
}

func stringsOf(value jsontext.Value) (out []string, ok bool) {
	d := jsontext.NewDecoder(bytes.NewReader(value))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '[' {
		return nil, false
	}
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		if err != nil {
			return nil, false
		}
		text, isString := stringOf(value)
		if !isString {
			return nil, false
		}
		out = append(out, text)
	}
	return out, true
}

func resolveSeeds() []string {
	seeds := []string{okIDs, manyIDs(3), ` {"fields" : [ "a" , "b" ] ,"form":"masked","purpose":"x","ids":` + oneID + "}\n",
		`{"ids":["` + strings.ReplaceAll(testID, "0", `\u0030`) + `"],"fields":["na\u006de"]}`,
		`{"ids":["` + testID + `","` + testID + `"],"fields":["name"]}`}
	for _, c := range bodyCases() {
		if len(c.body) < 300 {
			seeds = append(seeds, c.body)
		}
	}
	return seeds
}

// FuzzResolve holds the decoder to jsontext: both accept the same bodies, and
// read the same from them.
func FuzzResolve(f *testing.F) {
	for _, seed := range resolveSeeds() {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sent := bytes.Clone(body)
		var q Query
		var purpose []byte
		err := testDecoder().resolve(body, &q, &purpose)
		if !bytes.Equal(body, sent) {
			t.Fatal("the body was changed")
		}
		ids, names, form, wantPurpose, ok := reference(body)
		if (err == nil) != ok {
			t.Fatalf("%q: error %v, reference accepts: %v", body, err, ok)
		}
		if err != nil {
			return
		}
		var want []cloakroom.Pseudonym
		seen := make(map[cloakroom.Pseudonym]bool)
		for _, text := range ids {
			if id := mustID(text); !seen[id] {
				seen[id] = true
				want = append(want, id)
			}
		}
		var got []string
		for _, name := range q.Fields {
			got = append(got, string(name))
		}
		if !reflect.DeepEqual(q.IDs, want) || q.Asked != len(ids) || !reflect.DeepEqual(got, names) ||
			string(q.Form) != form || string(purpose) != wantPurpose {
			t.Fatalf("%q: got %v %v %q %q", body, q.IDs, got, q.Form, purpose)
		}
	})
}

// FuzzDeposit holds what is read of a deposit to jsontext.
func FuzzDeposit(f *testing.F) {
	for _, seed := range []string{
		`{"fields":{"name":"Ada"},"domain":"default","ttl":"8760h"}`,
		`{"fields":{"a":{"b":[1,2.5e3,true,null,"x"]},"n\u0061me":"\ud83d\ude00\n"}}`,
		`{"fields":{"a":-0,"b":[],"c":{}},"ttl":"1h30m5s"}`, `{"fields":{}}`,
		`{"fields":{"a":"x","b":"y"},"ttl":{"b":"24h","a":"-1s"}}`,
		`{"fields":{"a":{"x":1,"\u0078":2}}}`, `{"fields":{"a":"` + "\xff" + `"}}`,
	} {
		f.Add([]byte(seed))
	}
	for _, c := range bodyCases() {
		if len(c.body) < 300 {
			f.Add([]byte(c.body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got Deposit
		err := testDecoder().deposit(body, &got)
		whole := make(map[string]jsontext.Value)
		valid := splitObject(body, whole)
		if err != nil {
			return // our own rules are tighter than JSON; refusals have their table
		}
		if !valid {
			t.Fatalf("%q: accepted, and jsontext refuses it", body)
		}
		fields := make(map[string]jsontext.Value)
		splitObject(whole["fields"], fields)
		if len(fields) != len(got.Fields) {
			t.Fatalf("%q: %d fields, want %d", body, len(got.Fields), len(fields))
		}
		for _, field := range got.Fields {
			want, there := fields[string(field.Name)]
			if text, isString := stringOf(want); isString {
				want = jsontext.Value(text)
			}
			if !there || !bytes.Equal(want, field.Value) {
				t.Fatalf("%q: field %q is %q, want %q", body, field.Name, field.Value, want)
			}
		}
	})
}

// FuzzSyntax holds the bare scanner to jsontext: within our limits both accept
// the same texts.
func FuzzSyntax(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,-2.5E+3,0,true,false,null,"\u00e9\ud83d\ude00"],"b":{"c":{}}}`, `{"a":1,"a":2}`, `{"a":01}`, "{\"a\":\"\x1f\"}", `{"a":1e}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := testDecoder().whole(body)
		reader := jsontext.NewDecoder(bytes.NewReader(body))
		value, readErr := reader.ReadValue()
		isObject := readErr == nil && value.Kind() == '{' // value dies with the next read
		_, endErr := reader.ReadToken()
		valid := isObject && endErr == io.EOF
		if err == nil && !valid {
			t.Fatalf("%q: accepted, and jsontext says %v, %v", body, readErr, endErr)
		}
		if err != nil && valid && len(body) < 2*MaxDepth && len(body) < MaxMembers {
			t.Fatalf("%q: %v, and jsontext accepts it", body, err)
		}
	})
}

// FuzzQuote holds our quoting to encoding/json and jsontext.
func FuzzQuote(f *testing.F) {
	f.Add("Ada Lovelace")
	f.Add("a\"b\\c\n\r\t\x00\x1f\x7fé\u2028😀 and a tail that is longer")
	f.Fuzz(func(t *testing.T, value string) {
		value = strings.ToValidUTF8(value, "")
		quoted := appendQuoted(nil, []byte(value))
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != value {
			t.Fatalf("%q is quoted as %s: %v", value, quoted, err)
		}
		if !jsontext.Value(quoted).IsValid() {
			t.Fatalf("%s is no valid JSON", quoted)
		}
		if got, want := quotedLen([]byte(value)), len(quoted)-2; got != want {
			t.Fatalf("%q: quotedLen %d, want %d", value, got, want)
		}
	})
}

// TestNothingIsQuoted puts a marker at every place of a body that is refused
// for something else, and finds it in no error.
func TestNothingIsQuoted(t *testing.T) {
	for _, c := range bodyCases() {
		for at := range len(c.body) {
			if at > 400 {
				break
			}
			body := []byte(c.body[:at] + marker + c.body[at:])
			var q Query
			var purpose []byte
			d := testDecoder()
			_, batchErr := d.batch(body)
			for _, err := range []error{d.resolve(body, &q, &purpose), d.deposit(body, new(Deposit)), d.whole(body), batchErr} {
				if err != nil && strings.Contains(err.Error(), "Lovelace") {
					t.Fatalf("%s at %d: %v", c.what, at, err)
				}
			}
		}
	}
}

func TestDistinctKeepsOrder(t *testing.T) {
	ids := randomIDs(1000)
	twice := append(append(ids[:500:500], ids[:500]...), ids[500:]...)[:1000]
	d := testDecoder()
	d.ids = append(d.ids, twice...)
	if got := d.distinct(); !reflect.DeepEqual(got, ids[:500]) {
		t.Errorf("%d ids, want the first 500", len(got))
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	resolve := []byte(manyIDs(100))
	deposit := []byte(`{"fields":{"name":"Ada","address":{"street":"x","no":[1,2]}},"domain":"d","ttl":{"name":"1h"}}`)
	d := testDecoder()
	if n := testing.AllocsPerRun(100, func() {
		var q Query
		var purpose []byte
		var out Deposit
		if err := errors.Join(d.resolve(resolve, &q, &purpose), d.deposit(deposit, &out)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
