package node_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"cloakroom/cluster/directory"
	"cloakroom/node"
)

// house is a running node with the dev schema and a caller who may do all.
type house struct {
	t    *testing.T
	node *node.Node
	url  string
	logs *bytes.Buffer
}

const allToken = "token-of-the-one-who-may-do-all"

// open starts a node on a port of its own; change may alter its configuration.
func open(t *testing.T, change func(*node.Config)) *house {
	t.Helper()
	h := &house{t: t, logs: &bytes.Buffer{}}
	cfg := node.DevConfig([]byte(allToken))
	cfg.Logger = slog.New(slog.NewTextHandler(h.logs, nil))
	cfg.KeepDumpable = true // the test process is not the node
	if change != nil {
		change(&cfg)
	}
	n, err := node.New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(listener); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	h.node, h.url = n, "http://"+listener.Addr().String()
	return h
}

// answer is what a call got.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a request; headers are pairs.
func (h *house) call(method, path, body string, headers ...string) answer {
	h.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, reader)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+allToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s %s: read body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// want fails unless the answer has the status, and for errors the problem.
func (a answer) want(t *testing.T, status int, problem string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status: got %d, want %d (%s)", a.status, status, a.problem())
	}
	if problem != "" && a.problem() != "/problems/"+problem {
		t.Fatalf("problem: got %q, want %q", a.problem(), "/problems/"+problem)
	}
	return a
}

func (a answer) problem() string {
	var p struct{ Type string }
	_ = json.Unmarshal([]byte(a.body), &p)
	return p.Type
}

// decode reads the body as JSON.
func (a answer) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("answer is not JSON: %v", err)
	}
}

// deposited is the answer to a deposit.
type deposited struct{ ID, Version string }

func (h *house) deposit(body string, headers ...string) deposited {
	h.t.Helper()
	var d deposited
	h.call("POST", "/v1/subjects", body, headers...).want(h.t, 201, "").decode(h.t, &d)
	return d
}

// page is the answer to a resolve.
type page struct {
	Subjects    map[string]map[string]any
	Missing     []string
	Unavailable []string
}

func (h *house) resolve(ids []string, fields string, headers ...string) page {
	h.t.Helper()
	list, _ := json.Marshal(ids)
	var p page
	h.call("POST", "/v1/resolve", `{"ids":`+string(list)+`,"fields":`+fields+`}`, headers...).
		want(h.t, 200, "").decode(h.t, &p)
	return p
}

const ada = `{"fields":{"display_name":"Ada Lovelace","email":"ada@example.org"}}`

func TestDepositResolveErase(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(ada)
	other := h.deposit(`{"fields":{"email":"grace@example.org"}}`)
	unknown := "00000000-0000-4000-8000-000000000001"

	p := h.resolve([]string{d.ID, other.ID, unknown, d.ID}, `["display_name"]`)
	if got := p.Subjects[d.ID]["display_name"]; got != "Ada Lovelace" {
		t.Errorf("display_name: got %v", got)
	}
	if got, there := p.Subjects[other.ID]; !there || len(got) != 0 {
		t.Errorf("subject without the field: got %v, want {}", got)
	}
	if len(p.Missing) != 1 || p.Missing[0] != unknown {
		t.Errorf("missing: got %v, want the unknown id once", p.Missing)
	}

	h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	p = h.resolve([]string{d.ID}, `["display_name","email"]`)
	if len(p.Subjects) != 0 || len(p.Missing) != 1 {
		t.Errorf("after the erasure: got %d subjects, %d missing", len(p.Subjects), len(p.Missing))
	}
	h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 404, "not-found")
	h.call("PUT", "/v1/subjects/"+d.ID, ada).want(t, 409, "erased")
	h.call("PATCH", "/v1/subjects/"+d.ID, `{"fields":{"email":"a@example.org"}}`).want(t, 409, "erased")
}

func TestErasingAgainGivesTheSameReceipt(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(ada)
	first := h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	second := h.call("DELETE", "/v1/subjects/"+d.ID, "").want(t, 200, "")
	if first.body != second.body {
		t.Error("the second receipt differs from the first")
	}
	h.call("DELETE", "/v1/subjects/00000000-0000-4000-8000-000000000001", "").want(t, 404, "not-found")
}

func TestGetPutPatch(t *testing.T) {
	h := open(t, nil)
	id := "/v1/subjects/0b8c3a52-6f0e-4f7e-9d8b-3f3a5f6b7c8d"
	h.call("PUT", id, ada).want(t, 201, "")
	put := h.call("PUT", id, `{"fields":{"display_name":"Ada King"}}`).want(t, 200, "")
	var d deposited
	put.decode(t, &d)

	got := h.call("GET", id+"?fields=display_name,email", "").want(t, 200, "")
	var s struct {
		Version string
		Fields  map[string]any
	}
	got.decode(t, &s)
	if s.Version != d.Version || s.Fields["display_name"] != "Ada King" || len(s.Fields) != 1 {
		t.Errorf("after replacing: got version %q, %d fields", s.Version, len(s.Fields))
	}

	h.call("PATCH", id, `{"fields":{"email":"ada@example.com"}}`, "If-Match", `"0000000000000000"`).want(t, 412, "version")
	h.call("PATCH", id, `{"fields":{"email":"ada@example.com","display_name":null}}`, "If-Match", `"`+d.Version+`"`).want(t, 200, "")
	got = h.call("GET", id, "").want(t, 200, "")
	s.Fields = nil
	got.decode(t, &s)
	if s.Fields["email"] != "ada@example.com" || len(s.Fields) != 1 {
		t.Errorf("after the patch: got %d fields", len(s.Fields))
	}
	h.call("PATCH", "/v1/subjects/00000000-0000-4000-8000-000000000001", `{"fields":{"email":"a@example.org"}}`).want(t, 404, "not-found")
}

