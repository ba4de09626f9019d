package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node"
	"cloakroom/securemem"
)

// secretMark stands in every value a bad request carries: it must come back in
// no answer and no log line.
const secretMark = "Zq7Marker"

// TestBadInput sends what the whole house must refuse (what the front door
// refuses by itself is tested there) and proves that nothing changed.
func TestBadInput(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Principals = append(cfg.Principals,
			node.Principal{Name: "names-only", Token: []byte("token-names"), Grant: directory.Grant{
				Actions: []directory.Action{directory.Resolve, directory.Deposit},
				Fields:  []cloakroom.FieldNumber{cloakroom.FirstField}, Form: directory.FormPlain, AllDomains: true}},
			node.Principal{Name: "expired", Token: []byte("token-expired"), Grant: directory.Grant{
				Actions: directory.Actions(), AllFields: true, AllDomains: true, Form: directory.FormPlain,
				Expires: time.Now().Add(-time.Hour).Unix()}},
			node.Principal{Name: "for-display", Token: []byte("token-display"), Grant: directory.Grant{
				Actions: []directory.Action{directory.Resolve}, AllFields: true, AllDomains: true,
				Form: directory.FormPlain, Purposes: []string{"display"}}},
			node.Principal{Name: "revoked", Token: []byte("token-revoked"), Grant: directory.Grant{
				Actions: directory.Actions(), AllFields: true, AllDomains: true, Form: directory.FormPlain}},
		)
	})
	if err := h.node.Revoke(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	kept := h.deposit(ada)
	before := h.call("GET", "/v1/subjects/"+kept.ID, "").want(t, 200, "").body
	resolve := `{"ids":["` + kept.ID + `"],"fields":["email"]}`
	as := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	long := strings.Repeat("a", 1025)
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		problem                  string
	}{
		{"unknown field", "POST", "/v1/subjects", `{"fields":{"` + secretMark + `":"x"}}`, nil, 422, "schema"},
		{"no fields", "POST", "/v1/subjects", `{"fields":{}}`, nil, 422, "schema"},
		{"empty value", "POST", "/v1/subjects", `{"fields":{"display_name":""}}`, nil, 422, "schema"},
		{"over-long value", "POST", "/v1/subjects", `{"fields":{"display_name":"` + long + `"}}`, nil, 422, "schema"},
		{"control character", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `\u0007"}}`, nil, 422, "schema"},
		{"NUL", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `\u0000"}}`, nil, 422, "schema"},
		{"not an e-mail address", "POST", "/v1/subjects", `{"fields":{"email":"` + secretMark + `"}}`, nil, 422, "schema"},
		{"not a phone number", "POST", "/v1/subjects", `{"fields":{"phone":"` + secretMark + `"}}`, nil, 422, "schema"},
		{"no such day", "POST", "/v1/subjects", `{"fields":{"birth_date":"2001-02-29"}}`, nil, 422, "schema"},
		{"JSON for a text field", "POST", "/v1/subjects", `{"fields":{"display_name":{"a":"` + secretMark + `"}}}`, nil, 422, "schema"},
		{"null in a deposit", "POST", "/v1/subjects", `{"fields":{"display_name":null}}`, nil, 400, "malformed"},
		{"ttl over the retention", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `"},"ttl":"876000h"}`, nil, 422, "schema"},
		{"unknown domain", "POST", "/v1/subjects", `{"domain":"nowhere","fields":{"display_name":"` + secretMark + `"}}`, nil, 403, "denied"},
		{"field not granted to a writer", "POST", "/v1/subjects", `{"fields":{"email":"a@example.org"}}`, as("token-names"), 403, "denied"},
		{"field not granted to a reader", "POST", "/v1/resolve", resolve, as("token-names"), 403, "denied"},
		{"action not granted", "DELETE", "/v1/subjects/" + kept.ID, "", as("token-names"), 403, "denied"},
		{"schema not granted", "PUT", "/v1/schema", `{"epoch":1,"fields":[]}`, as("token-names"), 403, "denied"},
		{"status not granted", "GET", "/v1/sys/status", "", as("token-names"), 403, "denied"},
		{"metrics not granted", "GET", "/metrics", "", as("token-names"), 403, "denied"},
		{"missing purpose", "POST", "/v1/resolve", resolve, as("token-display"), 403, "purpose"},
		{"unknown purpose", "POST", "/v1/resolve", resolve, append(as("token-display"), "Cloakroom-Purpose", "fun"), 403, "purpose"},
		{"unknown form", "POST", "/v1/resolve", strings.Replace(resolve, `"fields"`, `"form":"upside-down","fields"`, 1), nil, 403, "denied"},
		{"unknown field in a resolve", "POST", "/v1/resolve", `{"ids":["` + kept.ID + `"],"fields":["` + secretMark + `"]}`, nil, 422, "schema"},
		{"unknown token", "POST", "/v1/resolve", resolve, as("no-such-token"), 401, "unauthenticated"},
		{"expired token", "POST", "/v1/resolve", resolve, as("token-expired"), 401, "unauthenticated"},
		{"revoked token", "POST", "/v1/resolve", resolve, as("token-revoked"), 401, "unauthenticated"},
		{"stale If-Match", "PUT", "/v1/subjects/" + kept.ID, ada, []string{"If-Match", `"0123456789abcdef"`}, 412, "version"},
		{"schema with another case of a member", "PUT", "/v1/schema", `{"epoch":1,"Fields":[],"fields":[]}`, nil, 400, "malformed"},
		{"schema field with another case of a member", "PUT", "/v1/schema", `{"epoch":1,"fields":[{"NAME":"nick","type":"text","max_retention":"24h","purposes":["display"]}]}`, nil, 400, "malformed"},
		{"schema without fields", "PUT", "/v1/schema", `{"epoch":1}`, nil, 400, "malformed"},
		{"schema with a type that is not served yet", "PUT", "/v1/schema", `{"epoch":1,"fields":[{"name":"note","type":"sealed","max_retention":"24h","purposes":["display"]}]}`, nil, 422, "schema"},
		{"schema without purposes", "PUT", "/v1/schema", `{"epoch":1,"fields":[{"name":"nick","type":"text","max_retention":"24h","purposes":[]}]}`, nil, 422, "schema"},
		{"schema of an old epoch", "PUT", "/v1/schema", `{"epoch":9,"fields":[{"name":"nick","type":"text","max_retention":"24h","purposes":["display"]}]}`, nil, 409, "conflict"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := h.call(test.method, test.path, test.body, test.headers...).want(t, test.status, test.problem)
			if strings.Contains(got.body, secretMark) {
				t.Error("the answer echoes what was sent")
			}
		})
	}
	if after := h.call("GET", "/v1/subjects/"+kept.ID, "").want(t, 200, "").body; after != before {
		t.Error("a refused request changed a subject")
	}
	for name, text := range map[string]string{"log": h.logs.String(), "audit log": h.node.AuditLines()} {
		for _, secret := range []string{secretMark, "Ada Lovelace", allToken, "token-revoked", kept.ID} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds a value, a token or a pseudonym", name)
			}
		}
	}
}

