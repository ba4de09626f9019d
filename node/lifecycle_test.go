package node_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node"
)

// clock is a wall clock that a test can move forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// uptime is a clock that goes on when a test says so.
type uptime struct{ ahead atomic.Int64 }

func (u *uptime) now() time.Duration      { return time.Hour + time.Duration(u.ahead.Load()) }
func (u *uptime) advance(d time.Duration) { u.ahead.Add(int64(d)) }

// until calls ask until it says yes, for 20 s at most.
func until(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ask(); {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

func TestTTLHidesASubject(t *testing.T) {
	var c clock
	h := open(t, func(cfg *node.Config) { cfg.Now = c.now })
	short := h.deposit(`{"fields":{"display_name":"Ada Lovelace"},"ttl":"2h"}`)
	long := h.deposit(ada)
	if p := h.resolve([]string{short.ID, long.ID}, `["display_name"]`); len(p.Subjects) != 2 {
		t.Fatalf("before the expiry: %d subjects, want 2", len(p.Subjects))
	}
	c.advance(2*time.Hour + time.Second)
	until(t, "shard time has passed the expiry", func() bool {
		return len(h.resolve([]string{short.ID}, `["display_name"]`).Missing) == 1
	})
	h.call("GET", "/v1/subjects/"+short.ID, "").want(t, 404, "not-found")
	h.call("PATCH", "/v1/subjects/"+short.ID, `{"fields":{"email":"a@example.org"}}`).want(t, 404, "not-found")
	if p := h.resolve([]string{long.ID}, `["display_name"]`); len(p.Subjects) != 1 {
		t.Error("a subject without ttl is hidden as well")
	}
}

func TestSweepWipesWhatExpired(t *testing.T) {
	var c clock
	var u uptime
	h := open(t, func(cfg *node.Config) { cfg.Now, cfg.Uptime = c.now, u.now; cfg.Shards = 2 })
	short := h.deposit(`{"fields":{"display_name":"Ada Lovelace"},"ttl":"1h"}`)
	kept := h.deposit(ada)
	sweepUntilExpired(t, h, &c, &u, short.ID)
	if got := h.node.Subjects(); got != 2 {
		t.Fatalf("%d subjects as soon as clocks jumped ahead, want 2: they may be wrong", got)
	}
	u.advance(time.Hour)
	sweep(t, h)
	if got := h.node.Subjects(); got != 1 {
		t.Errorf("%d subjects an hour later, want 1", got)
	}
	h.call("GET", "/v1/subjects/"+kept.ID, "").want(t, 200, "")
}

func sweep(t *testing.T, h *house) {
	t.Helper()
	if err := h.node.SweepOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// sweepUntilExpired sets the clock three hours ahead and sweeps when the shard
// has followed.
func sweepUntilExpired(t *testing.T, h *house, c *clock, u *uptime, id string) {
	t.Helper()
	sweep(t, h)
	u.advance(time.Hour) // an hour of the time before wipes nothing
	c.advance(3 * time.Hour)
	until(t, "shard time has passed the expiry", func() bool {
		return len(h.resolve([]string{id}, `["display_name"]`).Missing) == 1
	})
	sweep(t, h)
}

// One round wipes all there is: what expires faster than that is never gone.
func TestSweepLeavesNothingForLater(t *testing.T) {
	var c clock
	var u uptime
	h := open(t, func(cfg *node.Config) { cfg.Now, cfg.Uptime = c.now, u.now; cfg.Shards = 1 })
	h.call("POST", "/v1/subjects/batch", `{"subjects":[`+strings.TrimSuffix(
		strings.Repeat(`{"fields":{"display_name":"Ada Lovelace"},"ttl":"1h"},`, 1000), ",")+`]}`).want(t, 200, "")
	short := h.deposit(`{"fields":{"display_name":"Ada Lovelace"},"ttl":"1h"}`)
	last := h.deposit(ada)
	sweepUntilExpired(t, h, &c, &u, short.ID)
	u.advance(time.Hour)
	sweep(t, h)
	if got := h.node.Subjects(); got != 1 {
		t.Errorf("after the first round: %d subjects, want 1", got)
	}
	h.call("GET", "/v1/subjects/"+last.ID, "").want(t, 200, "")
}

func TestForeignDomainIsMissing(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Domains = []string{"shop", "clinic"}
		for i, name := range cfg.Domains {
			cfg.Principals = append(cfg.Principals, node.Principal{Name: name, Token: []byte("token-" + name), Grant: directory.Grant{
				Actions: []directory.Action{directory.Deposit, directory.Update, directory.Resolve, directory.Read, directory.Erase},
				Domains: node.DomainNumbers(i + 1), AllFields: true, Form: directory.FormPlain}})
		}
	})
	shop := []string{"Authorization", "Bearer token-shop"}
	clinic := []string{"Authorization", "Bearer token-clinic"}
	d := h.deposit(`{"domain":"clinic","fields":{"display_name":"Ada Lovelace"}}`, clinic...)
	path := "/v1/subjects/" + d.ID

	for _, fields := range []string{`["display_name"]`, `["email"]`} {
		if p := h.resolve([]string{d.ID}, fields, shop...); len(p.Subjects) != 0 || len(p.Missing) != 1 {
			t.Errorf("%s resolved from another domain: %d subjects, %d missing", fields, len(p.Subjects), len(p.Missing))
		}
	}
	h.call("GET", path, "", shop...).want(t, 404, "not-found")
	h.call("DELETE", path, "", shop...).want(t, 404, "not-found")
	h.call("PATCH", path, `{"fields":{"email":"eve@example.org"}}`, shop...).want(t, 404, "not-found")
	h.call("PUT", path, `{"domain":"shop","fields":{"email":"eve@example.org"}}`, shop...).want(t, 409, "conflict")
	h.call("POST", "/v1/subjects", `{"domain":"clinic","fields":{"email":"eve@example.org"}}`, shop...).want(t, 403, "denied")
	h.call("POST", "/v1/subjects", ada, shop...).want(t, 403, "denied")
	if p := h.resolve([]string{d.ID}, `["display_name"]`, clinic...); p.Subjects[d.ID]["display_name"] != "Ada Lovelace" {
		t.Error("the subject's own domain no longer sees it")
	}
}

func TestRetiredFieldsAreErasedToo(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(`{"fields":{"display_name":"Ada Lovelace","national_id":"12345678"}}`)
	h.call("PUT", "/v1/schema", `{"epoch":1,"fields":[
		{"name":"display_name","type":"text","purposes":["display"],"max_retention":"8760h"},
		{"name":"nick","type":"text","purposes":["display"],"max_retention":"8760h"}]}`).want(t, 200, "")
	h.call("POST", "/v1/subjects", `{"fields":{"national_id":"x"}}`).want(t, 422, "schema")
	h.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"nick":"Countess"}}`).want(t, 200, "")
	got := h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	if !strings.Contains(got.body, "Countess") || strings.Contains(got.body, "12345678") {
		t.Error("after the change: want the new field, and none that is retired")
	}
	if records := h.node.Records(); records != 4 { // subject, display_name, national_id, nick
		t.Fatalf("records before the erasure: got %d, want 4", records)
	}
	h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	if records := h.node.Records(); records != 1 { // the mark
		t.Errorf("records after the erasure: got %d, want 1", records)
	}
}

func TestPatchesFromEverywhereAllLand(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(ada)
	fields := []string{
		`{"display_name":"A King"}`, `{"email":"king@example.org"}`, `{"phone":"+4930123456"}`,
		`{"birth_date":"1815-12-10"}`, `{"national_id":"77"}`, `{"address":{"city":"London"}}`,
	}
	var wait sync.WaitGroup
	for _, f := range fields {
		wait.Go(func() {
			if a := h.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":`+f+`}`); a.status != 200 {
				t.Errorf("patch: got %d %s", a.status, a.problem())
			}
		})
	}
	wait.Wait()
	var s struct{ Fields map[string]any }
	h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 200, "").decode(t, &s)
	if len(s.Fields) != len(fields) {
		t.Errorf("after %d patches at once: %d fields", len(fields), len(s.Fields))
	}
}

