package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/cmd/cloakroom/rows"
)

// FuzzQuoted holds the JSON strings of bodies to encoding/json.
func FuzzQuoted(f *testing.F) {
	f.Add("Ada \"the\" \\ \n\x00\x1f\u2028é𝄞")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip() // rows refuses it
		}
		var back string
		quoted := appendQuoted(nil, []byte(text))
		if err := json.Unmarshal(quoted, &back); err != nil || back != text {
			t.Errorf("%q became %s: %v", text, quoted, err)
		}
	})
}

// FuzzCell holds cells of the map to the reader that loads it.
func FuzzCell(f *testing.F) {
	f.Add("C,\"1\"")
	f.Add("")
	f.Fuzz(func(t *testing.T, key string) {
		if faultOfKey([]byte(key)) != "" {
			t.Skip()
		}
		line := append(appendCell(nil, []byte(key)), ",x\n"...)
		csv, err := rows.NewCSV(io.MultiReader(strings.NewReader("a,b\n"), bytes.NewReader(line)), ',')
		if err != nil {
			t.Fatal(err)
		}
		csv.Record()
		cells, _, _, err := csv.Record()
		if err != nil || len(cells) != 2 || string(cells[0]) != key {
			t.Errorf("%q became %q: %q, %v", key, line, cells, err)
		}
	})
}

// sink takes every batch at once.
type sink struct{}

func (sink) DepositBatchJSON(_ context.Context, _ string, _ []byte, n int, each func(int, client.Deposited)) error {
	for i := range n {
		each(i, client.Deposited{ID: cloakroom.Pseudonym{6: 0x40, 8: 0x80}})
	}
	return nil
}

// BenchmarkImport is what an import costs without the network and the server;
// 100,000 rows of three fields per operation.
func BenchmarkImport(b *testing.B) {
	const n = 100_000
	var file bytes.Buffer
	file.WriteString("no,display_name,email,birth_date\n")
	for i := range n {
		fmt.Fprintf(&file, "C%d,Person Number%07d,person.%07d@example.org,19%02d-%02d-%02d\n", i, i, i, i%100, i%12+1, i%28+1)
	}
	names := []string{"display_name", "email", "birth_date"}
	for _, key := range []string{"", "no"} {
		b.Run("key="+key, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				cfg := Config{Server: sink{}, Key: key, Out: io.Discard, Open: func() (rows.Source, error) {
					return rows.OpenCSV(bytes.NewReader(file.Bytes()), rows.Config{Fields: names, JSON: make([]bool, 3), Key: key, IgnoreUnknown: true})
				}}
				for _, name := range names {
					cfg.Fields = append(cfg.Fields, Field{Name: name, Column: name, MaxBytes: 4096})
				}
				if key != "" {
					journal, err := OpenJournal(filepath.Join(b.TempDir(), fmt.Sprint(i)), key, zeros{})
					if err != nil {
						b.Fatal(err)
					}
					cfg.Journal = journal
				}
				imp, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if summary, err := imp.Run(b.Context()); err != nil || summary.Deposited != n {
					b.Fatal(summary, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
