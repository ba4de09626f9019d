package people

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cloakroom"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func crowd(t testing.TB, cfg Config) *People {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGolden keeps the crowd of a seed what it was: figures of two versions
// can be compared only if both stored the same people.
func TestGolden(t *testing.T) {
	p := crowd(t, Config{Seed: 1})
	var got bytes.Buffer
	for i := range uint64(40) {
		one := p.Person(i)
		fmt.Fprintf(&got, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID(i), one.DisplayName, one.Email, one.Phone, one.BirthDate, one.Address)
	}
	golden := filepath.Join("testdata", "seed1.tsv")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the crowd of seed 1 changed, got:\n%s", got.Bytes())
	}
}

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{7,14}$`)

func TestValuesFitTheirTypes(t *testing.T) {
	for _, cfg := range []Config{{Seed: 7}, {Seed: 7, Marked: true}, {Seed: 7, NameBytes: 25}, {Seed: 7, NameBytes: 25, Marked: true}} {
		p := crowd(t, cfg)
		for i := range uint64(20_000) {
			checkPerson(t, cfg, p.Person(i))
			if id := p.ID(i); id[6]>>4 != 4 || id[8]>>6 != 2 {
				t.Fatalf("%+v: id %v is not a version-4 UUID", cfg, id)
			}
		}
	}
}

func checkPerson(t *testing.T, cfg Config, one Person) {
	t.Helper()
	if !utf8.ValidString(one.DisplayName) || one.DisplayName == "" {
		t.Fatalf("%+v: name %q", cfg, one.DisplayName)
	}
	for _, r := range one.DisplayName {
		if unicode.IsControl(r) || r == '"' || r == '\\' || r == '<' {
			t.Fatalf("%+v: name %q holds %q, which a JSON writer may escape", cfg, one.DisplayName, r)
		}
	}
	if cfg.NameBytes > 0 && len(one.DisplayName) != cfg.NameBytes {
		t.Fatalf("%+v: name %q has %d bytes", cfg, one.DisplayName, len(one.DisplayName))
	}
	if at, err := mail.ParseAddress(one.Email); err != nil || at.Address != one.Email {
		t.Fatalf("%+v: email %q: %v", cfg, one.Email, err)
	}
	if !e164.MatchString(one.Phone) {
		t.Fatalf("%+v: phone %q", cfg, one.Phone)
	}
	if _, err := time.Parse(time.DateOnly, one.BirthDate); err != nil {
		t.Fatal(err)
	}
	var address map[string]string
	if err := json.Unmarshal([]byte(one.Address), &address); err != nil || len(address) != 4 {
		t.Fatalf("%+v: address %q: %v", cfg, one.Address, err)
	}
}

func TestSamePersonEveryTime(t *testing.T) {
	a, b := crowd(t, Config{Seed: 3}), crowd(t, Config{Seed: 3})
	other := crowd(t, Config{Seed: 4})
	a.Person(999) // order of asking does not matter
	if a.Person(5) != b.Person(5) || a.ID(5) != b.ID(5) {
		t.Error("person 5 of seed 3 differs between two crowds")
	}
	if a.ID(5) == other.ID(5) || a.Person(5) == other.Person(5) {
		t.Error("person 5 is the same under another seed")
	}
}

func TestMarkedValuesHoldTheInfix(t *testing.T) {
	p := crowd(t, Config{Seed: 11, Marked: true})
	fixed := crowd(t, Config{Seed: 11, Marked: true, NameBytes: 25})
	seen := map[string]bool{}
	front, back := 0, 0
	for i := range uint64(30_000) {
		infix := p.Infix(i)
		if len(infix) != 16 || !bytes.HasPrefix(infix, p.Marker()) {
			t.Fatalf("infix %q does not begin with the marker %q", infix, p.Marker())
		}
		if seen[string(infix)] {
			t.Fatalf("infix %q stands for two people", infix)
		}
		seen[string(infix)] = true
		name := p.AppendName(nil, i)
		if bytes.HasPrefix(name, infix) {
			front++
		}
		if bytes.HasSuffix(name, infix) {
			back++
		}
		for what, value := range map[string][]byte{"name": name, "email": p.AppendEmail(nil, i),
			"address": p.AppendAddress(nil, i), "fixed name": fixed.AppendName(nil, i)} {
			if !bytes.Contains(value, infix) {
				t.Fatalf("%s %q misses the infix %q", what, value, infix)
			}
		}
	}
	if front != 10_000 || back != 10_000 {
		t.Errorf("got the infix %d times in front and %d times at the end, want 10000 each", front, back)
	}
}

// TestLengths holds the crowd to what the benchmark says about it.
func TestLengths(t *testing.T) {
	const n = 200_000
	p := crowd(t, Config{Seed: 1})
	var lengths []int
	scripts := map[string]int{}
	sum, distinct := 0, map[string]bool{}
	var name []byte
	for i := range uint64(n) {
		name = p.AppendName(name[:0], i)
		lengths = append(lengths, len(name))
		sum += len(name)
		distinct[string(name)] = true
		scripts[scriptOf(name)]++
	}
	slices.Sort(lengths)
	mean := float64(sum) / n
	t.Logf("bytes a name: mean %.1f, p1 %d, p10 %d, p50 %d, p90 %d, p99 %d, max %d; %d distinct of %d; scripts %v",
		mean, lengths[n/100], lengths[n/10], lengths[n/2], lengths[n*9/10], lengths[n*99/100], lengths[n-1], len(distinct), n, scripts)
	if mean < 24 || mean > 26 {
		t.Errorf("got a mean of %.1f bytes, want about 25", mean)
	}
	if len(scripts) < 12 {
		t.Errorf("got %d scripts, want at least 12", len(scripts))
	}
}

func scriptOf(name []byte) string {
	r, _ := utf8.DecodeRune(name)
	for _, s := range []string{"Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Han", "Hiragana", "Hangul",
		"Devanagari", "Bengali", "Tamil", "Thai", "Georgian", "Armenian", "Ethiopic"} {
		if unicode.Is(unicode.Scripts[s], r) {
			return s
		}
	}
	return "other"
}

func TestNewRefusesBadLengths(t *testing.T) {
	for _, cfg := range []Config{{NameBytes: -1}, {NameBytes: MaxNameBytes + 1}, {NameBytes: 15, Marked: true}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) took it", cfg)
		}
	}
}

func TestIDsAreDistinct(t *testing.T) {
	p := crowd(t, Config{Seed: 2})
	seen := map[cloakroom.Pseudonym]bool{}
	for i := range uint64(100_000) {
		if id := p.ID(i); seen[id] {
			t.Fatalf("id %v stands for two people", id)
		} else {
			seen[id] = true
		}
	}
}

// BenchmarkPerson writes all five values of a person: 1 M people must take
// less than 2 s.
func BenchmarkPerson(b *testing.B) {
	p := crowd(b, Config{Seed: 1})
	var dst []byte
	i := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		dst = p.AppendName(dst[:0], i)
		dst = p.AppendEmail(dst, i)
		dst = p.AppendPhone(dst, i)
		dst = p.AppendBirthDate(dst, i)
		dst = p.AppendAddress(dst, i)
		i++
	}
}