func TestEveryRequestLeavesAnAuditEntry(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "nobody", Token: []byte("token-of-nobody-much"),
			Grant: directory.Grant{Actions: []directory.Action{directory.Status}, Form: directory.FormMasked}})
	})
	d := h.deposit(ada)
	h.resolve([]string{d.ID, "00000000-0000-4000-8000-000000000001"}, `["email"]`, "Cloakroom-Purpose", "contact")
	h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 404, "")
	h.call("POST", "/v1/resolve", `{"ids":["`+d.ID+`"],"fields":["email"]}`, "Cloakroom-Purpose", "nonsense").want(t, 403, "purpose")
	h.call("GET", "/metrics", "", "Authorization", "Bearer token-of-nobody-much").want(t, 403, "denied")
	lines := h.node.AuditLines()
	for _, want := range []string{
		`"principal":"nobody","action":"metrics","asked":0,"found":0,"missing":0,"outcome":"denied"`,
		`"action":"deposit","fields":["display_name","email"],"asked":1,"found":0,"missing":0,"outcome":"intent"`,
		`"action":"deposit","fields":["display_name","email"],"asked":1,"found":1,"missing":0,"outcome":"ok"`,
		`"action":"resolve","fields":["email"],"form":"plain","purpose":"contact","asked":2,"found":1,"missing":1,"outcome":"ok"`,
		`"action":"erase","asked":1,"found":0,"missing":0,"outcome":"intent"`,
		`"action":"read"`,
		`"outcome":"purpose"`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no audit entry with %s in:\n%s", want, lines)
		}
	}
	for _, never := range []string{"Ada", "example.org", d.ID, "nonsense", allToken} {
		if strings.Contains(lines, never) {
			t.Error("the audit log holds a value, a pseudonym, a token or a caller's text")
		}
	}
}

