package hybrid

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/age"

	"cloakroom/securemem"
)

// theirIdentity is age's text of the seed c0…df.
const theirIdentity = "AGE-SECRET-KEY-PQ-1CRQU9S7YCHRV0JXFET9UENWWELGDR5KN6N2AD47CM8DDHHXAMM0SS32QLF"

func seed(t *testing.T, first byte) *securemem.Secret {
	t.Helper()
	mem, err := securemem.Open(securemem.Config{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	s, err := mem.NewSecret(SeedBytes)
	if err != nil {
		t.Fatal(err)
	}
	s.Use(func(b []byte) {
		for i := range b {
			b[i] = first + byte(i)
		}
	})
	return s
}

func seal(t *testing.T, to age.Recipient, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func open(file []byte, with age.Identity) (string, error) {
	r, err := age.Decrypt(bytes.NewReader(file), with)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// What either seals the other opens, and both write one text.
func TestIdentityIsAges(t *testing.T) {
	theirs, err := age.ParseHybridIdentity(theirIdentity)
	if err != nil {
		t.Fatal(err)
	}
	s := seed(t, 0xc0)
	ours := NewRecipient(s)
	if got, want := ours.String(), theirs.Recipient().String(); got != want {
		t.Errorf("the text is %s, want %s", got, want)
	}
	for by, to := range map[string]age.Recipient{"us": ours, "them": theirs.Recipient()} {
		file := seal(t, to, "a text")
		for name, id := range map[string]age.Identity{"ours": NewIdentity(s), "theirs": theirs} {
			if got, err := open(file, id); err != nil || got != "a text" {
				t.Errorf("sealed by %s, opened with %s: %q, %v", by, name, got, err)
			}
		}
		if _, err := open(file, NewIdentity(seed(t, 0))); err == nil {
			t.Errorf("sealed by %s, opened with another seed", by)
		}
	}
}

// age reads every text that is written here.
func TestTextIsBech32(t *testing.T) {
	number := rand.Uint64()
	t.Logf("seed %d", number)
	rnd := rand.New(rand.NewPCG(number, 1))
	for range 20 {
		s := seed(t, byte(rnd.Uint32()))
		s.Use(func(b []byte) {
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
		})
		text := NewRecipient(s).String()
		back, err := age.ParseHybridRecipient(text)
		if err != nil || back.String() != text {
			t.Fatalf("%s: %v", text, err)
		}
		wrong := strings.Replace(text, text[10:11], string(textLetters[(strings.IndexByte(textLetters, text[10])+1)%32]), 1)
		if _, err := age.ParseHybridRecipient(wrong); err == nil {
			t.Fatal("age takes a text with a wrong letter")
		}
	}
}

// Stanzas that are not ours in every way are passed over.
func TestUnwrapPassesOver(t *testing.T) {
	s := seed(t, 7)
	good, err := NewRecipient(s).Wrap(bytes.Repeat([]byte{9}, 16))
	if err != nil {
		t.Fatal(err)
	}
	g := good[0]
	for name, bad := range map[string]*age.Stanza{
		"another type": {Type: "X25519", Args: g.Args, Body: g.Body},
		"no argument":  {Type: g.Type, Body: g.Body},
		"two":          {Type: g.Type, Args: append(g.Args, "x"), Body: g.Body},
		"no base64":    {Type: g.Type, Args: []string{"!"}, Body: g.Body},
		"short key":    {Type: g.Type, Args: []string{"AAAA"}, Body: g.Body},
		"short body":   {Type: g.Type, Args: g.Args, Body: g.Body[:31]},
		"damaged":      {Type: g.Type, Args: g.Args, Body: append([]byte{g.Body[0] ^ 1}, g.Body[1:]...)},
	} {
		if key := Unwrap(s, []*age.Stanza{bad}); key != nil {
			t.Errorf("%s: got a key", name)
		}
		if key := Unwrap(s, []*age.Stanza{bad, g}); !bytes.Equal(key, bytes.Repeat([]byte{9}, 16)) {
			t.Errorf("%s, then a good one: got %x", name, key)
		}
	}
	if _, err := NewIdentity(s).Unwrap(nil); err != age.ErrIncorrectIdentity {
		t.Errorf("no stanza: %v", err)
	}
}
