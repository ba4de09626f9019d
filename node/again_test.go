package node_test

import (
	"fmt"
	"strings"
	"testing"

	"cloakroom/cluster/directory"
	"cloakroom/node"
	"cloakroom/node/api"
)

// newer declares the dev schema's display_name with other purposes, so that
// requests authenticated before work by an old epoch.
const newer = `{"epoch":1,"fields":[{"name":"display_name","type":"text","purposes":["analytics","display"],"max_retention":"8760h"}]}`

// staleBatch deposits 64 people as a caller that was authenticated before the
// schema changed, after some shards, not all, have seen the change.
func staleBatch(t *testing.T, h *house, token, purpose string) []api.Deposited {
	t.Helper()
	caller, err := h.node.Authenticate([]byte(token))
	if err != nil {
		t.Fatal(err)
	}
	h.call("PUT", "/v1/schema", newer).want(t, 200, "")
	for range 6 {
		h.deposit(`{"fields":{"display_name":"Grace Hopper"}}`)
	}
	items := make([]api.Deposit, 64)
	for i := range items {
		items[i].Fields = []api.FieldValue{{Name: []byte("display_name"), Kind: api.String, Value: fmt.Appendf(nil, "Person %d", i)}}
	}
	results := make([]api.Deposited, len(items))
	req := &api.Request{Caller: caller, Purpose: []byte(purpose)}
	if err := h.node.DepositBatch(t.Context(), req, items, results); err != nil {
		t.Fatalf("deposit under an old schema: %v", err)
	}
	return results
}

// A batch of which some shards refused the old schema goes through its gates
// again; what the others did in the first round must not be done twice, under
// pseudonyms that nobody was told.
func TestBatchUnderAnOldSchemaLeavesNobodyBehind(t *testing.T) {
	h := open(t, nil)
	results := staleBatch(t, h, allToken, "")
	for i := range results {
		if results[i].Err != nil || !results[i].Created {
			t.Fatalf("item %d: %+v", i, results[i])
		}
	}
	if got, want := h.node.Subjects(), 6+len(results); got != want {
		t.Errorf("%d subjects are stored, want %d", got, want)
	}
}

// Numbers of purposes change with the schema: a grant is held against those of
// its own time only.
func TestGrantIsReadAnewUnderANewSchema(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "desk", Token: []byte("desk-token"), Grant: directory.Grant{
			Actions: directory.Actions(), AllFields: true, AllDomains: true, Form: directory.FormPlain, Purposes: []string{"display"}}})
	})
	staleBatch(t, h, "desk-token", "display")
}

// A batch item whose pseudonym is in use in another domain is refused, with an
// Idempotency-Key as well.
func TestBatchItemOfAForeignDomainIsRefused(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Domains = []string{"shop"}
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "shop", Token: []byte("shop-token"), Grant: directory.Grant{
			Actions: directory.Actions(), AllFields: true, Domains: node.DomainNumbers(1), Form: directory.FormPlain}})
	})
	d := h.deposit(ada)
	var got struct {
		Results []struct {
			Version string
			Problem struct{ Type string }
		}
	}
	h.call("POST", "/v1/subjects/batch", `{"subjects":[{"id":"`+d.ID+`","domain":"shop","fields":{"email":"x@example.org"}},`+
		`{"domain":"shop","fields":{"email":"y@example.org"}}]}`,
		"Authorization", "Bearer shop-token", "Idempotency-Key", "k1").want(t, 200, "").decode(t, &got)
	if r := got.Results[0]; r.Version != "" || r.Problem.Type != "/problems/conflict" {
		t.Errorf("answer: %+v, want a conflict", r)
	}
	if want := `"asked":2,"found":1,"missing":1,"outcome":"ok"`; !strings.Contains(h.node.AuditLines(), want) {
		t.Errorf("no audit entry with %s", want)
	}
}
