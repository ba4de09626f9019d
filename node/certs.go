package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/wire"
	"cloakroom/node/folder"
)

const (
	certBefore = time.Hour // clocks of nodes may differ
	// defaultCertLife is how long a certificate is good for. It is renewed when
	// two thirds of that are over.
	defaultCertLife = 90 * 24 * time.Hour
	// rootLife is how long a root is good for; no certificate outlives its own.
	rootLife = 10 * 365 * 24 * time.Hour
)

// papers are the node's TLS key and certificate, and the root behind it. The
// key lies on the heap like any TLS key; the directory knows the node by it.
type papers struct {
	mu   sync.Mutex
	key  *ecdsa.PrivateKey
	leaf *x509.Certificate // nil: the node has none yet
	root *x509.Certificate
}

var errNoPapers = errors.New("this node has no certificate yet")

// current returns what TLS presents, leaf and root, and the pool of the root.
func (p *papers) current() (tls.Certificate, *x509.CertPool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaf == nil {
		return tls.Certificate{}, nil, errNoPapers
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.root)
	return tls.Certificate{Certificate: [][]byte{p.leaf.Raw, p.root.Raw}, PrivateKey: p.key, Leaf: p.leaf}, roots, nil
}

// set takes over a certificate and its root after making sure that they belong
// together, and to the key.
func (p *papers) set(leafDER, rootDER []byte) error {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return fmt.Errorf("read root certificate: %w", err)
	}
	if err := leaf.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("the root did not sign the certificate: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("the certificate is for another TLS key than this node's")
	}
	p.leaf, p.root = leaf, root
	return nil
}

// spki returns the public key in DER.
func (p *papers) spki() ([]byte, error) { return x509.MarshalPKIXPublicKey(&p.key.PublicKey) }

// dueAt is when the certificate should be replaced: two thirds into its life.
func (p *papers) dueAt() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaf == nil {
		return time.Time{}, false
	}
	life := p.leaf.NotAfter.Sub(p.leaf.NotBefore)
	return p.leaf.NotBefore.Add(life * 2 / 3), true
}

// expires is when the certificate expires, Unix seconds; 0: there is none.
func (p *papers) expires() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaf == nil {
		return 0
	}
	return float64(p.leaf.NotAfter.Unix())
}

// Certificate returns what this node's listeners present: its certificate and
// the cluster's root behind it, always the newest. It fits
// tls.Config.GetCertificate.
func (n *Node) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	own, _, err := n.papers.current()
	if err != nil {
		return nil, err
	}
	return &own, nil
}

// Fingerprint returns that of the node's TLS key, "" as long as there is none.
func (n *Node) Fingerprint() string {
	key, ok := n.keyDigest()
	if !ok {
		return ""
	}
	return cert.Fingerprint(key)
}

// keyDigest returns the digest of the node's TLS key.
func (n *Node) keyDigest() (digest [32]byte, ok bool) {
	n.papers.mu.Lock()
	defer n.papers.mu.Unlock()
	if n.papers.leaf == nil {
		return digest, false
	}
	return cert.KeyDigest(n.papers.leaf), true
}

// ClusterFingerprint returns that of the cluster's CA key, "" before it is known.
func (n *Node) ClusterFingerprint() string {
	n.papers.mu.Lock()
	defer n.papers.mu.Unlock()
	if n.papers.root == nil {
		return ""
	}
	return cert.Fingerprint(cert.KeyDigest(n.papers.root))
}

// openPapers reads key and certificate from the folder. Without a folder, or
// where there is none yet, it makes them, which takes the keys of the cluster.
func (n *Node) openPapers() error {
	if err := n.openTLSKey(); err != nil {
		return err
	}
	if n.folder != nil {
		chain, err := n.folder.Certificate()
		if err == nil {
			return n.readChain(chain)
		}
		if !errors.Is(err, folder.ErrMissing) {
			return err
		}
	}
	if n.keys == nil {
		return errNoPapers
	}
	spki, err := n.papers.spki()
	if err != nil {
		return err
	}
	leaf, root, err := n.issue(n.cfg.Name, spki, n.hosts())
	if err != nil {
		return err
	}
	return n.keepPapers(leaf, root)
}

