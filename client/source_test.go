package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/client"
)

func TestUpsert(t *testing.T) {
	s, c, _ := start(t)
	source := client.Source{Issuer: "https://login.example.org", Subject: "248289761001"}
	subject := client.Subject{Domain: "web", Fields: client.Fields{"display_name": client.Text(name)}, IdempotencyKey: "k1"}
	made, err := c.Upsert(t.Context(), source, subject)
	if err != nil || !made.Created || made.ID == (cloakroom.Pseudonym{}) || made.Version == "" {
		t.Fatalf("Upsert = %+v, %v", made, err)
	}
	if got := s.Subjects()[made.ID].Domain; got != "web" {
		t.Errorf("domain %q, want web", got)
	}
	if again, err := c.Upsert(t.Context(), source, subject); err != nil || again.Created || again.ID != made.ID {
		t.Errorf("the second time: %+v, %v, want the same id", again, err)
	}
	for _, r := range s.Requests() {
		if r.Path != "/v1/subjects/by-source" || r.Key != "k1" {
			t.Errorf("%s %s with key %q: want the source in the body alone", r.Method, r.Path, r.Key)
		}
	}
	subject.ID = made.ID
	if _, err := c.Upsert(t.Context(), source, subject); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Errorf("with an id: %v, want ErrMalformed", err)
	}
}

// A source is personal data: printing one, in an error too, shows nothing.
func TestASourceIsNotPrinted(t *testing.T) {
	_, c, _ := start(t)
	source := client.Source{Subject: "marker-of-a-subject"}
	_, err := c.Upsert(t.Context(), source, client.Subject{})
	if err == nil {
		t.Fatal("an empty issuer was taken")
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, source) + fmt.Sprintf(format, &source) + err.Error(); strings.Contains(text, "marker") {
			t.Errorf("%s prints %s", format, text)
		}
	}
}
