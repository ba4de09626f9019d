package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cloakroom"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/directory"
	"cloakroom/node/audit"
	"cloakroom/node/operator"
)

// sideDoor is the node as its operators meet it.
type sideDoor struct{ *Node }

// ServeOperators opens the side door on listener, which the node owns from then
// on, and returns at once. It can be called as soon as the node is open: a
// sealed node is unsealed through it. On a unix socket there is no TLS, and the
// metrics take no token. Close ends it.
func (n *Node) ServeOperators(listener net.Listener) error {
	door := sideDoor{n}
	cfg := operator.Config{
		Gate: door, Health: door,
		Listener: listener, Logger: n.cfg.Logger,
		Lend:   n.lendGuarded,
		Random: func(id []byte) { rand.Read(id) }, //nolint:errcheck // it never fails
	}
	door.parts(&cfg)
	if _, cfg.Open = listener.Addr().(*net.UnixAddr); !cfg.Open {
		cfg.TLS = n.ownTLS()
	}
	server, err := operator.New(cfg)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	n.side = server
	server.Start()
	return nil
}

// sideWait is how long calls of operators have to end.
const sideWait = 5 * time.Second

// closeSide ends the side door, if there is one.
func (n *Node) closeSide(wait time.Duration) error {
	if n.side == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := n.side.Close(ctx); err != nil {
		return fmt.Errorf("close operator listener: %w", err)
	}
	return nil
}

// lendGuarded lends guarded memory for what an operator sends in confidence.
func (n *Node) lendGuarded(size int) ([]byte, func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), sideWait)
	defer cancel()
	buf, err := n.memory.Pool().Get(ctx, max(size, 1))
	if err != nil {
		return nil, nil, err
	}
	return buf.Bytes()[:size], buf.Release, nil
}

// up reports whether there are keys and a view of the directory: operators are
// known from then on, also while shards come up or have no majority.
func (n *Node) up() error {
	if stage := n.Stage(); stage != Starting && stage != Ready {
		return stage.Err()
	}
	return nil
}

// Authenticate finds the principal whose token this is.
func (d sideDoor) Authenticate(token []byte) (string, error) {
	if err := d.up(); err != nil {
		return "", err
	}
	if len(token) == 0 || len(token) > maxTokenBytes {
		return "", cloakroom.ErrUnauthenticated
	}
	c, known := d.rulesNow().callers[d.credential(token)]
	if !known || c.grant.Expires != 0 && d.now().Unix() >= c.grant.Expires {
		return "", cloakroom.ErrUnauthenticated
	}
	return c.name, nil
}

// Allow asks the grant of the caller as it is now. Where one person does
// everything, the operator is the custodian too. What only shows how things are
// is answered by an old view of the directory as well: it is needed most then.
func (d sideDoor) Allow(call *operator.Call) error {
	rules := d.rulesNow()
	if err := d.granted(call, rules.view); err != nil {
		return err
	}
	if slices.Contains(call.Any, operator.Status) || slices.Contains(call.Any, operator.Metrics) {
		return nil
	}
	return d.current(rules, 0)
}

func (d sideDoor) granted(call *operator.Call, view *directory.View) error {
	wanted := call.Any
	if view.Settings.SinglePerson && slices.Contains(wanted, operator.Custody) {
		wanted = append(slices.Clone(wanted), operator.Operate)
	}
	for _, p := range view.Principals {
		if p.Name != call.Caller || !p.Live() || p.Grant.Expires != 0 && d.now().Unix() >= p.Grant.Expires {
			continue
		}
		for _, action := range wanted {
			if slices.Contains(p.Grant.Actions, directory.Action(action)) {
				return nil
			}
		}
	}
	return cloakroom.ErrDenied
}

// Record writes one entry of the audit log.
func (d sideDoor) Record(ctx context.Context, call *operator.Call, outcome string) error {
	return d.audit.Write(ctx, &audit.Entry{
		Request: hex.AppendEncode(nil, call.ID[:]), Principal: call.Caller,
		Action: call.Name, Target: call.Target, Outcome: outcome,
	})
}

// Public is what anybody may know who reaches the side door.
func (d sideDoor) Public() operator.Public {
	stage := d.Stage()
	p := operator.Public{
		Version: Version(), Node: d.cfg.Name, Stage: stage.String(),
		Sealed: stage == Sealed || stage == Pending, Ready: stage == Ready && d.ready.Load(),
		Fingerprint: d.TLSFingerprint(),
	}
	if p.Sealed {
		unseal := d.UnsealProgress()
		p.Unseal = &unseal
	}
	if d.up() == nil {
		view := d.cluster.Directory()
		p.Cluster, p.SinglePerson = view.ClusterID.String(), view.Settings.SinglePerson
	} else if d.folder != nil {
		if node := d.folder.Node(); node.Joined() {
			p.Cluster = directory.ID(node.Cluster).String()
		}
	}
	return p
}

// FullStatus returns the status of the node, as JSON.
func (d sideDoor) FullStatus() ([]byte, error) {
	if err := d.up(); err != nil {
		return nil, err
	}
	return mustJSON(d.status()), nil
}

// MetricsPage serves the metrics.
func (d sideDoor) MetricsPage() (http.Handler, error) {
	if err := d.up(); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}), nil
}

// ownTLS presents the node's certificate, always the newest.
func (n *Node) ownTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: n.ownCertificate}
}

// ownCertificate returns the node's certificate of the cluster with its root.
// Before there is one the node signs for itself: its fingerprint is that of its
// key, which stays.
func (n *Node) ownCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	own, err := n.Certificate(hello)
	if err == nil || n.folder == nil {
		return own, err
	}
	key, err := n.folderKey()
	if err != nil {
		return nil, err
	}
	now := n.now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: n.cfg.Name}, DNSNames: []string{cert.ServerName},
		NotBefore: now.Add(-certBefore), NotAfter: now.Add(provisional), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// provisional is how long a certificate is good for that a node signs for
// itself, at each connection anew.
const provisional = 24 * time.Hour

// folderKey reads the TLS key of a node that has no certificate yet.
func (n *Node) folderKey() (*ecdsa.PrivateKey, error) {
	text, err := n.folder.Key()
	if err != nil {
		return nil, err
	}
	return parseTLSKey(text)
}

// TLSFingerprint names the TLS key of this node, "" before it has one.
func (n *Node) TLSFingerprint() string {
	if known := n.Fingerprint(); known != "" || n.folder == nil {
		return known
	}
	key, err := n.folderKey()
	if err != nil {
		return ""
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return ""
	}
	return keyFingerprint(public)
}
