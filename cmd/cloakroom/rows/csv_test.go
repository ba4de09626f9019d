package rows

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll returns every record as strings, or the fault as one.
func readAll(t testing.TB, src io.Reader) (all []string) {
	t.Helper()
	c, err := NewCSV(src, ',')
	if err != nil {
		t.Fatal(err)
	}
	for {
		cells, line, cell, err := c.Record()
		var fault *Fault
		switch {
		case err == io.EOF:
			return all
		case errors.As(err, &fault):
			all = append(all, fmt.Sprintf("%d: cell %d: %s", line, cell, fault.Reason))
		case err != nil:
			t.Fatal(err)
		default:
			all = append(all, fmt.Sprintf("%d: %q", line, cells))
		}
	}
}

func TestRecords(t *testing.T) {
	for _, test := range []struct {
		what, file string
		want       []string
	}{
		{"plain", "a,b\n1,2\n", []string{`1: ["a" "b"]`, `2: ["1" "2"]`}},
		{"no last newline", "a,b\n1,2", []string{`1: ["a" "b"]`, `2: ["1" "2"]`}},
		{"CRLF", "a,b\r\n1,2\r\n", []string{`1: ["a" "b"]`, `2: ["1" "2"]`}},
		{"CR at the end", "a,b\r", []string{`1: ["a" "b"]`}},
		{"byte order mark", "\xef\xbb\xbfa,b\n", []string{`1: ["a" "b"]`}},
		{"quotes", "\"a,\"\"x\"\"\",b\n", []string{`1: ["a,\"x\"" "b"]`}},
		{"quoted newline", "\"a\r\nb\",c\nd,e\n", []string{`1: ["a\nb" "c"]`, `3: ["d" "e"]`}},
		{"empty lines", "\n\r\na\n\nb\n", []string{`3: ["a"]`, `5: ["b"]`}},
		{"empty cells", ",\n\"\",\n", []string{`1: ["" ""]`, `2: ["" ""]`}},
		{"empty", "", nil},
		{"bare quote", "a,b\"c\nd,e\n", []string{"1: cell 1: a quote stands inside a cell that is not quoted", `2: ["d" "e"]`}},
		{"text behind quote", "\"a\"b,c\nd,e\n", []string{"1: cell 0: text stands behind the closing quote", `2: ["d" "e"]`}},
		{"quote never closed", "a,\"b\nc,d\ne,f", []string{"1: cell 1: a quote is opened and never closed", `2: ["c" "d"]`, `3: ["e" "f"]`}},
		{"quote closed by another row's", "\"a,b\nc,d\n\"e\",f\n", []string{"1: cell 0: text stands behind the closing quote", `2: ["c" "d"]`, `3: ["e" "f"]`}},
	} {
		if got := readAll(t, strings.NewReader(test.file)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
		if got := readAll(t, iotest.OneByteReader(strings.NewReader(test.file))); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s, byte by byte: got %q, want %q", test.what, got, test.want)
		}
	}
}

