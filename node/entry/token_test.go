package entry

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file and the seeds anew")

func sampleToken() *Token {
	t := &Token{Cluster: [16]byte{0xc1, 15: 0x0a}, Pin: [32]byte{1, 31: 2}, Expires: time.Unix(1_800_000_000, 0),
		Addresses: []string{"n1.example.org:8202", "[fd00::1]:8202"}}
	copy(t.Secret[:], "SecretSecretSecretSecretSecret!!")
	return t
}

func encoded(t testing.TB, token *Token) []byte {
	t.Helper()
	text, err := token.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGoldenToken(t *testing.T) {
	const path = "testdata/token-1.golden"
	got := append(encoded(t, sampleToken()), '\n')
	if *rewrite {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the format changed:\n got %s\nwant %s%v", got, want, err)
	}
}

func TestTokensComeBack(t *testing.T) {
	for _, addresses := range [][]string{{"a:1"}, {"n1.example.org:8202", "[fd00::1]:8202"}, strings.Fields(strings.Repeat(strings.Repeat("h", maxAddress)+" ", MaxAddresses))} {
		want := sampleToken()
		want.Addresses = addresses
		text := encoded(t, want)
		if len(text) > MaxTokenText {
			t.Errorf("a token of %d bytes: MaxTokenText is %d", len(text), MaxTokenText)
		}
		got, err := ParseToken(append(append([]byte(" \n"), text...), "\r\n"...))
		if err != nil {
			t.Fatal(err)
		}
		if got.Cluster != want.Cluster || got.Pin != want.Pin || !got.Expires.Equal(want.Expires) || got.Secret != want.Secret ||
			strings.Join(got.Addresses, " ") != strings.Join(addresses, " ") {
			t.Error("another token came back")
		}
		if got.Wipe(); got.Secret != [SecretBytes]byte{} {
			t.Error("the secret is still there")
		}
	}
	for _, addresses := range [][]string{nil, {""}, make([]string, MaxAddresses+1), {strings.Repeat("h", maxAddress+1)}} {
		bad := sampleToken()
		bad.Addresses = addresses
		if _, err := bad.Append(nil); err == nil {
			t.Errorf("encoded with %d addresses", len(addresses))
		}
	}
}

// Whatever goes wrong with a copy is noticed here, not by a cluster.
func TestDamagedTokensAreRefused(t *testing.T) {
	text := encoded(t, sampleToken())
	for n := range text {
		if _, err := ParseToken(text[:n]); !errors.Is(err, ErrToken) {
			t.Fatalf("cut to %d characters: %v", n, err)
		}
		changed := bytes.Clone(text)
		if changed[n] = 'A'; text[n] == 'A' {
			changed[n] = 'B'
		}
		if _, err := ParseToken(changed); !errors.Is(err, ErrToken) {
			t.Fatalf("character %d changed: %v", n, err)
		}
	}
	for _, other := range []string{"", "hello", string(text) + "A", strings.Replace(string(text), "-1.", "-2.", 1), strings.ToUpper(string(text)),
		string(text[:20]) + " " + string(text[20:]), strings.Repeat("A", MaxTokenText+1)} {
		if _, err := ParseToken([]byte(other)); !errors.Is(err, ErrToken) {
			t.Errorf("%.30q: %v", other, err)
		}
	}
}

func TestATokenIsNotPrinted(t *testing.T) {
	token := sampleToken()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "token", token)
	asJSON, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%+v %#v %x %s %q %d", token, token, token, token, token, token), log.String(), string(asJSON)} {
		if !strings.Contains(text, "[secret]") || strings.Contains(text, "Secret") || strings.Contains(text, "536563") || strings.Contains(text, "83 101") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestDigestsKeepSecretsApart(t *testing.T) {
	a, b := [SecretBytes]byte{1}, [SecretBytes]byte{2}
	if Digest(&a) == Digest(&b) {
		t.Error("not a digest")
	}
}

// What is accepted is exactly what Append writes.
func FuzzParseToken(f *testing.F) {
	f.Add(encoded(f, sampleToken()))
	f.Fuzz(func(t *testing.T, text []byte) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		again, err := token.Append(nil)
		if err != nil || !bytes.Equal(again, bytes.TrimSpace(text)) {
			t.Errorf("re-encoded %q, %v, want %q", again, err, text)
		}
	})
}
