package rows

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// secret stands in every file where a value would, and must stand in no
// message.
const secret = "Lovelace"

func config() Config {
	return Config{
		Fields: []string{"display_name", "email", "address"},
		JSON:   []bool{false, false, true},
	}
}

// take reads a whole file and returns rows and faults as text.
func take(t testing.TB, src Source) (all []string) {
	t.Helper()
	var row Row
	for {
		err := src.Next(&row)
		var fault *Fault
		switch {
		case err == io.EOF:
			return all
		case errors.As(err, &fault):
			all = append(all, fault.Error())
			if strings.Contains(fault.Error(), secret) {
				t.Fatalf("a value stands in %q", fault)
			}
		case err != nil:
			t.Fatal(err)
		default:
			text := fmt.Sprintf("%d %s:", row.Line, row.Key)
			for _, c := range row.Cells {
				text += fmt.Sprintf(" %d=%s", c.Field, c.Value)
			}
			all = append(all, text+fmt.Sprintf("%s%s", row.Domain, row.TTL))
		}
	}
}

func TestCSVRows(t *testing.T) {
	keyed := config()
	keyed.Key = "no"
	renamed := config()
	renamed.Columns = map[string]string{"email": "E-Mail"}
	semicolon := config()
	semicolon.Comma = ';'
	loose := config()
	loose.IgnoreUnknown = true
	for _, test := range []struct {
		what, file string
		cfg        Config
		want       []string
	}{
		{"plain", "display_name,email\nAda,a@x\n", config(), []string{"2 : 0=Ada 1=a@x"}},
		{"other order", "email,display_name\na@x,Ada\n", config(), []string{"2 : 1=a@x 0=Ada"}},
		{"key", "no,display_name\n7,Ada\n,Lovelace\n", keyed, []string{"2 7: 0=Ada", "line 3, column no: the cell is empty, and it must name the row"}},
		{"renamed column", "display_name,E-Mail\nAda,a@x\n", renamed, []string{"2 : 0=Ada 1=a@x"}},
		{"semicolons", "display_name;email\nAda;a@x\n", semicolon, []string{"2 : 0=Ada 1=a@x"}},
		{"unknown column left out", "x,display_name\n\xff,Ada\n", loose, []string{"2 : 0=Ada"}},
		{"empty cell", "display_name,email\n,a@x\n,\n", config(), []string{"2 : 1=a@x", "line 3: no field has a value"}},
		{"ragged", "display_name,email\nLovelace\nAda,a@x,Lovelace\nAda,a@x\n", config(),
			[]string{"line 2: 1 cells where the header has 2", "line 3: 3 cells where the header has 2", "4 : 0=Ada 1=a@x"}},
		{"ragged across lines", "display_name,email\n\"Lovelace\nAda,a@x\nEve,e@x\"\nBob,b@x\n", config(),
			[]string{"line 2: 1 cells where the header has 2", "3 : 0=Ada 1=a@x",
				"line 4, column email: a quote stands inside a cell that is not quoted", "5 : 0=Bob 1=b@x"}},
		{"broken quote", "display_name,email\n\"Ada\" Lovelace,a@x\nAda,a@x\n", config(),
			[]string{"line 2, column display_name: text stands behind the closing quote", "3 : 0=Ada 1=a@x"}},
		{"not UTF-8", "display_name,email\nLovelace\xe9,a@x\nAda,a@x\n", config(),
			[]string{"line 2, column display_name: " + reasonNotUTF8, "3 : 0=Ada 1=a@x"}},
		{"json", "display_name,address\nAda,\"{\"\"city\"\":\"\"London\"\"}\"\nAda,Lovelace\n", config(),
			[]string{`2 : 0=Ada 2={"city":"London"}`, "line 3, column address: not a JSON value, and the field takes one"}},
		{"header only", "display_name,email\n", config(), nil},
	} {
		src, err := OpenCSV(strings.NewReader(test.file), test.cfg)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		if got := take(t, src); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
}

func TestHeaderFaults(t *testing.T) {
	keyed := config()
	keyed.Key = "no"
	renamed := config()
	renamed.Columns = map[string]string{"email": "E-Mail"}
	for _, test := range []struct {
		what, file string
		cfg        Config
		want       []string
	}{
		{"empty", "", config(), []string{"the file is empty"}},
		{"only empty lines", "\n\r\n", config(), []string{"the file is empty"}},
		{"no header", "Lovelace,ada@x\n", config(), []string{"column 1 of the header", "column 2 of the header", "is the first line a header"}},
		{"unknown column", "display_name,Lovelace\n", config(), []string{"column 2 of the header is no field", "--ignore-unknown"}},
		{"column twice", "display_name,display_name\n", config(), []string{"the column display_name twice"}},
		{"no key", "display_name\n", keyed, []string{"no column no"}},
		{"no renamed column", "display_name\n", renamed, []string{"no column E-Mail for the field email"}},
		{"other separator", "display_name;email\n", config(), []string{"--delimiter"}},
		{"broken quote", "display_name,\"Lovelace\n", config(), []string{"read header: line 1"}},
	} {
		_, err := OpenCSV(strings.NewReader(test.file), test.cfg)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v, want %q", test.what, err, want)
			}
		}
	}
}

