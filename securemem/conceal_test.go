package securemem

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const marker = "Ada Lovelace, do not print"

// hidden holds secrets where fmt may not call their methods.
type hidden struct {
	s  *Secret
	b  Buffer
	bp *Buffer
	a  AEAD
	k  *Block
}

// TestSecretsNeverPrint prints every secret type every way there is.
func TestSecretsNeverPrint(t *testing.T) {
	m := openTest(t, Config{Lock: LockOff, Limit: 1 << 20})
	secret, err := m.NewSecret(len(marker))
	if err != nil {
		t.Fatal(err)
	}
	secret.Use(func(b []byte) { copy(b, marker) })
	buffer, err := m.Pool().Get(t.Context(), len(marker))
	if err != nil {
		t.Fatal(err)
	}
	copy(buffer.Bytes(), marker)
	key := []byte(marker + "012345")[:KeyBytes]
	aead, err := m.NewAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := m.NewBlock(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{secret, buffer, *buffer, aead, *aead, block, *block} {
		for _, got := range everyForm(t, v) {
			if strings.Trim(got, `"`) != concealedText {
				t.Errorf("%T prints as %q", v, got)
			}
		}
	}
	holder := hidden{s: secret, b: *buffer, bp: buffer, a: *aead, k: block}
	for _, v := range []any{holder, &holder, []any{secret, *buffer}, map[string]any{"k": *aead}, []*Buffer{buffer}} {
		for _, got := range everyForm(t, v) {
			if leaks(got) {
				t.Errorf("%T shows its content: %q", v, got)
			}
		}
	}
}

// everyForm is v in all the ways Go can print it.
func everyForm(t *testing.T, v any) []string {
	t.Helper()
	var all []string
	for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
		if verb == 'T' || verb == 'p' {
			continue // fmt handles these itself: a type and an address
		}
		for _, flags := range []string{"", "+", "#", " ", "0", "-5", "5.2", "# "} {
			all = append(all, fmt.Sprintf("%"+flags+string(verb), v))
		}
	}
	all = append(all, fmt.Sprint(v), strings.TrimSuffix(fmt.Sprintln(v), "\n"))
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, string(text))
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		log.Reset()
		slog.New(handler).Info("x", "v", v)
		if leaks(log.String()) {
			t.Errorf("%T in a log: %s", v, log.String())
		}
	}
	return all
}

// leaks reports whether text shows the marker as text, hex or numbers.
func leaks(text string) bool {
	needle := []byte(marker[:6])
	numbers := fmt.Sprint(needle)
	lower := strings.ToLower(text)
	return strings.Contains(text, string(needle)) ||
		strings.Contains(text, numbers[1:len(numbers)-1]) ||
		strings.Contains(strings.ReplaceAll(lower, " ", ""), hex.EncodeToString(needle)) ||
		strings.Contains(strings.ReplaceAll(strings.ReplaceAll(lower, "0x", ""), ", ", ""), hex.EncodeToString(needle))
}

// TestLeaksFindsLeaks shows that the test above can fail.
func TestLeaksFindsLeaks(t *testing.T) {
	open := struct{ b []byte }{[]byte(marker)}
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x", "% X", "%q"} {
		if text := fmt.Sprintf(form, open); !leaks(text) {
			t.Errorf("%s: leak not found in %q", form, text)
		}
	}
}