func TestIdempotencyKey(t *testing.T) {
	h := open(t, nil)
	first := h.deposit(ada, "Idempotency-Key", "k1")
	again := h.deposit(ada, "Idempotency-Key", "k1")
	if first != again {
		t.Errorf("retry: got another subject or version")
	}
	h.call("POST", "/v1/subjects", `{"fields":{"display_name":"Somebody Else"}}`, "Idempotency-Key", "k1").want(t, 422, "idempotency")
	if other := h.deposit(ada, "Idempotency-Key", "k2"); other.ID == first.ID {
		t.Errorf("another key: got the same subject")
	}
	h.call("DELETE", "/v1/subjects/"+first.ID, "").want(t, 200, "")
	h.call("POST", "/v1/subjects", ada, "Idempotency-Key", "k1").want(t, 409, "erased")
}

// The same key and body with another method is another request: a PUT removes
// what a PATCH keeps.
func TestKeyOfAPatchIsNotThatOfAPut(t *testing.T) {
	h := open(t, nil)
	d := h.deposit(ada)
	body := `{"fields":{"display_name":"Ada King"}}`
	h.call("PATCH", "/v1/subjects/"+d.ID, body, "Idempotency-Key", "k1").want(t, 200, "")
	h.call("PUT", "/v1/subjects/"+d.ID, body, "Idempotency-Key", "k1").want(t, 422, "idempotency")
}

func TestBatchDepositsWholeItems(t *testing.T) {
	h := open(t, nil)
	erased := h.deposit(ada)
	h.call("DELETE", "/v1/subjects/"+erased.ID, "").want(t, 200, "")
	var out struct {
		Results []struct {
			ID      string
			Version string
			Problem json.RawMessage
		}
	}
	body := `{"subjects":[{"fields":{"display_name":"One"}},{"id":"` + erased.ID + `","fields":{"display_name":"Two"}},{"fields":{"display_name":"Three"}}]}`
	h.call("POST", "/v1/subjects/batch", body).want(t, 200, "").decode(t, &out)
	if len(out.Results) != 3 || out.Results[1].Problem == nil || out.Results[0].ID == "" {
		t.Fatalf("results: got %d, want 3 with a problem in the second", len(out.Results))
	}
	p := h.resolve([]string{out.Results[0].ID, out.Results[2].ID}, `["display_name"]`)
	if len(p.Subjects) != 2 {
		t.Errorf("resolved %d of the 2 that were written", len(p.Subjects))
	}
	body = `{"subjects":[{"fields":{"display_name":"One"}},{"fields":{"email":"nonsense"}},{"fields":{"phone":"12"}}]}`
	refused := h.call("POST", "/v1/subjects/batch", body).want(t, 422, "schema")
	if !strings.Contains(refused.body, "email") || !strings.Contains(refused.body, "phone") || strings.Contains(refused.body, "nonsense") {
		t.Error("the problem must name both faulty fields and no value")
	}
}

func TestMaskedGrantsSeeMasks(t *testing.T) {
	h := open(t, func(cfg *node.Config) {
		cfg.Principals = append(cfg.Principals, node.Principal{Name: "masked", Token: []byte("token-masked"), Grant: directory.Grant{
			Actions: []directory.Action{directory.Resolve}, AllFields: true, AllDomains: true, Form: directory.FormMasked,
		}})
	})
	d := h.deposit(ada)
	auth := []string{"Authorization", "Bearer token-masked"}
	p := h.resolve([]string{d.ID}, `["display_name"]`, auth...)
	if got := p.Subjects[d.ID]["display_name"]; got == "Ada Lovelace" || got == nil {
		t.Errorf("masked grant: got the value or nothing")
	}
	h.call("POST", "/v1/resolve", `{"ids":["`+d.ID+`"],"fields":["display_name"],"form":"plain"}`, auth...).want(t, 403, "denied")
	// A lesser form that is not answered yet must not be answered in full.
	h.call("POST", "/v1/resolve", `{"ids":["`+d.ID+`"],"fields":["display_name"],"form":"present"}`, auth...).want(t, 403, "denied")
	h.call("DELETE", "/v1/subjects/"+d.ID, "", auth...).want(t, 403, "denied")
}

// A JSON string is a JSON value: what is deposited is what comes back.
func TestJSONFieldKeepsAString(t *testing.T) {
	h := open(t, nil)
	for _, value := range []string{`"123"`, `"{\"street\":\"Main\"}"`, `{"street":"Main"}`, `"Main Street 1"`} {
		a := h.call("POST", "/v1/subjects", `{"fields":{"address":`+value+`}}`)
		if a.status != 201 {
			t.Errorf("%s: status %d", value, a.status)
			continue
		}
		var d deposited
		a.decode(t, &d)
		got := h.call("GET", "/v1/subjects/"+d.ID, "").want(t, 200, "")
		want := `"fields":{"address":` + value + `}}`
		if len(got.body) < len(want) || got.body[len(got.body)-len(want):] != want {
			t.Errorf("%s came back as another value", value)
		}
	}
}
