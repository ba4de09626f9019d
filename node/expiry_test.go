package node_test

import (
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node"
)

// Each field expires by itself, the subject with the last of them; what has
// expired is hidden at once, on every node.
func TestFieldsExpireByThemselves(t *testing.T) {
	var c clock
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Now = c.now })
	d := nodes[0].deposit(`{"fields":{"display_name":"Ada Lovelace","email":"ada@example.org","phone":"+4930123456"},"ttl":{"email":"1h","phone":"3h"}}`)
	other := nodes[1].deposit(`{"fields":{"display_name":"Grace Hopper","email":"grace@example.org"},"ttl":{"email":"1h","display_name":"2h"}}`)
	nodes[2].call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"birth_date":"1815-12-10"},"ttl":{"birth_date":"2h"}}`).want(t, 200, "")
	nodes[2].call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"national_id":"77"},"ttl":"30m"}`).want(t, 200, "")
	shown := func(h *house, id string) string {
		body := h.call("GET", "/v1/subjects/"+id, "").body
		var names []string
		for _, name := range []string{"display_name", "email", "phone", "birth_date", "national_id"} {
			if strings.Contains(body, `"`+name+`"`) {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	for _, step := range []struct {
		ahead     time.Duration
		ada, grac string
	}{
		{0, "display_name email phone birth_date national_id", "display_name email"},
		{31 * time.Minute, "display_name email phone birth_date", "display_name email"},
		{30 * time.Minute, "display_name phone birth_date", "display_name"},
		{time.Hour, "display_name phone", ""},
		{time.Hour, "display_name", ""},
	} {
		c.advance(step.ahead)
		for _, h := range nodes {
			await(t, "shard time is at "+step.ahead.String(), func() bool {
				return shown(h, d.ID) == step.ada && shown(h, other.ID) == step.grac
			})
			p := h.resolve([]string{d.ID, other.ID}, `["email","phone"]`)
			if _, there := p.Subjects[d.ID]["email"]; there != strings.Contains(step.ada, "email") {
				t.Errorf("after %v: resolve and get differ", step.ahead)
			}
			if (len(p.Missing) == 0) != (step.grac != "") {
				t.Errorf("after %v: missing %d", step.ahead, len(p.Missing))
			}
		}
	}
	nodes[0].call("GET", "/v1/subjects/"+other.ID, "").want(t, 404, "not-found")
	nodes[1].call("PATCH", "/v1/subjects/"+other.ID, ada).want(t, 404, "not-found")
}

// A time to live counts from the write: repeating it moves nothing.
func TestARetryDoesNotProlong(t *testing.T) {
	var c clock
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Now = c.now })
	body := `{"fields":{"email":"ada@example.org"},"ttl":"2h"}`
	d := nodes[0].deposit(body, "Idempotency-Key", "k1")
	c.advance(time.Hour)
	if again := nodes[1].deposit(body, "Idempotency-Key", "k1"); again != d {
		t.Error("the retry is another write")
	}
	c.advance(time.Hour + time.Second)
	await(t, "it has expired", func() bool { return len(nodes[2].resolve([]string{d.ID}, `["email"]`).Missing) == 1 })
}

// A field that a PATCH brings never outlives its subject.
func TestAPatchDoesNotOutliveItsSubject(t *testing.T) {
	var c clock
	h := open(t, func(cfg *node.Config) { cfg.Now = c.now })
	d := h.deposit(`{"fields":{"display_name":"Ada Lovelace"},"ttl":"2h"}`)
	h.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"email":"ada@example.org","phone":"+4930123456"},"ttl":{"email":"5h"}}`).want(t, 200, "")
	c.advance(2*time.Hour + time.Second)
	await(t, "it has expired", func() bool { return len(h.resolve([]string{d.ID}, `["email","phone"]`).Missing) == 1 })
}

// A node whose clock is behind must not lose what it takes: the shard knows
// better how late it is.
func TestANodeWithASlowClockKeepsWhatItTakes(t *testing.T) {
	var c clock
	n := 0
	nodes := openMany(t, 3, func(cfg *node.Config) {
		if n++; n == 3 {
			cfg.Now = c.now
		}
	})
	c.advance(-3 * time.Hour)
	d := nodes[2].deposit(`{"fields":{"email":"ada@example.org"},"ttl":"1h"}`)
	for i, h := range nodes {
		if p := h.resolve([]string{d.ID}, `["email"]`); len(p.Subjects) != 1 {
			t.Errorf("node %d: what was deposited a moment ago for an hour has expired", i+1)
		}
	}
}

// A time to live that is over already, or longer than may be, is a fault like
// any other, and nothing changes for it.
func TestTTLsThatCannotBe(t *testing.T) {
	nodes := openMany(t, 3, nil)
	kept := nodes[0].deposit(ada)
	before := nodes[0].call("GET", "/v1/subjects/"+kept.ID, "").want(t, 200, "").body
	tests := []struct {
		name, method, path, body string
	}{
		{"ttl over the retention, of a field", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `"},"ttl":{"display_name":"87601h"}}`},
		{"ttl over the retention, in a PATCH", "PATCH", "/v1/subjects/" + kept.ID, `{"fields":{"display_name":"` + secretMark + `"},"ttl":"87601h"}`},
		{"ttl over the retention, in a PUT", "PUT", "/v1/subjects/" + kept.ID, `{"fields":{"display_name":"` + secretMark + `"},"ttl":"87600h1s"}`},
		{"ttl over the retention, in a batch", "POST", "/v1/subjects/batch", `{"subjects":[{"fields":{"display_name":"` + secretMark + `"},"ttl":"87601h"}]}`},
		{"ttl over a century", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `"},"ttl":"9999999999h"}`},
		{"ttl in the past", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `"},"ttl":"-1h"}`},
		{"ttl of nothing", "POST", "/v1/subjects", `{"fields":{"display_name":"` + secretMark + `"},"ttl":"0s"}`},
		{"ttl in the past, of a field", "PATCH", "/v1/subjects/" + kept.ID, `{"fields":{"display_name":"` + secretMark + `"},"ttl":{"display_name":"-1s"}}`},
		{"ttl in the past, in a PUT", "PUT", "/v1/subjects/" + kept.ID, `{"fields":{"display_name":"` + secretMark + `"},"ttl":"0h"}`},
		{"ttl in the past, in a batch", "POST", "/v1/subjects/batch", `{"subjects":[{"fields":{"display_name":"x"}},{"fields":{"display_name":"` + secretMark + `"},"ttl":"-5m"}]}`},
		{"ttl for a field without a value", "POST", "/v1/subjects", `{"fields":{"display_name":"x"},"ttl":{"` + secretMark + `":"1h"}}`},
		{"ttl for a field that is erased", "PATCH", "/v1/subjects/" + kept.ID, `{"fields":{"email":null},"ttl":{"email":"1h"}}`},
	}
	for i, test := range tests {
		got := nodes[i%3].call(test.method, test.path, test.body).want(t, 422, "schema")
		if strings.Contains(got.body, secretMark) || !strings.Contains(got.body, "ttl") {
			t.Errorf("%s: the answer echoes what was sent, or does not say what is wrong", test.name)
		}
	}
	for i, h := range nodes {
		if got := h.call("GET", "/v1/subjects/"+kept.ID, "", "Cloakroom-Consistency", "linearizable").want(t, 200, "").body; got != before || h.node.Subjects() != 1 {
			t.Errorf("node %d: something changed", i+1)
		}
	}
}

