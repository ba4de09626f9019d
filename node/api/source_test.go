package api

import (
	"strings"
	"testing"
)

// sourceCases are bodies of an upsert that are refused.
func sourceCases() []refusalCase {
	upsert := func(what, source string) refusalCase {
		return refusalCase{what, "PUT", bySource, `{` + source + `"fields":{"name":"Ada"}}`, nil, 400, "malformed"}
	}
	return []refusalCase{
		upsert("no issuer", `"subject":"`+marker+`",`),
		upsert("no subject", `"issuer":"`+marker+`",`),
		upsert("an empty issuer", `"issuer":"","subject":"`+marker+`",`),
		upsert("an empty subject", `"issuer":"`+marker+`","subject":"",`),
		upsert("a long issuer", `"issuer":"`+strings.Repeat("i", 256)+`","subject":"s",`),
		upsert("a long subject", `"issuer":"i","subject":"`+strings.Repeat("s", 1025)+`",`),
		upsert("a subject of the wrong type", `"issuer":"`+marker+`","subject":1815,`),
		upsert("a subject twice", `"issuer":"i","subject":"`+marker+`","subject":"`+marker+`",`),
		upsert("an id in an upsert", `"issuer":"i","subject":"s","id":"`+testID+`",`),
		{"an issuer in a deposit", "POST", "/v1/subjects", `{"issuer":"` + marker + `","fields":{}}`, nil, 400, "malformed"},
		{"a subject in a put", "PUT", sub, `{"subject":"` + marker + `","fields":{}}`, nil, 400, "malformed"},
	}
}

// TestUpsertReadsItsSource: issuer and subject reach the service as they were
// meant, in any place of the body, unescaped, up to their limits.
func TestUpsertReadsItsSource(t *testing.T) {
	service := new(fakeService)
	f := start(t, service)
	long := strings.Repeat("i", 255)
	for _, c := range []struct{ body, issuer, subject string }{
		{`{"issuer":"https://login.example.org","subject":"248289761001","fields":{"name":"Ada"}}`, "https://login.example.org", "248289761001"},
		{`{"fields":{"name":"A\u0064a"},"subject":"a\"b","issuer":"\u00fc","domain":"shop"}`, "ü", `a"b`},
		{`{"issuer":"` + long + `","subject":"` + strings.Repeat("s", 1024) + `","fields":{"name":"Ada"}}`, long, strings.Repeat("s", 1024)},
	} {
		if a := f.do("PUT", bySource, c.body); a.status != 200 {
			t.Fatalf("%s: %d %s", c.body, a.status, a.body)
		}
		if got, want := string(service.source.Issuer), c.issuer; got != want {
			t.Errorf("issuer: got %q, want %q", got, want)
		}
		if got, want := string(service.source.Subject), c.subject; got != want {
			t.Errorf("subject: got %q, want %q", got, want)
		}
		if d := service.deposit; len(d.Fields) != 1 || string(d.Fields[0].Value) != "Ada" || d.HasID {
			t.Errorf("deposit: %+v", d)
		}
	}
}
