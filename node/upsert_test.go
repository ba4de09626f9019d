package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom/cluster/directory"
	"cloakroom/node"
)

const bySource = "/v1/subjects/by-source"

// source is the body of an upsert of one person with that name.
func source(subject, domain, name string) string {
	if domain != "" {
		domain = `"domain":"` + domain + `",`
	}
	return `{"issuer":"https://login.example.org","subject":"` + subject + `",` + domain + `"fields":{"display_name":"` + name + `"}}`
}

// upsert calls with a status in mind.
func (h *house) upsert(status int, body string, headers ...string) (d deposited) {
	h.t.Helper()
	h.call("PUT", bySource, body, headers...).want(h.t, status, "").decode(h.t, &d)
	return d
}

// twoShops is a cluster with two domains, and a principal for each.
func twoShops(cfg *node.Config) {
	cfg.Domains = []string{"shop", "clinic"}
	for i, name := range cfg.Domains {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: name, Token: []byte("token-" + name), Grant: directory.Grant{
			Actions: []directory.Action{directory.Deposit, directory.Update, directory.Resolve, directory.Read, directory.Erase},
			Domains: node.DomainNumbers(i + 1), AllFields: true, Form: directory.FormPlain,
			Issuers: []string{"https://login.example.org"}}})
	}
}

var (
	asShop   = []string{"Authorization", "Bearer token-shop"}
	asClinic = []string{"Authorization", "Bearer token-clinic"}
)