// A field that expired before its subject is wiped by itself, an hour later,
// and nothing else of the subject changes.
func TestExpiredFieldsAreWiped(t *testing.T) {
	var c clock
	var u uptime
	nodes := openMany(t, 3, func(cfg *node.Config) { cfg.Now, cfg.Uptime = c.now, u.now; cfg.Shards = 1 })
	all := func() {
		for _, h := range nodes {
			sweep(t, h)
		}
	}
	body := `{"fields":{"display_name":"Ada Lovelace","email":"ada@example.org"},"ttl":{"email":"1h"}}`
	var ids []string
	for i := range 300 { // more than one look takes
		ids = append(ids, nodes[i%3].deposit(body).ID)
	}
	kept := nodes[0].deposit(body, "Idempotency-Key", "k1")
	later := nodes[0].deposit(`{"fields":{"email":"grace@example.org"},"ttl":{"email":"9h"}}`)
	const before, after = 3*301 + 2, 2*301 + 2
	all()
	slept := func(d time.Duration) { // until every node has its leases again
		u.advance(d)
		for _, h := range nodes {
			await(t, "its view of the directory is fresh", func() bool { return h.call("GET", "/v1/schema", "").status == 200 })
		}
	}
	slept(2 * time.Minute)
	c.advance(3 * time.Hour)
	await(t, "the field has expired", func() bool {
		return len(nodes[1].resolve([]string{kept.ID}, `["email"]`).Subjects[kept.ID]) == 0
	})
	for range 3 {
		all()
	}
	if got := nodes[0].node.Records(); got != before {
		t.Fatalf("%d records as soon as clocks jumped ahead, want %d", got, before)
	}
	nodes[2].call("PATCH", "/v1/subjects/"+ids[0], `{"fields":{"email":"king@example.org"}}`).want(t, 200, "") // brought anew
	slept(time.Hour)
	for range 3 {
		all()
	}
	for _, h := range nodes {
		await(t, "the fields are wiped", func() bool { return h.node.Records() == after+1 })
	}
	if again := nodes[2].deposit(body, "Idempotency-Key", "k1"); again != kept {
		t.Error("the wiping changed the subject: a repetition is another write")
	}
	p := nodes[1].resolve([]string{ids[0], ids[299], later.ID}, `["email","display_name"]`)
	if p.Subjects[ids[0]]["email"] != "king@example.org" || p.Subjects[ids[299]]["display_name"] != "Ada Lovelace" || p.Subjects[later.ID]["email"] == nil {
		t.Error("what has not expired went with it")
	}
}

// Who may write some fields can't end the life of the others.
func TestAPutOfSomeFieldsLeavesTheOthersTheirTime(t *testing.T) {
	var c clock
	h := open(t, func(cfg *node.Config) {
		cfg.Now = c.now
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "mailer", Token: []byte("token-mailer"), Grant: directory.Grant{
			Actions: []directory.Action{directory.Deposit}, Fields: []cloakroom.FieldNumber{cloakroom.FirstField + 1}, AllDomains: true, Form: directory.FormPlain}})
	})
	d := h.deposit(ada)
	h.call("PUT", "/v1/subjects/"+d.ID, `{"fields":{"email":"ada@example.com"},"ttl":"1h"}`, "Authorization", "Bearer token-mailer").want(t, 200, "")
	c.advance(2 * time.Hour)
	await(t, "the e-mail address has expired", func() bool {
		return h.resolve([]string{d.ID}, `["email","display_name"]`).Subjects[d.ID]["email"] == nil
	})
	got := h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	if !strings.Contains(got.body, "Ada Lovelace") || strings.Contains(got.body, "example") {
		t.Error("the name went with the e-mail address, or that is still shown")
	}
}
