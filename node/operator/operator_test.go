package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloakroom"
	"cloakroom/node/operator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a node: its tokens are the names of the actions their owner may do.
type fake struct {
	mu     sync.Mutex
	record []string // "caller call target outcome"
	did    []string
	fail   error // of every call
	closed error // of the record
	sealed bool
	buffer []byte // lent last
}

func (f *fake) Authenticate(token []byte) (string, error) {
	if strings.HasPrefix(string(token), "no") {
		return "", cloakroom.ErrUnauthenticated
	}
	return string(token), nil
}

func (f *fake) Allow(call *operator.Call) error {
	for _, may := range strings.Split(call.Caller, "+") {
		if slices.Contains(call.Any, operator.Action(may)) {
			return nil
		}
	}
	return cloakroom.ErrDenied
}

func (f *fake) Record(_ context.Context, call *operator.Call, outcome string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed != nil {
		return f.closed
	}
	f.record = append(f.record, strings.Join([]string{call.Caller, call.Name, call.Target, outcome}, " "))
	return nil
}

func (f *fake) do(parts ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, strings.Join(parts, " "))
	return f.fail
}

func (f *fake) Public() operator.Public {
	return operator.Public{Node: "n1", Stage: "ready", Sealed: f.sealed, Ready: !f.sealed, Cluster: "c1", Fingerprint: "sha256:x"}
}

func (f *fake) FullStatus() ([]byte, error) {
	return []byte(`{"node":"n1","directory":{"leader":"n1"},"shards":[{"shard":0}],"subjects":7}`), f.fail
}

func (f *fake) Ready(verbose bool) ([]byte, error) {
	if f.sealed {
		return nil, cloakroom.ErrSealed
	}
	if verbose {
		return []byte(`{"ready":true,"shards":[]}`), nil
	}
	return nil, nil
}

func (f *fake) MetricsPage() (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "cloakroom_up 1\n") }), f.fail
}

func (f *fake) Unseal(_ context.Context, share []byte) (operator.UnsealStatus, error) {
	return operator.UnsealStatus{Sealed: true, Given: 1, Needed: 2}, f.do("unseal", string(share))
}

func (f *fake) Nodes(context.Context) ([]operator.Node, error) {
	return []operator.Node{{Name: "n1", State: "member", Alive: true}, {Name: "n2", State: "draining", Drain: &operator.Drain{Left: 3}}}, f.fail
}

func (f *fake) Drain(_ context.Context, caller, name string, leadersOnly, cancel bool) error {
	return f.do("drain", caller, name, flag("leaders", leadersOnly), flag("cancel", cancel))
}

func (f *fake) Remove(_ context.Context, caller, name string, dead bool) error {
	return f.do("remove", caller, name, flag("dead", dead))
}

func (f *fake) SafeToStop(_ context.Context, name string) (bool, []string, error) {
	return name == "n1", map[string][]string{"n2": {"shard 3 would lose its majority"}}[name], f.fail
}

func (f *fake) Admit(_ context.Context, caller, name, fingerprint string) error {
	return f.do("admit", caller, name, fingerprint)
}

func (f *fake) CreateJoinTokens(_ context.Context, caller string, ttl time.Duration, count int) ([]string, error) {
	return make([]string, count), f.do("join", caller, ttl.String())
}

func (f *fake) lend(size int) ([]byte, func(), error) {
	f.buffer = make([]byte, size)
	return f.buffer, func() { clear(f.buffer) }, nil
}

func flag(name string, set bool) string {
	if set {
		return name
	}
	return "-"
}

// open starts a door on a unix socket or with TLS and returns how to call it.
func open(t *testing.T, f *fake, change func(*operator.Config)) func(token, method, path, body string) (int, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Its certificate and the client that trusts it; its own server is not used.
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	cfg := operator.Config{
		Gate: f, Health: f, Keys: f, Members: f, Entry: f, Listener: listener, TLS: secure.TLS,
		Lend: f.lend, Random: func(id []byte) { id[0]++ },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := operator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	scheme := "https://"
	if cfg.TLS == nil {
		scheme = "http://"
	}
	client := secure.Client()
	t.Cleanup(client.CloseIdleConnections)
	return func(token, method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, scheme+listener.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(answer))
	}
}

