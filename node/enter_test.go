package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom/node"
	"cloakroom/node/entry"
)

// entrance is a cluster of one node in memory, which others join with a folder
// of their own, over real TCP.
type entrance struct {
	t     *testing.T
	first *house
	logs  *logged // of the first
}

func openEntrance(t *testing.T, change func(*node.Config)) *entrance {
	t.Helper()
	e := &entrance{t: t, logs: &logged{}}
	e.first = open(t, func(cfg *node.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(e.logs, nil))
		cfg.Network = &node.Network{Listen: "127.0.0.1:0"}
		cfg.Memory.Limit, cfg.Shards = 64<<20, 4
		if change != nil {
			change(cfg)
		}
	})
	return e
}

// token makes a join token.
func (e *entrance) token() []byte {
	e.t.Helper()
	tokens, err := e.first.node.CreateJoinTokens(e.t.Context(), "operator", time.Hour, 1)
	if err != nil {
		e.t.Fatal(err)
	}
	return []byte(tokens[0])
}

// freePort returns an address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// newcomer is a node that is on its way in.
type newcomer struct {
	t    *testing.T
	node *node.Node
	cfg  node.Config
	logs *logged
	ran  chan error // what Run returned
	stop context.CancelFunc
}

// newcomerConfig is that of a node with a folder.
func (e *entrance) newcomerConfig(name string, token []byte) node.Config {
	cfg := node.Config{Name: name, Folder: filepath.Join(e.t.TempDir(), name), JoinToken: token, KeepDumpable: true,
		Network: &node.Network{Listen: freePort(e.t)}}
	cfg.Memory.Limit = 64 << 20
	return cfg
}