func TestUpsertMakesFindsAndReplaces(t *testing.T) {
	h := open(t, nil)
	d := h.upsert(201, source("s1", "", "Ada Lovelace"))
	h.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"email":"ada@example.org"}}`).want(t, 200, "")
	again := h.upsert(200, source("s1", "default", "Ada King"))
	if again.ID != d.ID || again.Version == d.Version {
		t.Errorf("the second time: %+v, want the id and another version than %+v", again, d)
	}
	p := h.resolve([]string{d.ID}, `["display_name","email"]`)
	if got := p.Subjects[d.ID]; got["display_name"] != "Ada King" || got["email"] != nil {
		t.Errorf("after the second: %v, want the new name alone", got)
	}
	for _, other := range []string{source("s2", "", "Grace Hopper"), strings.Replace(source("s1", "", "Grace Hopper"), "login", "logon", 1)} {
		if got := h.upsert(201, other); got.ID == d.ID {
			t.Error("another source has the same pseudonym")
		}
	}
	if got := h.node.Subjects(); got != 3 {
		t.Errorf("%d subjects, want 3", got)
	}
}

func TestUpsertHonoursKeyAndVersion(t *testing.T) {
	h := open(t, nil)
	first := h.upsert(201, source("s1", "", "Ada Lovelace"), "Idempotency-Key", "k1")
	if again := h.upsert(200, source("s1", "", "Ada Lovelace"), "Idempotency-Key", "k1"); again != first {
		t.Errorf("a retry: %+v, want %+v", again, first)
	}
	h.call("PUT", bySource, source("s1", "", "Ada King"), "Idempotency-Key", "k1").want(t, 422, "idempotency")
	// One key and one body for two people are two writes.
	h.upsert(201, source("s2", "", "Ada Lovelace"), "Idempotency-Key", "k1")

	h.call("PUT", bySource, source("s1", "", "Ada King"), "If-Match", `"0123456789abcdef"`).want(t, 412, "version")
	h.call("PUT", bySource, source("s3", "", "Ada King"), "If-Match", `"0123456789abcdef"`).want(t, 412, "version")
	h.upsert(200, source("s1", "", "Ada King"), "If-Match", `"`+first.Version+`"`)
}

func TestUpsertIsRefused(t *testing.T) {
	h := open(t, twoShops)
	for _, c := range []struct {
		what, body, problem string
		status              int
	}{
		{"issuer not granted", strings.Replace(source("s", "shop", "Ada"), "login", "logon", 1), "denied", 403},
		{"domain not granted", source("s", "clinic", "Ada"), "denied", 403},
		{"the default domain, not granted", source("s", "", "Ada"), "denied", 403},
		{"domain that there is not", source("s", "moon", "Ada"), "denied", 403},
		{"no issuer", `{"subject":"s","domain":"shop","fields":{"display_name":"Ada"}}`, "malformed", 400},
		{"empty subject", source("", "shop", "Ada"), "malformed", 400},
		{"oversized subject", source(strings.Repeat("s", 1025), "shop", "Ada"), "malformed", 400},
		{"undeclared field", strings.Replace(source("s", "shop", "Ada"), "display_name", "nick", 1), "schema", 422},
	} {
		a := h.call("PUT", bySource, c.body, asShop...)
		if a.status != c.status || a.problem() != "/problems/"+c.problem {
			t.Errorf("%s: %d %s, want %d %s", c.what, a.status, a.problem(), c.status, c.problem)
		}
	}
	h.call("GET", bySource, "").want(t, 405, "method-not-allowed")
	if got := h.node.Subjects(); got != 0 {
		t.Errorf("refused upserts left %d subjects", got)
	}
}

// Issuer and subject are personal data: they stand in no log and no answer.
func TestASourceIsShownNowhere(t *testing.T) {
	h := open(t, twoShops)
	secret := "Marker-Of-A-Subject"
	body := strings.Replace(source(secret, "shop", "Ada"), "https://login.example.org", "Marker-Of-An-Issuer", 1)
	var answers strings.Builder
	for _, headers := range [][]string{nil, asShop, {"Idempotency-Key", "k"}, {"If-Match", `"0123456789abcdef"`}} {
		a := h.call("PUT", bySource, body, headers...)
		fmt.Fprint(&answers, a.header, a.body)
	}
	for _, text := range []string{answers.String(), h.logs.String(), h.node.AuditLines()} {
		if strings.Contains(text, "Marker-Of") {
			t.Errorf("shown: %s", text)
		}
	}
}

// Each domain has a pseudonym of its own for the person, and sees the person
// under that one alone.
func TestDomainsHavePseudonymsOfTheirOwn(t *testing.T) {
	h := open(t, twoShops)
	shop := h.upsert(201, source("s1", "shop", "Ada Lovelace"), asShop...)
	clinic := h.upsert(201, source("s1", "clinic", "Ada King"), asClinic...)
	if shop.ID == clinic.ID {
		t.Fatal("two domains share a pseudonym")
	}
	if again := h.upsert(200, source("s1", "clinic", "Ada King"), asClinic...); again.ID != clinic.ID {
		t.Error("another pseudonym the second time")
	}
	if got := h.node.Subjects(); got != 1 {
		t.Errorf("%d subjects, want 1", got)
	}
	for _, c := range []struct {
		own, foreign string
		auth         []string
	}{{shop.ID, clinic.ID, asShop}, {clinic.ID, shop.ID, asClinic}} {
		p := h.resolve([]string{c.foreign, c.own}, `["display_name"]`, c.auth...)
		if p.Subjects[c.own]["display_name"] != "Ada King" || len(p.Missing) != 1 || p.Missing[0] != c.foreign {
			t.Errorf("resolve: %v, missing %v", p.Subjects, p.Missing)
		}
		if p := h.resolve([]string{c.own}, `["email"]`, c.auth...); p.Subjects[c.own] == nil || len(p.Subjects[c.own]) != 0 {
			t.Errorf("without the field: %+v, want {}", p)
		}
		a := h.call("GET", "/v1/subjects/"+c.own, "", c.auth...).want(t, 200, "")
		if !strings.Contains(a.body, "Ada King") || !strings.Contains(a.body, c.own) {
			t.Errorf("GET: %s", a.body)
		}
		a = h.call("GET", "/v1/subjects/"+c.own+"?fields=email", "", c.auth...).want(t, 200, "")
		if !strings.Contains(a.body, `"fields":{}`) {
			t.Errorf("GET of a field that is not there: %s", a.body)
		}
		h.call("GET", "/v1/subjects/"+c.foreign, "", c.auth...).want(t, 404, "not-found")
		h.call("DELETE", "/v1/subjects/"+c.foreign, "", c.auth...).want(t, 404, "not-found")
		h.call("PATCH", "/v1/subjects/"+c.foreign, `{"fields":{"email":"eve@example.org"}}`, c.auth...).want(t, 404, "not-found")
		put := strings.Replace(ada, "{", `{"domain":"`+map[string]string{shop.ID: "shop", clinic.ID: "clinic"}[c.own]+`",`, 1)
		h.call("PUT", "/v1/subjects/"+c.foreign, put, c.auth...).want(t, 409, "conflict")
		item := strings.Replace(put, "{", `{"id":"`+c.foreign+`",`, 1)
		for _, items := range []string{item, item + "," + put} {
			batch := h.call("POST", "/v1/subjects/batch", `{"subjects":[`+items+`]}`, c.auth...).want(t, 200, "")
			if !strings.Contains(batch.body, `"version"`) != (items == item) || !strings.Contains(batch.body, "conflict") {
				t.Errorf("a batch: %s", batch.body)
			}
		}
		if p := h.resolve([]string{c.own}, `["display_name"]`, c.auth...); p.Subjects[c.own]["display_name"] != "Ada King" {
			t.Errorf("after foreign puts: %v", p.Subjects[c.own])
		}
	}
}

// Whatever is asked of an alias is done to the person.
func TestAnAliasIsAsGoodAsAName(t *testing.T) {
	h := open(t, twoShops)
	shop := h.upsert(201, source("s1", "shop", "Ada Lovelace"), asShop...)
	clinic := h.upsert(201, source("s1", "clinic", "Ada Lovelace"), asClinic...)
	path := "/v1/subjects/" + clinic.ID

	var d deposited
	h.call("PATCH", path, `{"fields":{"email":"ada@example.org"}}`, asClinic...).want(t, 200, "").decode(t, &d)
	if d.ID != clinic.ID {
		t.Error("PATCH answers another id than was asked for")
	}
	h.call("PATCH", path, `{"fields":{"email":null}}`, append(asClinic, "If-Match", `"`+clinic.Version+`"`)...).want(t, 412, "version")
	if p := h.resolve([]string{shop.ID}, `["email"]`, asShop...); p.Subjects[shop.ID]["email"] != "ada@example.org" {
		t.Errorf("after PATCH: %v", p.Subjects)
	}
	put := `{"domain":"clinic","fields":{"display_name":"Countess Lovelace"}}`
	h.call("PUT", path, put, asClinic...).want(t, 200, "").decode(t, &d)
	if d.ID != clinic.ID {
		t.Error("PUT answers another id than was asked for")
	}
	h.call("POST", "/v1/subjects/batch", `{"subjects":[{"id":"`+clinic.ID+`",`+put[1:]+`,{"domain":"clinic","fields":{"display_name":"Grace Hopper"}},{"id":"`+
		shop.ID+`",`+put[1:]+`]}`, asClinic...).want(t, 200, "")
	p := h.resolve([]string{shop.ID}, `["display_name","email"]`, asShop...)
	if got := p.Subjects[shop.ID]; got["display_name"] != "Countess Lovelace" || got["email"] != nil {
		t.Errorf("after PUT: %v", got)
	}
	if got := h.node.Subjects(); got != 2 {
		t.Errorf("%d subjects, want the person and one more", got)
	}
}

// To erase one pseudonym erases the person, with its handles and all others;
// whom the issuer sends again is somebody new.
func TestErasingAnyPseudonymErasesThePerson(t *testing.T) {
	h := open(t, twoShops)
	for _, first := range []string{"shop", "clinic"} {
		shop := h.upsert(201, source(first, "shop", "Ada Lovelace"), asShop...)
		clinic := h.upsert(201, source(first, "clinic", "Ada Lovelace"), asClinic...)
		ids := map[string]string{"shop": shop.ID, "clinic": clinic.ID}
		auth := map[string][]string{"shop": asShop, "clinic": asClinic}
		receipt := h.call("DELETE", "/v1/subjects/"+ids[first], "", auth[first]...).want(t, 200, "").body
		if !strings.Contains(receipt, ids[first]) {
			t.Error("the receipt names another id than was asked for")
		}
		if again := h.call("DELETE", "/v1/subjects/"+ids[first], "", auth[first]...).want(t, 200, "").body; again != receipt {
			t.Errorf("another receipt the second time:\n%s\n%s", receipt, again)
		}
		for domain, id := range ids {
			path, as := "/v1/subjects/"+id, auth[domain]
			h.call("GET", path, "", as...).want(t, 404, "not-found")
			if p := h.resolve([]string{id}, `["display_name"]`, as...); len(p.Missing) != 1 {
				t.Errorf("resolved after the erasure: %+v", p)
			}
			h.call("PUT", path, `{"domain":"`+domain+`","fields":{"display_name":"Ada"}}`, as...).want(t, 409, "erased")
			h.call("PATCH", path, `{"fields":{"display_name":"Ada"}}`, as...).want(t, 409, "erased")
			h.call("DELETE", path, "", as...).want(t, 200, "")
		}
		for domain, id := range ids {
			if d := h.upsert(201, source(first, domain, "Ada Lovelace"), auth[domain]...); d.ID == shop.ID || d.ID == clinic.ID {
				t.Errorf("%s: %s came back", domain, id)
			}
		}
	}
	if got := h.node.Subjects(); got != 2 {
		t.Errorf("%d subjects, want 2", got)
	}
}

// Two logins of one new person at two nodes are one person.
func TestTwoLoginsAtOnceAreOnePerson(t *testing.T) {
	nodes := openMany(t, 3, twoShops)
	const people = 40
	for person := range people {
		ids := make([]string, 6)
		var wait sync.WaitGroup
		for i := range ids {
			h, domain, auth := nodes[i%3], "shop", asShop
			if i >= 3 {
				domain, auth = "clinic", asClinic
			}
			body := source(fmt.Sprint("person-", person), domain, "Ada")
			wait.Go(func() {
				if a := h.call("PUT", bySource, body, auth...); a.status == 200 || a.status == 201 {
					var d deposited
					a.decode(t, &d)
					ids[i] = d.ID
				} else {
					t.Errorf("person %d: %d %s", person, a.status, a.problem())
				}
			})
		}
		wait.Wait()
		if ids[0] != ids[1] || ids[1] != ids[2] || ids[3] != ids[4] || ids[4] != ids[5] || ids[0] == ids[3] {
			t.Fatalf("person %d got %v", person, ids)
		}
	}
	await(t, "every node has them", func() bool { return nodes[0].node.Subjects() == people })
}

// An erasure that races with logins leaves no half behind: who was erased is
// gone with every pseudonym, and whoever logs in after it is one new person.
func TestEraseRacesWithLogins(t *testing.T) {
	nodes := openMany(t, 3, twoShops)
	const rounds = 25
	for round := range rounds {
		person := fmt.Sprint("person-", round)
		first := nodes[0].upsert(201, source(person, "shop", "Ada"), asShop...)
		ids := make(map[string][]string) // by domain
		var mu sync.Mutex
		var wait sync.WaitGroup
		wait.Go(func() {
			if a := nodes[round%3].call("DELETE", "/v1/subjects/"+first.ID, "", asShop...); a.status != 200 {
				t.Errorf("erase: %d %s", a.status, a.problem())
			}
		})
		for i := range 6 {
			h, domain, auth := nodes[i%3], "shop", asShop
			if i >= 3 {
				domain, auth = "clinic", asClinic
			}
			wait.Go(func() {
				var d deposited
				if a := h.call("PUT", bySource, source(person, domain, "Ada"), auth...); a.status == 200 || a.status == 201 {
					a.decode(t, &d)
				} else {
					t.Errorf("upsert: %d %s", a.status, a.problem())
				}
				mu.Lock()
				defer mu.Unlock()
				ids[domain] = append(ids[domain], d.ID)
			})
		}
		wait.Wait()
		shop := nodes[1].call("PUT", bySource, source(person, "shop", "Ada"), asShop...)
		clinic := nodes[2].call("PUT", bySource, source(person, "clinic", "Ada"), asClinic...)
		var alive struct{ shop, clinic deposited }
		shop.decode(t, &alive.shop)
		clinic.decode(t, &alive.clinic)
		oneOldOneNew(t, nodes[0], ids["shop"], first.ID, alive.shop.ID, asShop)
		oneOldOneNew(t, nodes[0], ids["clinic"], "", alive.clinic.ID, asClinic)
	}
	await(t, "there is one subject for each person", func() bool { return nodes[0].node.Subjects() == rounds })
}

// oneOldOneNew checks that ids are of at most two people: one who was erased,
// and one who is there.
func oneOldOneNew(t *testing.T, h *house, ids []string, erased, alive string, auth []string) {
	t.Helper()
	if alive == erased {
		t.Errorf("%s came back", erased)
	}
	for _, id := range ids {
		if id == alive {
			continue
		}
		if erased == "" {
			erased = id
		}
		if id != erased {
			t.Errorf("%s is neither who was erased (%s) nor who is there (%s)", id, erased, alive)
		}
	}
	if p := h.resolve([]string{alive}, `["display_name"]`, auth...); p.Subjects[alive]["display_name"] != "Ada" {
		t.Errorf("who is there has %v", p.Subjects)
	}
	if erased != "" {
		if p := h.resolve([]string{erased}, `["display_name"]`, auth...); len(p.Missing) != 1 {
			t.Errorf("who was erased has %v", p.Subjects)
		}
	}
}

// A person who expired is hidden under every pseudonym at once, comes back under
// the same ones until it is wiped, and is somebody new afterwards.
func TestAPersonExpires(t *testing.T) {
	var c clock
	var u uptime
	h := open(t, func(cfg *node.Config) { twoShops(cfg); cfg.Now, cfg.Uptime = c.now, u.now })
	short := func(domain string) string {
		return strings.Replace(source("s1", domain, "Ada"), `"fields"`, `"ttl":"1h","fields"`, 1)
	}
	shop := h.upsert(201, short("shop"), asShop...)
	clinic := h.upsert(201, short("clinic"), asClinic...)
	c.advance(61 * time.Minute)
	until(t, "the person is hidden", func() bool {
		return h.call("GET", "/v1/subjects/"+shop.ID, "", asShop...).status == 404 &&
			h.call("GET", "/v1/subjects/"+clinic.ID, "", asClinic...).status == 404
	})
	if p := h.resolve([]string{clinic.ID}, `["display_name"]`, asClinic...); len(p.Missing) != 1 {
		t.Errorf("an alias of somebody who expired: %+v", p)
	}
	if again := h.upsert(200, short("clinic"), asClinic...); again.ID != clinic.ID {
		t.Error("another pseudonym before the person was wiped")
	}
	h.call("GET", "/v1/subjects/"+shop.ID, "", asShop...).want(t, 200, "")
	sweepUntilExpired(t, h, &c, &u, shop.ID)
	u.advance(time.Hour)
	sweep(t, h)
	if got := h.node.Records(); got != 0 {
		t.Errorf("%d records are left of a person who was wiped", got)
	}
	if again := h.upsert(201, short("clinic"), asClinic...); again.ID == clinic.ID {
		t.Error("a pseudonym came back after its person was wiped")
	}
}

// A person has room for the pseudonyms of 32 domains; who asks for one more is
// told so, and nothing changes.
func TestAPersonHasSoManyPseudonyms(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		for i := range 32 {
			cfg.Domains = append(cfg.Domains, fmt.Sprint("d", i))
		}
	})
	h.upsert(201, source("s1", "", "Ada"))
	ids := make(map[string]bool)
	for i := range 31 {
		ids[h.upsert(201, source("s1", fmt.Sprint("d", i), "Ada")).ID] = true
	}
	a := h.call("PUT", bySource, source("s1", "d31", "Eve")).want(t, 422, "schema")
	if !strings.Contains(a.body, "pseudonyms of too many domains") {
		t.Errorf("answer %s", a.body)
	}
	var list []string
	for id := range ids {
		list = append(list, id)
	}
	p := h.resolve(list, `["display_name"]`)
	if len(p.Subjects) != 31 {
		t.Errorf("%d of 31 pseudonyms resolve", len(p.Subjects))
	}
	for id, fields := range p.Subjects {
		if fields["display_name"] != "Ada" {
			t.Errorf("%s is %v", id, fields)
		}
	}
	for id := range ids {
		h.call("DELETE", "/v1/subjects/"+id, "").want(t, 200, "")
		break
	}
	if p := h.resolve(list, `["display_name"]`); len(p.Missing) != 31 {
		t.Errorf("after the erasure of one %d of 31 are missing", len(p.Missing))
	}
}