func TestCalls(t *testing.T) {
	f := &fake{}
	call := open(t, f, nil)
	for _, test := range []struct {
		token, method, path, body string
		status                    int
		want, did                 string
	}{
		{"", "GET", "/livez", "", 200, `{"live":true}`, ""},
		{"", "GET", "/readyz", "", 200, `{"ready":true}`, ""},
		{"", "GET", "/readyz?verbose", "", 200, `"shards":[]`, ""},
		{"", "GET", "/v1/sys/status", "", 200, `"fingerprint":"sha256:x"`, ""},
		{"status", "GET", "/v1/sys/status", "", 200, `"subjects":7`, ""},
		{"operate", "GET", "/v1/sys/status", "", 200, `"stage":"ready"`, ""},
		{"status", "GET", "/v1/sys/shards", "", 200, `{"directory":{"leader":"n1"},"shards":[{"shard":0}]}`, ""},
		{"metrics", "GET", "/metrics", "", 200, "cloakroom_up 1", ""},
		{"custody", "GET", "/v1/sys/nodes", "", 200, `"name":"n2"`, ""},
		{"operate", "GET", "/v1/sys/nodes/n2", "", 200, `"drain":{"done":false,"left":3}`, ""},
		{"operate", "GET", "/v1/sys/nodes/n2/safe-to-stop", "", 200, `{"safe":false,"reasons":["shard 3 would lose its majority"]}`, ""},
		{"operate", "GET", "/v1/sys/nodes/n1/safe-to-stop", "", 200, `{"safe":true,"reasons":[]}`, ""},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{}`, 200, `{}`, "drain operate n2 - -"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"leaders_only":true}`, 200, `{}`, "drain operate n2 leaders -"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"cancel":true}`, 200, `{}`, "drain operate n2 - cancel"},
		{"operate", "DELETE", "/v1/sys/nodes/n2", "", 200, `{}`, "remove operate n2 -"},
		{"operate", "DELETE", "/v1/sys/nodes/n2?dead=true", "", 200, `{}`, "remove operate n2 dead"},
		{"custody", "POST", "/v1/sys/nodes/n2/admit", `{"fingerprint":"sha256:y"}`, 200, `{}`, "admit custody n2 sha256:y"},
		{"operate", "POST", "/v1/sys/join-tokens", `{}`, 200, `{"tokens":[""]}`, "join operate 1h0m0s"},
		{"operate", "POST", "/v1/sys/join-tokens", `{"ttl":"10m","count":2}`, 200, `{"tokens":["",""]}`, "join operate 10m0s"},
		{"", "POST", "/v1/sys/unseal", `{"share":"cloakroom-share-1.abc"}`, 200, `{"sealed":true,"given":1,"needed":2}`, "unseal cloakroom-share-1.abc"},
	} {
		f.did = nil
		status, body := call(test.token, test.method, test.path, test.body)
		if status != test.status || !strings.Contains(body, test.want) || strings.Join(f.did, "; ") != test.did {
			t.Errorf("%s %s %s: %d %s, did %q", test.method, test.path, test.body, status, body, f.did)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := &fake{}
	call := open(t, f, nil)
	for _, test := range []struct {
		token, method, path, body string
		status                    int
		problem                   string
	}{
		{"", "GET", "/v1/sys/nodes", "", 401, "unauthenticated"},
		{"nobody", "GET", "/v1/sys/nodes", "", 401, "unauthenticated"},
		{"nobody", "GET", "/v1/sys/status", "", 401, "unauthenticated"},
		{"resolve", "GET", "/v1/sys/nodes", "", 403, "denied"},
		{"access", "POST", "/v1/sys/nodes/n2/drain", `{}`, 403, "denied"},
		{"operate", "POST", "/v1/sys/nodes/n2/admit", `{"fingerprint":"f"}`, 403, "denied"},
		{"custody", "POST", "/v1/sys/join-tokens", `{}`, 403, "denied"},
		{"operate", "GET", "/v1/sys/nodes/n9", "", 404, "no-node"},
		{"operate", "GET", "/v1/sys", "", 404, "no-route"},
		{"operate", "GET", "/v1/sys/nodes/N9", "", 404, "no-route"},
		{"operate", "GET", "/v1/sys/nodes/n%31", "", 404, "no-route"},
		{"operate", "GET", "/v1/sys/nodes/n1/", "", 404, "no-route"},
		{"operate", "GET", "/v1/sys/nodes//drain", "", 404, "no-route"},
		{"operate", "GET", "/v1/subjects", "", 404, "no-route"},
		{"operate", "PUT", "/v1/sys/nodes/n1", "", 405, "method-not-allowed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", "", 415, "media-type"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"leader_only":true}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"Cancel":true}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"cancel":true,"cancel":false}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{"cancel":true,"leaders_only":true}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", `{} {}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/nodes/n2/drain", strings.Repeat(" ", 65<<10), 413, "too-large"},
		{"operate", "DELETE", "/v1/sys/nodes/n2?dead=yes", "", 400, "malformed"},
		{"operate", "DELETE", "/v1/sys/nodes/n2", "{}", 400, "malformed"},
		{"operate", "GET", "/v1/sys/nodes?x", "", 400, "malformed"},
		{"", "GET", "/readyz?loud", "", 400, "malformed"},
		{"operate", "POST", "/v1/sys/join-tokens", `{"ttl":"1s"}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/join-tokens", `{"ttl":"soon"}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/join-tokens", `{"count":65}`, 400, "malformed"},
		{"operate", "POST", "/v1/sys/join-tokens", `{"count":0}`, 400, "malformed"},
		{"custody", "POST", "/v1/sys/nodes/n2/admit", `{}`, 400, "malformed"},
		{"", "POST", "/v1/sys/unseal", `{"share":"a\n"}`, 400, "malformed"},
		{"", "POST", "/v1/sys/unseal", `{"share":"a","share":"b"}`, 400, "malformed"},
		{"", "POST", "/v1/sys/unseal", `{"share":"a`, 400, "malformed"},
		{"", "POST", "/v1/sys/unseal", `{"key":"a"}`, 400, "malformed"},
		{"", "POST", "/v1/sys/unseal", `{"share":"` + strings.Repeat("a", 5000) + `"}`, 413, "too-large"},
	} {
		status, body := call(test.token, test.method, test.path, test.body)
		var p struct{ Type, Title, Instance string }
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: %v", test.method, test.path, err)
		}
		if status != test.status || strings.TrimPrefix(p.Type, "/problems/") != test.problem || status > 299 && len(p.Instance) != 32 {
			t.Errorf("%s %s %.60s: %d %s, want %d %s", test.method, test.path, test.body, status, body, test.status, test.problem)
		}
	}
	if len(f.did) > 0 {
		t.Errorf("done all the same: %q", f.did)
	}
}