// openTLSKey reads the key of the folder, or makes one and keeps it there.
func (n *Node) openTLSKey() (err error) {
	if n.papers.key != nil {
		return nil
	}
	if n.folder != nil {
		text, err := n.folder.Key()
		if err == nil {
			n.papers.key, err = parseTLSKey(text)
			return err
		}
		if !errors.Is(err, folder.ErrMissing) {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), n.random)
	if err != nil {
		return fmt.Errorf("make TLS key: %w", err)
	}
	if n.folder != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("write TLS key: %w", err)
		}
		defer clear(der)
		if err := n.folder.SaveKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return err
		}
	}
	n.papers.key = key
	return nil
}

// parseTLSKey reads a PEM of a P-256 key.
func parseTLSKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("node.key is no PEM file")
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("node.key holds no key in PKCS #8") // the cause may quote it
	}
	key, is := parsed.(*ecdsa.PrivateKey)
	if !is || key.Curve != elliptic.P256() {
		return nil, errors.New("node.key: want a key on P-256")
	}
	return key, nil
}

// readChain takes over what node.crt holds: the certificate, then the root.
func (n *Node) readChain(text []byte) error {
	leaf, rest := pem.Decode(text)
	root, rest := pem.Decode(rest)
	if leaf == nil || root == nil || len(rest) > 0 {
		return errors.New("node.crt: want the certificate and behind it the root, in PEM")
	}
	return n.papers.set(leaf.Bytes, root.Bytes)
}

// keepPapers puts a new certificate into force: into the folder, then at the
// port. Connections that are open stay.
func (n *Node) keepPapers(leaf, root []byte) error {
	if err := n.papers.set(leaf, root); err != nil {
		return err
	}
	if n.folder != nil {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})...)
		if err := n.folder.SaveCertificate(text); err != nil {
			return err
		}
		if err := n.folder.Update(func(node *folder.Node) { node.CA = slices.Clone(root) }); err != nil {
			return err
		}
	}
	if n.cluster == nil {
		return nil
	}
	own, roots, err := n.papers.current()
	if err != nil {
		return err
	}
	return n.cluster.Trust(own, roots)
}

// issue signs a certificate for a node's public key, and returns it with the
// root it is good under. Whoever calls holds n.giving, or has the keys to itself.
func (n *Node) issue(name string, spki []byte, hosts []string) (leaf, root []byte, err error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, nil, fmt.Errorf("read public key: %w", err)
	}
	authority, err := n.authority()
	if err != nil {
		return nil, nil, err
	}
	from := n.now().Add(-certBefore)
	until := n.now().Add(n.certLife())
	if until.After(authority.NotAfter) {
		until = authority.NotAfter
	}
	leaf, err = cert.Issue(authority, n.keys.CA(), cert.Request{
		Node: name, Cluster: n.id, PublicKey: public, Hosts: hosts,
		NotBefore: from, NotAfter: until, Rand: n.random,
	})
	return leaf, authority.Raw, err
}

