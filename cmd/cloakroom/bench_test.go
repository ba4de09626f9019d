package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkImport imports 100,000 rows of three fields into a dev node in the
// same process, so that a profile shows both ends.
func BenchmarkImport(b *testing.B) {
	const n = 100_000
	folder := b.TempDir()
	var file strings.Builder
	file.WriteString("no,display_name,email,birth_date\n")
	for i := range n {
		fmt.Fprintf(&file, "C%d,Person Number%07d,person.%07d@example.org,19%02d-%02d-%02d\n", i, i, i, i%100, i%12+1, i%28+1)
	}
	path, token := filepath.Join(folder, "people.csv"), filepath.Join(folder, "token")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("bench-token"), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, key := range []string{"", "no"} {
		b.Run("key="+key, func(b *testing.B) {
			url, stop := startDev(b, "--token-file", token)
			defer stop()
			for i := 0; b.Loop(); i++ {
				args := []string{"--addr", url, "--token-file", token, "import", path, "--out", filepath.Join(folder, fmt.Sprint(key, i))}
				if key == "" {
					args = append(args, "--ignore-unknown")
				} else {
					args = append(args, "--key", key)
				}
				if code, _, stderr := runHere("", args...); code != 0 {
					b.Fatal(stderr)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