func TestUTF16IsRefused(t *testing.T) {
	for _, file := range []string{"\xff\xfea\x00", "\xfe\xff\x00a"} {
		if _, err := NewCSV(strings.NewReader(file), ','); err != ErrUTF16 {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// A record must fit MaxRecord, quoted or not, and the next one is still read.
func TestRecordTooLong(t *testing.T) {
	long := strings.Repeat("x", MaxRecord)
	for _, file := range []string{
		"a,b\n" + long + long + "\nc,d\n",
		"a,b\n\"" + strings.Repeat("x\n", MaxRecord) + "\nc,d\n",
	} {
		got := readAll(t, strings.NewReader(file))
		want := "2: cell 0: " + reasonTooLong
		if got[1] != want || !strings.HasSuffix(got[len(got)-1], `["c" "d"]`) {
			t.Errorf("got %q … %q", got[1], got[len(got)-1])
		}
	}
	fits := "\"" + long[:MaxRecord-3] + "\"\n"
	if got := readAll(t, strings.NewReader(fits)); len(got) != 1 || strings.Contains(got[0], "cell") {
		t.Errorf("a record of MaxRecord bytes is refused")
	}
}

func TestReadErrorIsNoEnd(t *testing.T) {
	broken := errors.New("broken disk")
	for _, file := range []string{"a,b\n", "a,b", "a,\"b"} {
		c, err := NewCSV(io.MultiReader(strings.NewReader(file), iotest.ErrReader(broken)), ',')
		for err == nil {
			_, _, _, err = c.Record()
		}
		if err != broken {
			t.Errorf("%q: %v, want the read error", file, err)
		}
	}
}

func TestRewind(t *testing.T) {
	for _, end := range []string{"\n", ""} {
		file := "\"a\nb,c\nd\"" + end
		for _, src := range []io.Reader{strings.NewReader(file), iotest.OneByteReader(strings.NewReader(file))} {
			c, err := NewCSV(src, ',')
			if err != nil {
				t.Fatal(err)
			}
			if _, line, _, err := c.Record(); line != 1 || err != nil {
				t.Fatal(line, err)
			}
			c.Rewind()
			cells, line, _, err := c.Record()
			if err != nil || line != 2 || fmt.Sprintf("%q", cells) != `["b" "c"]` {
				t.Errorf("after Rewind: line %d, %q, %v", line, cells, err)
			}
			if _, line, _, err = c.Record(); line != 3 || err == nil || err == io.EOF {
				t.Errorf("line %d, %v", line, err)
			}
			if _, _, _, err = c.Record(); err != io.EOF || c.Offset() != int64(len(file)) {
				t.Errorf("at the end: %v, offset %d", err, c.Offset())
			}
		}
	}
}

// FuzzCSV holds the reader to encoding/csv up to the first fault, and to
// itself for every way of being fed.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"a,b\n1,2\n", "\"a\r\nb\",c\r\n\r\n", "a\"b\n", "\"a\"b\n", "\"a", "\"\"\"\"", "a\r", "\"a\"\r", "\r\r\n", "\"a\r", ",\n,",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		if strings.HasPrefix(file, "\xef\xbb\xbf") || strings.HasPrefix(file, "\xff\xfe") || strings.HasPrefix(file, "\xfe\xff") {
			t.Skip()
		}
		ours, theirs := readAll(t, strings.NewReader(file)), csv.NewReader(strings.NewReader(file))
		theirs.FieldsPerRecord = -1
		for i := 0; ; i++ {
			cells, err := theirs.Read()
			if err == io.EOF {
				if i != len(ours) {
					t.Fatalf("%d records, encoding/csv has %d", len(ours), i)
				}
				break
			}
			if i >= len(ours) {
				t.Fatalf("only %d records, encoding/csv has more", i)
			}
			if err != nil {
				if !strings.Contains(ours[i], ": cell") {
					t.Fatalf("record %d is %s, encoding/csv refuses it: %v", i, ours[i], err)
				}
				break
			}
			line, _ := theirs.FieldPos(0)
			if want := fmt.Sprintf("%d: %q", line, cells); ours[i] != want {
				t.Fatalf("record %d is %s, want %s", i, ours[i], want)
			}
		}
		if again := readAll(t, iotest.HalfReader(iotest.DataErrReader(strings.NewReader(file)))); !reflect.DeepEqual(ours, again) {
			t.Fatalf("read in pieces: %q, want %q", again, ours)
		}
	})
}

// people is a file as imports see it.
func people(n int) []byte {
	var b bytes.Buffer
	b.WriteString("display_name,email,birth_date\n")
	for i := range n {
		fmt.Fprintf(&b, "Person Number%07d,person.%07d@example.org,19%02d-%02d-%02d\n", i, i, i%100, i%12+1, i%28+1)
	}
	return b.Bytes()
}

func BenchmarkCSV(b *testing.B) {
	file := people(10_000)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		c, _ := NewCSV(bytes.NewReader(file), ',')
		for {
			if _, _, _, err := c.Record(); err == io.EOF {
				break
			}
		}
	}
}

// BenchmarkEncodingCSV is what [CSV] is measured against.
func BenchmarkEncodingCSV(b *testing.B) {
	file := people(10_000)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		c := csv.NewReader(bytes.NewReader(file))
		c.ReuseRecord = true
		for {
			if _, err := c.Read(); err == io.EOF {
				break
			}
		}
	}
}