// start opens and runs a node. Its end is waited for.
func (e *entrance) start(cfg node.Config) *newcomer {
	e.t.Helper()
	c := &newcomer{t: e.t, cfg: cfg, logs: &logged{}, ran: make(chan error, 1)}
	c.cfg.Logger = slog.New(slog.NewTextHandler(c.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if c.node, err = node.Open(e.t.Context(), c.cfg); err != nil {
		e.t.Fatal(err)
	}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(e.t.Context())
	go func() { c.ran <- c.node.Run(ctx) }() // ends with ctx
	e.t.Cleanup(c.end)
	return c
}

func (c *newcomer) end() {
	c.stop()
	if c.node == nil {
		return
	}
	if err := c.node.Close(); err != nil {
		c.t.Errorf("close node: %v", err)
	}
	c.node = nil
}

// in waits until the node is ready.
func (c *newcomer) in() {
	c.t.Helper()
	select {
	case err := <-c.ran:
		if err != nil {
			c.t.Fatalf("%v\n%s", err, c.logs)
		}
	case <-time.After(60 * time.Second):
		c.t.Fatalf("not ready: %s\n%s", c.node.Stage(), c.logs)
	}
}

// out waits until the node gives up, and returns why.
func (c *newcomer) out() error {
	c.t.Helper()
	select {
	case err := <-c.ran:
		if err == nil {
			c.t.Fatal("the node was let in")
		}
		return err
	case <-time.After(60 * time.Second):
		c.t.Fatalf("still trying: %s\n%s", c.node.Stage(), c.logs)
		return nil
	}
}

func TestANodeJoinsByItsToken(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := openEntrance(t, nil)
	token := e.token()
	c := e.start(e.newcomerConfig("n2", token))
	c.in()
	if got := c.node.Stage(); got != node.Ready {
		t.Errorf("stage %s", got)
	}
	if !strings.HasPrefix(c.node.Fingerprint(), "sha256:") || c.node.ClusterFingerprint() != e.first.node.ClusterFingerprint() {
		t.Error("fingerprints:", c.node.Fingerprint(), c.node.ClusterFingerprint(), e.first.node.ClusterFingerprint())
	}
	audit := e.first.node.AuditLines()
	for _, want := range []string{`"principal":"n2","action":"node-enter"`, `"principal":"n2","action":"keys-give"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log has no %s:\n%s", want, audit)
		}
	}
	secret := string(token[len("cloakroom-join-1."):])
	for where, text := range map[string]string{"audit log": audit, "log of the cluster": e.logs.String(), "log of the node": c.logs.String(),
		"configuration": fmt.Sprintf("%v %+v", c.cfg, &c.cfg)} {
		if strings.Contains(text, secret) || strings.Contains(text, secret[len(secret)-40:]) {
			t.Errorf("the token is in the %s", where)
		}
	}
}

func TestJoinTokensAreRefused(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := openEntrance(t, nil)
	other := openEntrance(t, nil)
	used := e.token()
	first := e.start(e.newcomerConfig("n2", used))
	first.in()
	for _, test := range []struct {
		name  string
		token []byte
		want  string
		as    func(*node.Config)
	}{
		{"a second use", used, "was used for n2 before", nil},
		{"a name that is taken", e.token(), "the name is taken", func(cfg *node.Config) { cfg.Name = "n2" }},
		{"of another cluster", graft(t, other.token(), e.token()), "of another cluster", nil},
		{"not a token", []byte("hello"), "not a join token", nil},
		{"a damaged one", used[:len(used)-2], "not a join token", nil},
		{"other shards", e.token(), "cluster.shards is 8 in the node's file and 4 in the cluster", func(cfg *node.Config) { cfg.Shards = 8 }},
		{"other recovery", e.token(), "recovery.mode of the cluster is none", func(cfg *node.Config) { cfg.RecoveryMode = "continuous" }},
		{"nowhere to be found", e.token(), "cluster.advertise is missing", func(cfg *node.Config) { cfg.Network.Listen = "0.0.0.0:8202" }},
	} {
		cfg := e.newcomerConfig("n3", test.token)
		if test.as != nil {
			test.as(&cfg)
		}
		c := e.start(cfg)
		if err := c.out(); !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		c.end()
	}
	if text := e.logs.String(); !strings.Contains(text, "a join token was used a second time") {
		t.Error("nobody was alarmed")
	}
	if audit := e.first.node.AuditLines(); !strings.Contains(audit, `"action":"node-enter","asked":0,"found":0,"missing":0,"outcome":"used-token"`) {
		t.Error("the second use is not in the audit log:\n", audit)
	}
	if page := e.first.call("GET", "/metrics", "").body; !strings.Contains(page, `cloakroom_entries_total{verdict="used-token"} 1`) {
		t.Error("the second use is not counted")
	}
}

// graft returns the token of one cluster with the addresses of another's.
func graft(t *testing.T, secret, addresses []byte) []byte {
	t.Helper()
	a, err := entry.ParseToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	b, err := entry.ParseToken(addresses)
	if err != nil {
		t.Fatal(err)
	}
	a.Addresses = b.Addresses
	text, err := a.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// settled waits until every group is on that many nodes.
func (e *entrance) settled(nodes int) {
	e.t.Helper()
	await(e.t, "every group is where it should be", func() bool {
		for _, g := range e.first.node.Health().Groups {
			if !g.Settled || g.Tolerates < (min(nodes, 3)-1)/2 {
				return false
			}
		}
		return true
	})
}

// restart ends a node and starts it again in its folder.
func (e *entrance) restart(c *newcomer, change func(*node.Config)) *newcomer {
	e.t.Helper()
	c.end()
	cfg := c.cfg
	cfg.JoinToken = nil
	if change != nil {
		change(&cfg)
	}
	return e.start(cfg)
}

// Soon after its end a node gets the keys by itself; a token it was given all
// the same is not looked at.
func TestANodeComesBack(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := openEntrance(t, nil)
	e.start(e.newcomerConfig("n3", e.token())).in() // of two, none may be missing
	token := e.token()
	c := e.start(e.newcomerConfig("n2", token))
	c.in()
	e.settled(3)
	was := c.node.Fingerprint()
	c = e.restart(c, nil)
	c.in()
	e.settled(3)
	if c.node.Fingerprint() != was {
		t.Error("another fingerprint")
	}
	c = e.restart(c, func(cfg *node.Config) { cfg.JoinToken = token })
	c.in()
	if n := strings.Count(c.logs.String(), "the join token is not used"); n != 1 {
		t.Errorf("%d lines about the token", n)
	}
}
