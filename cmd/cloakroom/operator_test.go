package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/node/operator"
)

// TestOperatorScripts runs scripts against an operator listener with a made-up
// node behind it. $OPERATOR is its address, $SOCKET another way to it,
// $FINGERPRINT its fingerprint and $OTHER that of somebody else.
func TestOperatorScripts(t *testing.T) {
	runScripts(t, "testdata/operator", func(env *testscript.Env, _ string) error {
		cert := testCertificate(t)
		f := &fakeNode{fingerprint: client.Fingerprint(cert.Leaf), left: map[string]int{}}
		addr := f.serve(t, env, "tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		socket := filepath.Join(env.WorkDir, "socket")
		f.serve(t, env, "unix", socket, nil)
		env.Setenv("OPERATOR", addr)
		env.Setenv("SOCKET", "unix:"+socket)
		env.Setenv("FINGERPRINT", f.fingerprint)
		env.Setenv("OTHER", client.Fingerprint(testCertificate(t).Leaf))
		env.Setenv("CLOAKROOM_OPERATOR_ADDR", addr)
		env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
		return nil
	})
}

// testCertificate is one of its own, as `dev --tls` makes it.
func testCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	conf, err := devTLS("127.0.0.1:0", filepath.Join(t.TempDir(), "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert := conf.Certificates[0]
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	return cert
}

// fakeNode plays a cluster of three nodes: n2 can be drained, n3 has nowhere
// to go, n4 waits to be admitted.
type fakeNode struct {
	fingerprint string

	mu   sync.Mutex
	left map[string]int // of nodes that are draining
}

func (f *fakeNode) serve(t *testing.T, env *testscript.Env, network, addr string, conf *tls.Config) string {
	t.Helper()
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := operator.New(operator.Config{
		Gate: f, Health: f, Members: f, Entry: f, Listener: listener, TLS: conf,
		Lend:   func(n int) ([]byte, func(), error) { return make([]byte, n), func() {}, nil },
		Random: func([]byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	env.Defer(func() { s.Close(context.Background()) })
	return listener.Addr().String()
}

func (f *fakeNode) Authenticate(token []byte) (string, error) {
	if string(token) != "script-token" {
		return "", cloakroom.ErrUnauthenticated
	}
	return "operator", nil
}
func (f *fakeNode) Allow(*operator.Call) error                           { return nil }
func (f *fakeNode) Record(context.Context, *operator.Call, string) error { return nil }
func (f *fakeNode) FullStatus() ([]byte, error)                          { return []byte(`{"ready":true,"node":"n1"}`), nil }
func (f *fakeNode) Ready(bool) ([]byte, error)                           { return nil, nil }
func (f *fakeNode) MetricsPage() (http.Handler, error)                   { return http.NotFoundHandler(), nil }
func (f *fakeNode) Remove(context.Context, string, string, bool) error   { return nil }

func (f *fakeNode) Public() operator.Public {
	return operator.Public{Node: "n1", Stage: "ready", Ready: true, Fingerprint: f.fingerprint, SinglePerson: true}
}

func (f *fakeNode) Nodes(context.Context) ([]operator.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []operator.Node{
		{Name: "n1", State: "member", Alive: true, Here: true, Address: "10.0.0.1:8202", Replicas: 17, Leads: 17, Fingerprint: f.fingerprint},
		{Name: "n2", State: "member", Alive: true}, {Name: "n3", State: "member", Alive: true}, {Name: "n4", State: "pending", Alive: true},
	}
	for i := range list {
		if left, drains := f.left[list[i].Name]; drains {
			list[i].State = "draining"
			list[i].Drain = &operator.Drain{Left: left, Done: left == 0, Nowhere: list[i].Name == "n3"}
			f.left[list[i].Name] = max(0, left-1)
		}
	}
	return list, nil
}

func (f *fakeNode) Drain(_ context.Context, _, name string, _, cancel bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case name == "n9":
		return cloakroom.ErrNoNode
	case cancel:
		delete(f.left, name)
	default:
		f.left[name] = 2
	}
	return nil
}

func (f *fakeNode) SafeToStop(_ context.Context, name string) (bool, []string, error) {
	if name == "n2" {
		return false, []string{"shard 3 would have one voter of three"}, nil
	}
	return true, nil, nil
}

func (f *fakeNode) Admit(_ context.Context, _, name, fingerprint string) error {
	switch {
	case name != "n4":
		return cloakroom.Because(cloakroom.ErrState, name+" is a member already")
	case fingerprint != f.fingerprint:
		return cloakroom.ErrFingerprint
	}
	return nil
}

func (f *fakeNode) CreateJoinTokens(_ context.Context, _ string, _ time.Duration, count int) (tokens []string, _ error) {
	for i := range count {
		tokens = append(tokens, "cloakroom-join-1."+string(rune('a'+i)))
	}
	return tokens, nil
}

// A server at a known address that shows another key gets nothing, a token
// least of all.
func TestAnImpostorGetsNothing(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	asked := false
	impostor := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer impostor.Close()
	servers, err := readKnown()
	if err != nil {
		t.Fatal(err)
	}
	host := impostor.Listener.Addr().String()
	if err := servers.remember(host, client.Fingerprint(testCertificate(t).Leaf), ""); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runHere("secret-token\n", "nodes", "list", "--addr", host, "--token-file", "-")
	if code != 1 || !strings.Contains(stderr, "Somebody may sit in between") || asked {
		t.Errorf("%d %s, asked %v", code, stderr, asked)
	}
}