func TestNDJSONRows(t *testing.T) {
	keyed := config()
	keyed.Key = "no"
	loose := config()
	loose.IgnoreUnknown = true
	for _, test := range []struct {
		what, file string
		cfg        Config
		want       []string
	}{
		{"plain", `{"fields":{"display_name":"Ada","address":{"city":"London"}}}`, config(), []string{`1 : 0=Ada 2={"city":"London"}`}},
		{"key", `{"no":7,"fields":{"email":"a@x"}}` + "\n" + `{"no":"7\u0041","fields":{"email":"a\u0040x","display_name":"\"A"}}`, keyed, []string{`1 7: 1=a@x`, `2 7A: 1=a@x 0="A`}},
		{"key missing", `{"fields":{"email":"Lovelace"}}`, keyed, []string{"line 1, column no: the member is missing or empty, and it must name the row"}},
		{"key is no name", `{"no":["Lovelace"],"fields":{"email":"a@x"}}`, keyed, []string{"line 1, column no: neither a string nor a number, and it must name the row"}},
		{"domain and ttl", `{"domain":"web","ttl":"1h","fields":{"email":"a@x"}}`, config(), []string{`1 : 1=a@x"web""1h"`}},
		{"a ttl for a field", `{"ttl":{"email":"1h"},"fields":{"email":"a@x"}}`, config(), []string{`1 : 1=a@x{"email":"1h"}`}},
		{"byte order mark, CRLF, empty lines", "\xef\xbb\xbf{\"fields\":{\"email\":\"a@x\"}}\r\n\r\n  \n", config(), []string{`1 : 1=a@x`}},
		{"null and empty are no values", `{"fields":{"email":null,"display_name":"","address":1}}`, config(), []string{`1 : 2=1`}},
		{"no values", `{"fields":{}}`, config(), []string{"line 1: no field has a value"}},
		{"broken", "{\"fields\":{\"email\":\"Lovelace\n{\"fields\":{\"email\":\"a@x\"}}\n[1]\nLovelace", config(),
			[]string{"line 1: " + reasonSyntax, `2 : 1=a@x`, "line 3: " + reasonSyntax, "line 4: " + reasonSyntax}},
		{"two objects", `{"fields":{"email":"a@x"}} {"fields":{"email":"a@x"}}`, config(), []string{"line 1: " + reasonSyntax}},
		{"twice", `{"fields":{"email":"a@x","email":"Lovelace"}}`, config(), []string{"line 1: " + reasonSyntax}},
		{"not UTF-8", "{\"fields\":{\"email\":\"Lovelace\xff\"}}", config(), []string{"line 1: " + reasonSyntax}},
		{"unknown member", `{"Lovelace":1,"fields":{"email":"a@x"}}`, config(), []string{"line 1: " + reasonMember}},
		{"unknown field", `{"fields":{"Lovelace":1}}`, config(), []string{"line 1, column fields: a member is no field of the schema: leave such members out with --ignore-unknown"}},
		{"unknown left out", `{"x":{},"fields":{"y":1,"email":"a@x"}}`, loose, []string{`1 : 1=a@x`}},
		{"wrong types", `{"fields":1}` + "\n" + `{"domain":1,"fields":{}}` + "\n" + `{"fields":{"email":1}}`, config(),
			[]string{"line 1, column fields: not an object", "line 2, column domain: not a string", "line 3, column email: not a string"}},
	} {
		src, err := OpenNDJSON(strings.NewReader(test.file), test.cfg)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		if got := take(t, src); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
	if _, err := OpenNDJSON(strings.NewReader(""), config()); err != ErrEmpty {
		t.Errorf("empty file: %v", err)
	}
	long := strings.Repeat("x", MaxRecord+1) + "\n" + `{"fields":{"email":"a@x"}}`
	src, err := OpenNDJSON(strings.NewReader(long), config())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := take(t, src), []string{"line 1: " + reasonTooLong, `2 : 1=a@x`}; !reflect.DeepEqual(got, want) {
		t.Errorf("long line: got %q", got)
	}
}

// FuzzNDJSON checks that hostile lines give faults, that every line is
// accounted for once, and that what is accepted is valid JSON.
func FuzzNDJSON(f *testing.F) {
	for _, seed := range []string{
		`{"fields":{"email":"a@x"}}`, `{"no":7,"domain":"d","fields":{"address":{"a":[1,null]}}}`, "{\"fields\":{\"email\":\"\xff\"}}", "[]\n{}\n\n{", `{"fields":{"em\u0061il":"x"},"ttl":"1h"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		cfg := config()
		cfg.Key = "no"
		src, err := OpenNDJSON(strings.NewReader(file), cfg)
		if err != nil {
			return
		}
		last := 0
		var row Row
		for {
			err := src.Next(&row)
			var fault *Fault
			if err == io.EOF {
				return
			}
			line := row.Line
			if errors.As(err, &fault) {
				line = fault.Line
			} else if err != nil {
				t.Fatal(err)
			} else if len(row.Key) == 0 || len(row.Cells) == 0 {
				t.Fatalf("row without key or cells: %q", file)
			}
			if line <= last {
				t.Fatalf("line %d after line %d", line, last)
			}
			last = line
		}
	})
}
