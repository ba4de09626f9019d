package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"cloakroom/cluster/cert"
)

// papers are what a port shows and whom it trusts. They are never changed,
// only replaced as a whole: see [Port.Trust].
type papers struct {
	member, stranger, late *tls.Config // accepting, by what the dialler wants
	client, lateClient     *tls.Config // dialling
}

// newPapers makes the settings of all ends. Nodes verify each other's chain up
// to the cluster's CA at the time Now says; who it is that the certificate
// names is looked at next ([link.identify]).
//
// No session tickets: a connection lives for long, and a ticket would keep its
// key material alive beyond it.
func (c *Config) newPapers(certificate tls.Certificate, roots *x509.CertPool) *papers {
	leaf := certificate
	leaf.Certificate = certificate.Certificate[:1] // nodes have the root
	common := tls.Config{
		Certificates:                []tls.Certificate{leaf},
		MinVersion:                  tls.VersionTLS13,
		Time:                        c.Now,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // for web pages; here it costs throughput
	}
	p := &papers{member: common.Clone(), stranger: common.Clone(), late: common.Clone(), client: common.Clone(), lateClient: common.Clone()}

	p.member.NextProtos = c.memberProtocols()
	p.member.ClientAuth = tls.RequireAndVerifyClientCert
	p.member.ClientCAs = roots

	p.stranger.NextProtos = []string{joinProtocol}
	p.stranger.Certificates = []tls.Certificate{certificate} // with the root, whose key a join token pins

	p.late.NextProtos = []string{overdue.protocol()}
	p.late.ClientAuth = tls.RequireAnyClientCert
	p.late.VerifyConnection = func(state tls.ConnectionState) error {
		return verifyLate(state, x509.VerifyOptions{Roots: roots, CurrentTime: c.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}

	p.client.ServerName = cert.ServerName
	p.client.RootCAs = roots

	p.lateClient.ServerName = cert.ServerName
	p.lateClient.InsecureSkipVerify = true // in favour of what follows, which differs in the time alone
	p.lateClient.VerifyConnection = func(state tls.ConnectionState) error {
		return verifyLate(state, x509.VerifyOptions{Roots: roots, CurrentTime: c.Now(), DNSName: cert.ServerName,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	}
	return p
}

// memberProtocols are what a node may want of another.
func (c *Config) memberProtocols() []string {
	protocols := []string{calls.protocol(), raft.protocol()}
	if c.Gossip != nil {
		protocols = append(protocols, gossip.protocol())
	}
	return protocols
}

// listening returns the settings of the listener: which of the papers count is
// decided by what the dialler wants, anew for each connection.
func (p *Port) listening() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			now := p.papers.Load()
			switch {
			case p.cfg.Welcome != nil && slices.Contains(hello.SupportedProtos, joinProtocol):
				return now.stranger, nil
			case p.cfg.Pin != nil && slices.Contains(hello.SupportedProtos, overdue.protocol()):
				return now.late, nil
			default:
				return now.member, nil
			}
		},
	}
}

// Trust replaces this node's certificate and the roots it trusts, for every
// handshake from now on. Connections that are open stay. The certificate must
// name this node; a root behind it is shown to those who join.
func (p *Port) Trust(certificate tls.Certificate, roots *x509.CertPool) error {
	if roots == nil {
		return errors.New("replace certificate: no roots")
	}
	if err := p.cfg.checkCertificate(&certificate); err != nil {
		return fmt.Errorf("replace certificate: %w", err)
	}
	p.papers.Store(p.cfg.newPapers(certificate, roots))
	return nil
}

// verifyLate verifies the other side's chain as TLS does, but lets the
// certificate be past its end. Whoever is let in so must have the very key that
// is registered for its node, and may say little: see [Config.LateMethods].
func verifyLate(state tls.ConnectionState, opts x509.VerifyOptions) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	leaf := state.PeerCertificates[0]
	if opts.CurrentTime.After(leaf.NotAfter) {
		opts.CurrentTime = leaf.NotAfter // its root was valid then: none outlives it
	}
	if _, err := leaf.Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// KeyOf returns the digest of a certificate's public key, SHA-256 of its
// SubjectPublicKeyInfo: what a node is registered by.
func KeyOf(c *x509.Certificate) [32]byte { return cert.KeyDigest(c) }

// bindLabel names the exporter (RFC 8446, 7.5) that ties what is sealed for a
// connection to that very connection.
const bindLabel = "EXPORTER-cloakroom-keys"

// present returns who the other side is by its certificate, and the value that
// both ends of this connection and nobody else can compute.
func (l *link) present() (peer Peer, err error) {
	state := l.tls.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return peer, errors.New("no certificate")
	}
	leaf := state.PeerCertificates[0]
	if peer.Node, err = cert.NodeOf(leaf, l.port.cfg.Cluster); err != nil {
		return peer, err
	}
	peer.Key = KeyOf(leaf)
	bound, err := state.ExportKeyingMaterial(bindLabel, nil, len(peer.Bound))
	copy(peer.Bound[:], bound)
	return peer, err
}

// pinned says whether a node's certificate has the key that is registered for
// it. A node that was registered without one may have any.
func (c *Config) pinned(node string, key [32]byte) bool {
	if c.Pin == nil {
		return true
	}
	want, known := c.Pin(node)
	return !known || want == key
}

// pinnedSurely is pinned, and false for a node without a registered key.
func (c *Config) pinnedSurely(node string, key [32]byte) bool {
	want, known := c.Pin(node)
	return known && want == key
}
