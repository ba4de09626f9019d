package node_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom/cluster/cert"
	"cloakroom/node"
)

// leaf returns what a node presents now.
func leaf(t *testing.T, n *node.Node) *x509.Certificate {
	t.Helper()
	presented, err := n.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(presented.Certificate) != 2 {
		t.Fatalf("%d certificates are presented, want the node's and the root", len(presented.Certificate))
	}
	c, err := x509.ParseCertificate(presented.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Certificates that are good for seconds are replaced in time, with the same
// key, and nobody loses a connection or a request.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel() // most of the time it waits
	const life = 6 * time.Second
	short := func(cfg *node.Config) { cfg.CertificateLife = life }
	e := openEntrance(t, short)
	cfg := e.newcomerConfig("n2", e.token())
	short(&cfg)
	c := e.start(cfg)
	c.in()
	e.settled(2)
	first, key := leaf(t, c.node), c.node.Fingerprint()
	id := e.first.deposit(`{"fields":{"display_name":"Ada Lovelace"}}`)
	dropped := connections(e.first)
	await(t, "both have a new certificate, twice", func() bool {
		if got := e.first.call("POST", "/v1/resolve", `{"ids":["`+id.ID+`"],"fields":["display_name"]}`); got.status != 200 || !strings.Contains(got.body, "Ada") {
			t.Fatalf("while certificates change: %d %s", got.status, got.body)
		}
		return leaf(t, c.node).NotAfter.After(first.NotAfter.Add(life)) && leaf(t, e.first.node).NotAfter.After(first.NotAfter.Add(life))
	})
	if c.node.Fingerprint() != key {
		t.Error("the node has another key now")
	}
	if now := connections(e.first); now < dropped {
		t.Errorf("%d connections of %d are left", now, dropped)
	}
	chain, err := os.ReadFile(filepath.Join(c.cfg.Folder, "node.crt"))
	if err != nil || strings.Count(string(chain), "BEGIN CERTIFICATE") != 2 {
		t.Error("node.crt:", err)
	}
	if n := strings.Count(c.logs.String(), "renewed the certificate of this node"); n < 2 {
		t.Errorf("%d renewals in the log", n)
	}
}

// connections counts those at the cluster port.
func connections(h *house) int {
	page := h.call("GET", "/metrics", "").body
	_, rest, _ := strings.Cut(page, "\ncloakroom_cluster_connections ")
	n := 0
	for _, c := range rest[:max(strings.IndexByte(rest, '\n'), 0)] {
		n = 10*n + int(c-'0')
	}
	return n
}

// A node that was off until its certificate had expired comes back: for the
// keys, and a new certificate, an expired one is good enough.
func TestANodeComesBackWithAnExpiredCertificate(t *testing.T) {
	t.Parallel() // most of the time it waits
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	e := openEntrance(t, func(cfg *node.Config) { cfg.Now = clock })
	e.startAt(e.newcomerConfig("n3", e.token()), clock).in()
	c := e.startAt(e.newcomerConfig("n2", e.token()), clock)
	c.in()
	e.settled(3)
	was := leaf(t, c.node)
	c.end()
	ahead.Store(int64(100 * 24 * time.Hour))
	c = e.restart(c, nil)
	c.in()
	await(t, "a new certificate", func() bool { return leaf(t, c.node).NotAfter.After(was.NotAfter) })
	if got, want := cert.KeyDigest(leaf(t, c.node)), cert.KeyDigest(was); got != want {
		t.Error("it has another key")
	}
	e.settled(3)
}

// startAt is start with a clock.
func (e *entrance) startAt(cfg node.Config, clock func() time.Time) *newcomer {
	cfg.Now = clock
	return e.start(cfg)
}

func TestAPendingNodeRenewsItsCertificate(t *testing.T) {
	t.Parallel() // most of the time it waits
	e := foundEntrance(t)
	cfg := e.newcomerConfig("n2", e.token())
	var ahead atomic.Int64
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c := e.start(cfg)
	c.staged(node.Pending)
	was := leaf(t, c.node)
	ahead.Store(int64(65 * 24 * time.Hour)) // two thirds are over
	await(t, "a new certificate", func() bool { return !leaf(t, c.node).Equal(was) })
	if audit := e.first.node.AuditLines(); !strings.Contains(audit, `"principal":"n2","action":"node-renew"`) {
		t.Error("the renewal is not in the audit log")
	}
}
