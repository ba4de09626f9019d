package dumptest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
	"unicode/utf16"

	"cloakroom/internal/people"
)

// noise returns n random bytes of a printed seed.
func noise(t testing.TB, n int) []byte {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func scanBytes(t testing.TB, p *Patterns, b []byte) map[string]Count {
	t.Helper()
	s := p.NewScan()
	if err := s.Range(0x1000, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if got := s.Bytes(); got != int64(len(b)) {
		t.Fatalf("scanned %d bytes, want %d", got, len(b))
	}
	counts := map[string]Count{}
	for _, c := range s.Counts() {
		counts[c.Class] = c
	}
	return counts
}

func TestScanCountsRuns(t *testing.T) {
	var p Patterns
	names := p.Class("names", 8)
	p.Add(names, []byte("kV93hTzQpL07xWbA"))
	for _, tc := range []struct {
		name    string
		memory  string
		runs    int
		longest int
	}{
		{"nothing", "kV93hTz.pL07xWb.", 0, 0},
		{"whole", "..kV93hTzQpL07xWbA..", 1, 16},
		{"seven bytes", "..kV93hTz..", 0, 0},
		{"first eight", "kV93hTzQ", 1, 8},
		{"last eight", "xxpL07xWbA", 1, 8},
		{"twice", "kV93hTzQpL07xWbAkV93hTzQpL07xWbA", 2, 16},
		{"two pieces", "kV93hTzQ..QpL07xWbA", 2, 9},
	} {
		got := scanBytes(t, &p, []byte(tc.memory))["names"]
		if got.Runs != tc.runs || got.Longest != tc.longest {
			t.Errorf("%s: got %d runs, longest %d, want %d and %d", tc.name, got.Runs, got.Longest, tc.runs, tc.longest)
		}
	}
}

func TestScanHonoursTheMinimum(t *testing.T) {
	var p Patterns
	c := p.Class("long", 12)
	p.Add(c, []byte("kV93hTzQpL07xWbA"))
	if got := scanBytes(t, &p, []byte("..kV93hTzQpL0..")); len(got) != 0 {
		t.Errorf("a run of 11 bytes counted: %v", got)
	}
	if got := scanBytes(t, &p, []byte("..kV93hTzQpL07..")); got["long"].Runs != 1 {
		t.Errorf("a run of 12 bytes did not count: %v", got)
	}
}

// TestScanAcrossChunks puts a pattern at every position around the border of
// the scan buffer.
func TestScanAcrossChunks(t *testing.T) {
	var p Patterns
	pattern := []byte("kV93hTzQpL07xWbA")
	p.Add(p.Class("names", 8), pattern)
	memory := noise(t, 2*chunkBytes+100)
	for _, border := range []int{chunkBytes, chunkBytes - overlap, 2 * chunkBytes} {
		for at := border - 24; at <= border+8; at++ {
			spoiled := append([]byte(nil), memory[at:at+16]...)
			copy(memory[at:], pattern)
			got := scanBytes(t, &p, memory)["names"]
			if got.Runs != 1 || got.Longest != 16 || got.First != 0x1000+uint64(at) {
				t.Fatalf("pattern at %d: got %+v", at, got)
			}
			copy(memory[at:], spoiled)
		}
	}
}

func TestScanFindsEveryPersonInNoise(t *testing.T) {
	crowd, err := people.New(people.Config{Seed: 5, Marked: true})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	var p Patterns
	c := p.Class("names", 8)
	for i := range uint64(n) {
		p.Add(c, crowd.Infix(i))
	}
	if got := scanBytes(t, &p, noise(t, 8<<20)); len(got) != 0 {
		t.Errorf("found people in noise: %v", got)
	}
	var memory bytes.Buffer
	for i := range uint64(n) {
		memory.Write(crowd.AppendName(nil, i))
		memory.Write(make([]byte, i%23))
	}
	if got := scanBytes(t, &p, memory.Bytes())["names"]; got.Runs != n || got.Longest != 16 {
		t.Errorf("got %+v, want %d runs", got, n)
	}
	unmarked, err := people.New(people.Config{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	memory.Reset()
	for i := range uint64(n) {
		memory.Write(unmarked.AppendName(nil, i))
	}
	if got := scanBytes(t, &p, memory.Bytes()); len(got) != 0 {
		t.Errorf("found marks in unmarked names: %v", got)
	}
}

func TestForms(t *testing.T) {
	marker := []byte("kV93hTzQ")
	var p Patterns
	AddForms(&p, "names", marker)
	var le, be []byte
	for _, u := range utf16.Encode([]rune(string(marker))) {
		le = append(le, byte(u), byte(u>>8))
		be = append(be, byte(u>>8), byte(u))
	}
	escapes := ""
	for _, b := range marker {
		escapes += fmt.Sprintf(`\u%04X`, b)
	}
	for _, tc := range []struct {
		form string
		text []byte
	}{
		{"names, UTF-16", le},
		{"names, UTF-16", be},
		{"names, JSON escapes", []byte(escapes)},
		{"names, hex", []byte(hex.EncodeToString(marker))},
	} {
		if got := scanBytes(t, &p, append([]byte("..."), tc.text...))[tc.form]; got.Runs != 1 {
			t.Errorf("%s: got %+v for %q", tc.form, got, tc.text)
		}
	}
	for phase := range 6 {
		text := base64.StdEncoding.EncodeToString([]byte("abcdef"[:phase] + string(marker) + "end"))
		if got := scanBytes(t, &p, []byte(text))["names, base64"]; got.Runs != 1 {
			t.Errorf("base64 after %d bytes: got %+v for %q", phase, got, text)
		}
	}
	if got := scanBytes(t, &p, noise(t, 8<<20)); len(got) != 0 {
		t.Errorf("found forms in noise: %v", got)
	}
}

func BenchmarkScan(b *testing.B) {
	crowd, err := people.New(people.Config{Seed: 5, Marked: true})
	if err != nil {
		b.Fatal(err)
	}
	var p Patterns
	c := p.Class("names", 8)
	for i := range uint64(200_000) {
		p.Add(c, crowd.Infix(i))
	}
	memory := noise(b, 16<<20)
	b.SetBytes(int64(len(memory)))
	for b.Loop() {
		if err := p.NewScan().Range(0, bytes.NewReader(memory)); err != nil {
			b.Fatal(err)
		}
	}
}
