package node_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node"
	"cloakroom/node/operator"
)

// people are the first principals of a cluster that several founded.
func people(cfg *node.Config) {
	cfg.Approvals = true
	for name, action := range map[string]directory.Action{"access-1": directory.Access, "access-2": directory.Access,
		"operator": directory.Operate, "custodian-1": directory.Custody} {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: name, Token: []byte("token-" + name),
			Grant: directory.Grant{Actions: []directory.Action{action}, Form: directory.FormMasked}})
	}
}

func renderer() operator.Grant {
	return operator.Grant{Name: "renderer", Actions: []string{"resolve"}, Fields: []string{"display_name"}}
}

func TestARendererIsAskedForAndApproved(t *testing.T) {
	h := open(t, people)
	d := h.deposit(ada)
	rights := h.node.Rights()
	asked, err := rights.Ask(t.Context(), "access-1", renderer())
	if err != nil || asked.Token != "" || !strings.HasPrefix(asked.Hash, "sha256:") {
		t.Fatalf("asked: %+v, %v", asked, err)
	}
	list, err := rights.Requests(t.Context())
	if err != nil || len(list) != 1 || list[0].Hash != asked.Hash || list[0].By != "access-1" || !slices.Equal(list[0].Principal.Fields, []string{"display_name"}) {
		t.Fatalf("requests: %+v, %v", list, err)
	}
	for who, want := range map[string]error{"access-1": cloakroom.ErrDenied, "operator": cloakroom.ErrDenied, "custodian-1": cloakroom.ErrDenied} {
		if _, err := rights.Approve(t.Context(), who, "renderer", asked.Hash); !errors.Is(err, want) {
			t.Errorf("approved by %s: %v", who, err)
		}
	}
	other := "sha256:" + strings.Repeat("0", 64)
	if _, err := rights.Approve(t.Context(), "access-2", "renderer", other); !errors.Is(err, cloakroom.ErrConflict) {
		t.Errorf("another request approved: %v", err)
	}
	if _, err := rights.Approve(t.Context(), "access-2", "renderer", "sha256:zz"); !errors.Is(err, cloakroom.ErrMalformed) {
		t.Errorf("no hash at all: %v", err)
	}
	token, err := rights.Approve(t.Context(), "access-2", "renderer", asked.Hash)
	if err != nil || len(token) != 43 {
		t.Fatalf("approved: %d characters, %v", len(token), err)
	}
	as := []string{"Authorization", "Bearer " + token}
	page := `{"ids":["` + d.ID + `"],"fields":["display_name"]}`
	if got := h.call("POST", "/v1/resolve", page, as...).want(t, 200, ""); !strings.Contains(got.body, "Ada Lovelace") {
		t.Error("the renderer doesn't get what was granted")
	}
	h.call("POST", "/v1/resolve", `{"ids":["`+d.ID+`"],"fields":["email"]}`, as...).want(t, 403, "denied")
	h.call("POST", "/v1/subjects", ada, as...).want(t, 403, "denied")
	h.call("POST", "/v1/resolve", page, "Authorization", "Bearer token-operator").want(t, 403, "denied")
	h.call("POST", "/v1/resolve", page, "Authorization", "Bearer token-access-1").want(t, 403, "denied")

	if err := rights.Suspend(t.Context(), "access-1", "renderer", false); err != nil {
		t.Fatal(err)
	}
	h.call("POST", "/v1/resolve", page, as...).want(t, 401, "unauthenticated")
	if err := rights.Suspend(t.Context(), "access-1", "renderer", true); err != nil {
		t.Fatal(err)
	}
	h.call("POST", "/v1/resolve", page, as...).want(t, 200, "")
	for range 2 { // asking again is always right
		if err := rights.Revoke(t.Context(), "access-2", "renderer"); err != nil {
			t.Fatal(err)
		}
	}
	h.call("POST", "/v1/resolve", page, as...).want(t, 401, "unauthenticated")
	all, err := rights.Principals(t.Context())
	i := slices.IndexFunc(all, func(p operator.Principal) bool { return p.Name == "renderer" })
	if err != nil || i < 0 || all[i].State != "revoked" {
		t.Errorf("principals: %+v, %v", all, err)
	}
	if strings.Contains(h.logs.String(), token) || strings.Contains(h.node.AuditLines(), token) {
		t.Error("the token stands in a log")
	}
}