// authority returns the root to sign under: the node's own as long as it has
// the newest CA key and outlives a certificate, else a new one under that key.
// Roots of different nodes may differ in their bytes and hold the same key,
// which is what verification uses.
func (n *Node) authority() (*x509.Certificate, error) {
	n.papers.mu.Lock()
	root := n.papers.root
	n.papers.mu.Unlock()
	now := n.now()
	if root != nil && n.keys.CAPublicKey().Equal(root.PublicKey) && root.NotAfter.After(now.Add(n.certLife())) && root.NotBefore.Before(now) {
		return root, nil
	}
	der, err := cert.NewRoot(n.keys.CA(), n.id, now.Add(-certBefore), now.Add(rootLife), n.random)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (n *Node) certLife() time.Duration {
	if n.cfg.CertificateLife > 0 {
		return n.cfg.CertificateLife
	}
	return defaultCertLife
}

// hosts are the names under which clients may reach this node's listeners.
func (n *Node) hosts() []string {
	if n.cfg.Network == nil {
		return nil
	}
	return hostsOf(n.cfg.Network.Advertise, n.cfg.Network.API)
}

// hostsOf returns the hosts of addresses, each once. What is no host:port, and
// an address that means all of them, names nothing.
func hostsOf(addresses ...string) []string {
	var hosts []string
	for _, addr := range addresses {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() || slices.Contains(hosts, host) {
			continue
		}
		hosts = append(hosts, host)
	}
	return hosts
}

// tendPapers replaces the certificate in time, and remembers who the others
// are. It ends with n.ctx.
func (n *Node) tendPapers() {
	life := n.certLife()
	pause := time.NewTicker(min(max(life/100, 20*time.Millisecond), time.Second))
	defer pause.Stop()
	var next time.Time // not before then, however clocks differ
	complained := false
	for {
		select {
		case <-pause.C:
		case <-n.cluster.News(): // who the others are may have changed
		case <-n.ctx.Done():
			return
		}
		err := n.rememberOthers()
		if due, has := n.papers.dueAt(); err == nil && has && !n.now().Before(due) && !n.now().Before(next) {
			if err = n.renew(n.ctx); err == nil {
				n.cfg.Logger.Info("renewed the certificate of this node")
				next = n.now().Add(life / 10)
			} else {
				next = n.now().Add(min(life/100, time.Minute))
			}
		}
		if err != nil && !complained {
			n.cfg.Logger.Warn("cannot tend to the papers of this node", "error", err)
		}
		complained = err != nil
	}
}

// renew gets a new certificate: signed here where the keys are, else by
// another node.
func (n *Node) renew(ctx context.Context) error {
	spki, err := n.papers.spki()
	if err != nil {
		return err
	}
	n.giving.RLock()
	if n.gate.keyed.Load() != nil {
		leaf, root, err := n.issue(n.cfg.Name, spki, n.hosts())
		n.giving.RUnlock()
		if err != nil {
			return err
		}
		return n.keepPapers(leaf, root)
	}
	n.giving.RUnlock()
	var faults []error
	for _, addr := range n.others() {
		err := n.renewAt(ctx, addr, spki)
		if err == nil {
			return nil
		}
		faults = append(faults, err)
	}
	return errors.Join(append(faults, errors.New("no other node renewed it"))...)
}

// renewTime bounds one request for a certificate.
const renewTime = 5 * time.Second

func (n *Node) renewAt(ctx context.Context, addr string, spki []byte) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	body, who, err := n.cluster.AskAt(ctx, addr, wire.Renew, (&wire.RenewRequest{PublicKey: spki}).Append(nil))
	if err != nil {
		return err
	}
	var reply wire.RenewReply
	if err := reply.Decode(body); err != nil {
		return fmt.Errorf("renew at %s: %w", who.Node, err)
	}
	if reply.Verdict != wire.Granted {
		return &Refusal{Verdict: reply.Verdict, By: who.Node, Text: reply.Text}
	}
	if err := n.sameAuthority(reply.Root); err != nil {
		return fmt.Errorf("renew at %s: %w", who.Node, err)
	}
	return n.keepPapers(slices.Clone(reply.Certificate), slices.Clone(reply.Root))
}

// sameAuthority makes sure that a root has the CA key that this node trusts.
func (n *Node) sameAuthority(der []byte) error {
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read root certificate: %w", err)
	}
	n.papers.mu.Lock()
	defer n.papers.mu.Unlock()
	if cert.KeyDigest(root) != cert.KeyDigest(n.papers.root) {
		return errors.New("the root has another key than the cluster's CA")
	}
	return nil
}

// serveRenew signs a new certificate for a registered node, by the key of the
// connection it asks over.
func (n *Node) serveRenew(ctx context.Context, from cluster.Peer, body []byte) ([]byte, error) {
	var req wire.RenewRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	reply := wire.RenewReply{}
	reply.Verdict, reply.Text = n.mayRenew(from, req.PublicKey)
	if reply.Verdict == wire.Granted {
		info, _ := n.registered(from.Node)
		var err error
		if reply.Certificate, reply.Root, err = n.issueFor(info.Name, req.PublicKey, hostsOf(info.Address, info.API)); err != nil {
			reply.Verdict, reply.Text = wire.NotNow, "it could not be signed"
			n.cfg.Logger.Error("cannot sign a certificate", "node", from.Node, "error", err)
		}
	}
	if err := n.recordEntry(ctx, from.Node, "node-renew", reply.Verdict); err != nil {
		reply = wire.RenewReply{Verdict: wire.NotNow, Text: "the audit log cannot be written"}
	}
	return reply.Append(nil), nil
}