func TestDepositsFromManyCallersAreAllThere(t *testing.T) {
	h := open(t, nil)
	const callers, each = 8, 25
	ids := make([][]string, callers)
	var wait sync.WaitGroup
	for c := range callers {
		wait.Go(func() {
			for i := range each {
				ids[c] = append(ids[c], h.deposit(fmt.Sprintf(`{"fields":{"display_name":"caller %d number %d"}}`, c, i)).ID)
			}
		})
	}
	wait.Wait()
	for c := range callers {
		p := h.resolve(ids[c], `["display_name"]`)
		for i, id := range ids[c] {
			if got, want := p.Subjects[id]["display_name"], fmt.Sprintf("caller %d number %d", c, i); got != want {
				t.Fatalf("caller %d, deposit %d: got another subject's value or none", c, i)
			}
		}
	}
}

func TestStatusAndReadiness(t *testing.T) {
	h := open(t, func(cfg *node.Config) { cfg.Shards = 3 })
	h.deposit(ada)
	var s struct {
		Ready    bool
		Subjects int
		Memory   struct{ Backend string }
		Shards   []struct {
			Leading   bool
			Tolerates int
		}
	}
	h.call("GET", "/v1/sys/status", "").want(t, 200, "").decode(t, &s)
	if !s.Ready || s.Subjects != 1 || s.Memory.Backend == "" || len(s.Shards) != 3 || !s.Shards[2].Leading {
		t.Errorf("status: got %+v", s)
	}
	h.call("GET", "/readyz", "").want(t, 200, "")
	if got := h.call("GET", "/readyz?verbose", "").want(t, 200, ""); !strings.Contains(got.body, `"tolerates":0`) {
		t.Error("the verbose readiness does not tell what each shard tolerates")
	}
	h.call("GET", "/livez", "").want(t, 200, "")
}

func TestPutLeavesFieldsOutsideItsGrant(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "names", Token: []byte("token-names"), Grant: directory.Grant{
			Actions: []directory.Action{directory.Deposit}, Fields: []cloakroom.FieldNumber{cloakroom.FirstField},
			AllDomains: true, Form: directory.FormPlain}})
	})
	d := h.deposit(ada)
	h.call("PUT", "/v1/subjects/"+d.ID, `{"fields":{"display_name":"Ada King"}}`, "Authorization", "Bearer token-names").want(t, 200, "")
	p := h.resolve([]string{d.ID}, `["display_name","email"]`)
	if got := p.Subjects[d.ID]; got["display_name"] != "Ada King" || got["email"] != "ada@example.org" {
		t.Errorf("after a PUT of the name alone by a caller who may not write e-mail: %d fields", len(got))
	}
}

func TestRefusalsOfTheFrontDoorAreAudited(t *testing.T) {
	h := open(t, nil)
	h.call("POST", "/v1/resolve", `{"ids":[]}`, "Authorization", "Bearer nobody").want(t, 401, "unauthenticated")
	h.call("POST", "/v1/resolve", `{"ids":`).want(t, 400, "malformed")
	h.call("GET", "/v1/subjects/nonsense", "").want(t, 400, "malformed-id")
	h.call("GET", "/livez", "").want(t, 200, "")
	lines := strings.Split(strings.TrimSpace(h.node.AuditLines()), "\n")
	if len(lines) != 3 {
		t.Fatalf("audit entries: got %d, want 3", len(lines))
	}
	for i, want := range []string{
		`"action":"resolve","asked":0,"found":0,"missing":0,"outcome":"unauthenticated"`,
		`"principal":"dev","action":"resolve","asked":0,"found":0,"missing":0,"outcome":"malformed"`,
		`"principal":"dev","action":"get","asked":0,"found":0,"missing":0,"outcome":"malformed"`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("entry %d: want %s in %s", i, want, lines[i])
		}
	}
}