func TestASubjectOver64KiBIsRefused(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		for i := range cfg.Schema {
			cfg.Schema[i].MaxBytes = 40 << 10
		}
	})
	value := strings.Repeat("x", 33<<10)
	body := `{"fields":{"display_name":"` + value + `","national_id":"` + value + `"}}`
	h.call("POST", "/v1/subjects", body).want(t, 413, "too-large")
	h.call("POST", "/v1/subjects/batch", `{"subjects":[`+body+`]}`).want(t, 413, "too-large")
}

func TestArenaFullStillErases(t *testing.T) {
	h := open(t, func(cfg *node.Config) { cfg.Memory.Limit = 16 << 20; cfg.Shards = 2 })
	value := strings.Repeat("v", 900)
	var ids []string
	full := false
	for range 60 {
		var batch []string
		for range 500 {
			batch = append(batch, `{"fields":{"display_name":"`+value+`"}}`)
		}
		a := h.call("POST", "/v1/subjects/batch", `{"subjects":[`+strings.Join(batch, ",")+`]}`)
		if a.status == 503 || strings.Contains(a.body, "memory-full") {
			full = true
			break
		}
		var out struct{ Results []deposited }
		a.want(t, 200, "").decode(t, &out)
		ids = append(ids, out.Results[0].ID)
	}
	if !full {
		t.Fatal("16 MiB of arena never got full")
	}
	for range 1000 { // what is left of the last tenth is too small for a batch
		if h.call("POST", "/v1/subjects", `{"fields":{"display_name":"`+value+`"}}`).problem() == "/problems/memory-full" {
			full = false
			break
		}
	}
	if full {
		t.Error("single deposits go on when the arena is full")
	}
	h.call("DELETE", "/v1/subjects/"+ids[0], "").want(t, 200, "")
	if p := h.resolve(ids[:1], `["display_name"]`); len(p.Missing) != 1 {
		t.Error("an erased subject is still served")
	}
}

// What is let in must find room: records of many sizes take memory that those
// of one size never did, and a shard that runs out of it stops for good.
func TestManySizesStopNoShard(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Memory.Limit = 64 << 20
		for i := range cfg.Schema {
			cfg.Schema[i].MaxBytes = 60 << 10
		}
	})
	batch := func(sizes ...int) answer {
		items := make([]string, len(sizes))
		for i, n := range sizes {
			items[i] = `{"fields":{"display_name":"` + strings.Repeat("v", n) + `"}}`
		}
		return h.call("POST", "/v1/subjects/batch", `{"subjects":[`+strings.Join(items, ",")+`]}`)
	}
	status := func() (s struct {
		Arena  struct{ Free int }
		Shards []struct {
			Leading bool
			Parked  string
		}
	}) {
		h.call("GET", "/v1/sys/status", "").want(t, 200, "").decode(t, &s)
		return s
	}
	for status().Arena.Free > 14<<20 && batch(slices.Repeat([]int{900}, 250)...).status == 200 {
	}
	var sizes []int
	for total, n := 0, 64; total < 7<<20; total += n {
		if n += 64 + n/9; n > 27<<10 {
			n = 64
		}
		sizes = append(sizes, n)
	}
	batch(sizes...)
	for i, s := range status().Shards {
		if !s.Leading || s.Parked != "" {
			t.Errorf("shard %d stopped: %s", i, s.Parked)
		}
	}
}

func TestAnUnknownBackendRefuses(t *testing.T) {
	cfg := node.DevConfig([]byte("t"))
	cfg.Memory = securemem.Config{Lock: securemem.LockRequired, Backend: "no-such-backend"}
	if n, err := node.New(t.Context(), cfg); err == nil {
		n.Close()
		t.Fatal("started with a backend that does not exist")
	}
}
