package cloakroom

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// slowParse says the same as ParsePseudonym, one obvious step at a time.
func slowParse(text string) (id Pseudonym, err error) {
	groups := strings.Split(text, "-")
	if len(text) != PseudonymTextLen || len(groups) != 5 {
		return id, ErrMalformedID
	}
	for i, want := range []int{8, 4, 4, 4, 12} {
		if len(groups[i]) != want {
			return id, ErrMalformedID
		}
	}
	raw, err := hex.DecodeString(strings.Join(groups, ""))
	if err != nil || len(raw) != len(id) {
		return id, ErrMalformedID
	}
	copy(id[:], raw)
	switch {
	case id == Pseudonym{}:
		return id, ErrMalformedID
	case id[6]>>4 != 4 || id[8]>>6 != 2:
		return Pseudonym{}, ErrNotRandomID
	}
	return id, nil
}

func checkParse(t *testing.T, text string) {
	t.Helper()
	got, err := ParsePseudonym([]byte(text))
	want, wantErr := slowParse(text)
	if got != want || !errors.Is(err, wantErr) {
		t.Fatalf("ParsePseudonym(%q) = %x, %v; want %x, %v", text, got, err, want, wantErr)
	}
	if err == nil && got.String() != strings.ToLower(text) {
		t.Fatalf("%q comes back as %q", text, got.String())
	}
}

// TestParsePseudonym puts every byte at every position of a good id, in both
// cases, and tries other ids and forms.
func TestParsePseudonym(t *testing.T) {
	const good = "0b5d8a3e-8c3f-4a1e-9d7a-0f6f3c1b2a4d"
	for _, base := range []string{good, strings.ToUpper(good)} {
		for at := range base {
			for c := range 256 {
				checkParse(t, base[:at]+string([]byte{byte(c)})+base[at+1:])
			}
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 1000 {
		var id Pseudonym
		for i := range id {
			id[i] = byte(rnd.Uint32())
		}
		checkParse(t, id.String())
		id.SetRandomForm()
		checkParse(t, id.String())
	}
	for _, text := range []string{"", "{" + good + "}", "urn:uuid:" + good, good + "0", good[1:],
		"00000000-0000-0000-0000-000000000000", "00000000-0000-4000-8000-000000000000",
		strings.ReplaceAll(good, "-", ""), "0b5d8a3e8-c3f-4a1e-9d7a-0f6f3c1b2a4d"} {
		checkParse(t, text)
	}
}

func BenchmarkParsePseudonym(b *testing.B) {
	text := []byte("0b5d8a3e-8c3f-4a1e-9d7a-0f6f3c1b2a4d")
	for b.Loop() {
		if _, err := ParsePseudonym(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPseudonymText(b *testing.B) {
	var id Pseudonym
	room := make([]byte, 0, PseudonymTextLen)
	for b.Loop() {
		id[0]++
		room = id.AppendText(room[:0])
	}
}