// Every change stands in the record before it is made and after, a refusal of
// a caller once, and what cannot be recorded is not done.
func TestRecord(t *testing.T) {
	f := &fake{}
	call := open(t, f, nil)
	check := func(want ...string) {
		t.Helper()
		if !slices.Equal(f.record, want) {
			t.Errorf("recorded %q, want %q", f.record, want)
		}
		f.record = nil
	}
	call("operate", "POST", "/v1/sys/nodes/n2/drain", `{}`)
	check("operate drain-node n2 intent", "operate drain-node n2 ok")
	call("access", "POST", "/v1/sys/nodes/n2/drain", `{}`)
	check("access drain-node n2 denied")
	call("", "POST", "/v1/sys/unseal", `{"share":"abc"}`)
	check(" unseal  intent", " unseal  ok")
	call("resolve", "GET", "/v1/sys/status", "")
	check("resolve status  denied")
	f.fail = cloakroom.Because(cloakroom.ErrState, "n2 is a member already")
	status, body := call("custody", "POST", "/v1/sys/nodes/n2/admit", `{"fingerprint":"f"}`)
	if status != 409 || !strings.Contains(body, `"detail":"n2 is a member already"`) {
		t.Errorf("%d %s", status, body)
	}
	check("custody admit-node n2 intent", "custody admit-node n2 state")

	f.did, f.closed = nil, cloakroom.ErrAuditUnavailable
	if status, body := call("operate", "DELETE", "/v1/sys/nodes/n2", ""); status != 503 || len(f.did) > 0 {
		t.Errorf("not recorded: %d %s, did %q", status, body, f.did)
	}
}

// The cause of an internal error stays with the operator of the node.
func TestInternalErrorsTellNothing(t *testing.T) {
	f := &fake{fail: errors.New("dial 10.1.2.3")}
	call := open(t, f, nil)
	if status, body := call("operate", "GET", "/v1/sys/nodes", ""); status != 500 || strings.Contains(body, "10.1") || !strings.Contains(body, "internal error") {
		t.Errorf("%d %s", status, body)
	}
}

func TestSealed(t *testing.T) {
	call := open(t, &fake{sealed: true}, nil)
	if status, body := call("operate", "GET", "/v1/sys/status", ""); status != 200 || !strings.Contains(body, `"sealed":true`) || strings.Contains(body, "subjects") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := call("", "GET", "/readyz", ""); status != 503 || !strings.Contains(body, "sealed") {
		t.Errorf("%d %s", status, body)
	}
}

// What net/http and crypto/tls read of a share is wiped before it is used.
func TestSharesAreWiped(t *testing.T) {
	f := &fake{}
	var accepted tap
	call := open(t, f, func(cfg *operator.Config) {
		accepted.Listener = cfg.Listener
		cfg.Listener, cfg.TLS = &accepted, nil
	})
	if status, body := call("", "POST", "/v1/sys/unseal", `{"share":"cloakroom-share-1.secret"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if len(f.did) != 1 || f.did[0] != "unseal cloakroom-share-1.secret" {
		t.Errorf("did %q", f.did)
	}
	if len(accepted.buffers) == 0 {
		t.Fatal("no read was seen")
	}
	for _, b := range append(accepted.buffers, f.buffer) {
		if strings.Contains(string(b), "secret") {
			t.Error("a buffer still holds the share")
		}
	}
}

// tap notes the buffers that connections are read into.
type tap struct {
	net.Listener
	buffers [][]byte
}

func (l *tap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &tapped{c, l}, err
}

type tapped struct {
	net.Conn
	l *tap
}

func (c *tapped) Read(p []byte) (int, error) {
	c.l.buffers = append(c.l.buffers, p[:cap(p)])
	return c.Conn.Read(p)
}

func TestNewReportsAllFaults(t *testing.T) {
	_, err := operator.New(operator.Config{Limits: operator.Limits{Connections: -1}})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"Gate", "Health", "Listener", "Lend", "Random", "limits"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
}
