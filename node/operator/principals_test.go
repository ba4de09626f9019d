package operator_test

import (
	"context"
	"strings"
	"testing"

	"cloakroom"
	"cloakroom/node/operator"
)

// rights is a fake that keeps who did what.
type rights struct{ *fake }

func (r rights) Ask(_ context.Context, caller string, want operator.Grant) (operator.Asked, error) {
	return operator.Asked{Name: want.Name, Hash: "sha256:aa", Expires: "2030-01-01T00:00:00Z"},
		r.do("ask", caller, want.Name, strings.Join(want.Actions, "+"), strings.Join(want.Fields, "+"))
}

func (r rights) Approve(_ context.Context, caller, name, hash string) (string, error) {
	return "tok", r.do("approve", caller, name, hash)
}

func (r rights) Suspend(_ context.Context, caller, name string, resume bool) error {
	return r.do("suspend", caller, name, flag("resume", resume))
}

func (r rights) Revoke(_ context.Context, caller, name string) error {
	return r.do("revoke", caller, name)
}

func (r rights) Principals(context.Context) ([]operator.Principal, error) {
	return []operator.Principal{{Grant: operator.Grant{Name: "renderer", Actions: []string{"resolve"}}, State: "live"}}, r.fail
}

func (r rights) Requests(context.Context) ([]operator.Request, error) { return nil, r.fail }

func TestCallsAboutPrincipals(t *testing.T) {
	f := &fake{}
	call := open(t, f, func(cfg *operator.Config) { cfg.Rights, cfg.Roll = rights{f}, rights{f} })
	grant := `{"name":"renderer","actions":["resolve"],"fields":["display_name"]}`
	tests := []struct {
		token, method, path, body string
		status                    int
		answer                    string // part of it
	}{
		{"access", "POST", "/v1/sys/principals", grant, 200, `"hash":"sha256:aa"`},
		{"operate", "POST", "/v1/sys/principals", grant, 403, "denied"},
		{"custody", "POST", "/v1/sys/principals", grant, 403, "denied"},
		{"none", "POST", "/v1/sys/principals", grant, 401, "unauthenticated"},
		{"access", "POST", "/v1/sys/principals", `{"name":"Renderer","actions":["resolve"]}`, 400, "lower-case"},
		{"access", "POST", "/v1/sys/principals", `{"name":"renderer","budgets":["1/1m"]}`, 400, "malformed"},
		{"access", "POST", "/v1/sys/principals/renderer/approve", `{"hash":"sha256:aa"}`, 200, `"token":"tok"`},
		{"custody", "POST", "/v1/sys/principals/renderer/approve", `{"hash":"sha256:aa"}`, 200, `"token":"tok"`},
		{"operate", "POST", "/v1/sys/principals/renderer/approve", `{"hash":"sha256:aa"}`, 403, "denied"},
		{"access", "POST", "/v1/sys/principals/renderer/approve", `{}`, 400, "hash is missing"},
		{"access", "POST", "/v1/sys/principals/renderer/suspend", "", 200, "{}"},
		{"access", "POST", "/v1/sys/principals/renderer/resume", "", 200, "{}"},
		{"access", "POST", "/v1/sys/principals/renderer/revoke", "", 200, "{}"},
		{"operate", "POST", "/v1/sys/principals/renderer/revoke", "", 403, "denied"},
		{"access", "POST", "/v1/sys/principals/renderer/revoke", `{"why":"x"}`, 400, "no body"},
		{"access", "DELETE", "/v1/sys/principals/renderer/revoke", "", 405, "method"},
		{"audit", "GET", "/v1/sys/principals", "", 200, `"state":"live"`},
		{"operate", "GET", "/v1/sys/principals", "", 403, "denied"},
		{"custody", "GET", "/v1/sys/requests", "", 200, `"requests":[]`},
		{"status", "GET", "/v1/sys/requests", "", 403, "denied"},
	}
	for _, test := range tests {
		status, answer := call(test.token, test.method, test.path, test.body)
		if status != test.status || !strings.Contains(answer, test.answer) {
			t.Errorf("%s %s %s: got %d %s, want %d with %s", test.token, test.method, test.path, status, answer, test.status, test.answer)
		}
	}
	want := []string{"ask access renderer resolve display_name", "approve access renderer sha256:aa", "approve custody renderer sha256:aa",
		"suspend access renderer -", "suspend access renderer resume", "revoke access renderer"}
	if strings.Join(f.did, "\n") != strings.Join(want, "\n") {
		t.Errorf("did %q", f.did)
	}
	for _, line := range []string{"access ask-principal  intent", "access ask-principal renderer ok", "operate approve-principal renderer denied",
		"access revoke-principal renderer intent", "access revoke-principal renderer ok"} {
		if !strings.Contains(strings.Join(f.record, "\n"), line) {
			t.Errorf("the record lacks %q: %q", line, f.record)
		}
	}
}

// An error tells nothing of what would have come with an answer.
func TestAFailedApprovalHasNoToken(t *testing.T) {
	f := &fake{fail: cloakroom.Because(cloakroom.ErrDenied, "it takes another one")}
	call := open(t, f, func(cfg *operator.Config) { cfg.Rights, cfg.Roll = rights{f}, rights{f} })
	status, answer := call("access", "POST", "/v1/sys/principals/renderer/approve", `{"hash":"sha256:aa"}`)
	if status != 403 || strings.Contains(answer, "tok") || !strings.Contains(answer, "it takes another one") {
		t.Errorf("got %d %s", status, answer)
	}
}