// What leads to no value is there at once, and in a cluster of one person so
// is everything.
func TestWhatNeedsNoSecondPersonIsThereAtOnce(t *testing.T) {
	h := open(t, people)
	asked, err := h.node.Rights().Ask(t.Context(), "access-1", operator.Grant{Name: "sign-up", Actions: []string{"deposit"}, AllFields: true, Expires: "24h"})
	if err != nil || asked.Token == "" || asked.Hash != "" {
		t.Fatalf("got %+v, %v", asked, err)
	}
	h.call("POST", "/v1/subjects", ada, "Authorization", "Bearer "+asked.Token).want(t, 201, "")
	single := open(t, nil)
	asked, err = single.node.Rights().Ask(t.Context(), "dev", renderer())
	if err != nil || asked.Token == "" {
		t.Fatalf("of one person: %+v, %v", asked, err)
	}
}

func TestGrantsThatAreRefused(t *testing.T) {
	h := open(t, people)
	change := func(what func(*operator.Grant)) operator.Grant {
		g := renderer()
		what(&g)
		return g
	}
	tests := map[string]struct {
		want   operator.Grant
		kind   error
		detail string
	}{
		"no action":       {operator.Grant{Name: "x"}, cloakroom.ErrSchema, "resolve"},
		"unknown action":  {change(func(g *operator.Grant) { g.Actions = []string{"rule"} }), cloakroom.ErrSchema, "no action 'rule'"},
		"not a name":      {change(func(g *operator.Grant) { g.Fields = []string{"Ada Lovelace"} }), cloakroom.ErrSchema, "no field of that name"},
		"unknown field":   {change(func(g *operator.Grant) { g.Fields = []string{"shoe_size"} }), cloakroom.ErrSchema, "no field 'shoe_size'"},
		"no field":        {change(func(g *operator.Grant) { g.Fields = nil }), cloakroom.ErrSchema, "no field is named"},
		"unknown domain":  {change(func(g *operator.Grant) { g.Domains = []string{"moon"} }), cloakroom.ErrSchema, "no domain 'moon'"},
		"unknown purpose": {change(func(g *operator.Grant) { g.Purposes = []string{"fun"} }), cloakroom.ErrSchema, "purpose 'fun'"},
		"unknown form":    {change(func(g *operator.Grant) { g.Form = "raw" }), cloakroom.ErrSchema, "plain or masked"},
		"in the past":     {change(func(g *operator.Grant) { g.Expires = "2001-01-01T00:00:00Z" }), cloakroom.ErrSchema, "moment to come"},
		"two duties":      {change(func(g *operator.Grant) { g.Actions = []string{"resolve", "operate"} }), cloakroom.ErrSchema, "never one principal's"},
		"a taken name":    {change(func(g *operator.Grant) { g.Name = "operator" }), cloakroom.ErrConflict, "choose another"},
	}
	for name, test := range tests {
		_, err := h.node.Rights().Ask(t.Context(), "access-1", test.want)
		if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.detail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := h.node.Rights().Ask(t.Context(), "operator", renderer())
	if !errors.Is(err, cloakroom.ErrDenied) {
		t.Errorf("asked by the operator: %v", err)
	}
	if err := h.node.Rights().Revoke(t.Context(), "access-1", "nobody"); !errors.Is(err, cloakroom.ErrNoPrincipal) {
		t.Errorf("revoke nobody: %v", err)
	}
	list, err := h.node.Rights().Requests(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("something waits: %+v, %v", list, err)
	}
}

// When a revocation is acknowledged no node lets the token in any more, not
// one, whichever was asked.
func TestARevocationHoldsEverywhere(t *testing.T) {
	nodes := openMany(t, 3, func(cfg *node.Config) { people(cfg) })
	d := nodes[0].deposit(ada)
	page := `{"ids":["` + d.ID + `"],"fields":["display_name"]}`
	for round := range 12 {
		grant := renderer()
		grant.Name += string(rune('a' + round))
		asked, err := nodes[round%3].node.Rights().Ask(t.Context(), "access-1", grant)
		if err != nil {
			t.Fatal(err)
		}
		token, err := nodes[(round+1)%3].node.Rights().Approve(t.Context(), "access-2", grant.Name, asked.Hash)
		if err != nil {
			t.Fatal(err)
		}
		as := []string{"Authorization", "Bearer " + token, "Cloakroom-Consistency", "linearizable"}
		for _, h := range nodes {
			await(t, "the token is known everywhere", func() bool { return h.call("POST", "/v1/resolve", page, as...).status == 200 })
		}
		begin := time.Now()
		if err := nodes[(round+2)%3].node.Rights().Revoke(t.Context(), "access-2", grant.Name); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		for i, h := range nodes {
			if got := h.call("POST", "/v1/resolve", page, as...); got.status != 401 {
				t.Fatalf("round %d: node %d answers %d after the revocation", round, i+1, got.status)
			}
		}
		// The directory's lead may have just moved, as it does when nodes have come:
		// then views that another leader granted are waited out.
		if took > 40*time.Second {
			t.Errorf("round %d: the revocation took %v", round, took)
		}
	}
}
