// Package cert makes and reads the X.509 certificates of the cluster port: one
// root per cluster, signed by the cluster CA key, and one certificate per node
// that names node and cluster.
//
// It holds no key: the CA signs through a [crypto.Signer], and of a node's key
// only the public half comes here. It has no clock and no randomness of its
// own. A certificate says who somebody is; whether they are still a member is
// the directory's to say. Functions only, safe for concurrent use.
package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

// ServerName is the DNS name in every node's certificate, and the one a dialler
// asks for: it lets TLS do its ordinary verification. Which node and which
// cluster it is stands in the URI, which [NodeOf] reads.
const ServerName = "node.cloakroom.internal"

// MaxNodeName bounds the name of a node, in bytes. It fits the common name of
// RFC 5280.
const MaxNodeName = 64

const scheme = "cloakroom"

// CheckNode says whether a certificate can carry this name: 1 to [MaxNodeName]
// letters, digits, '.', '_' and '-' of ASCII, the first a letter or digit.
func CheckNode(name string) error {
	if name == "" || len(name) > MaxNodeName {
		return fmt.Errorf("node name: want 1 to %d characters", MaxNodeName)
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && (i == 0 || c != '.' && c != '_' && c != '-') {
			return errors.New("node name: want letters, digits and . _ - after the first")
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// NewRoot returns the self-signed root of a cluster, in DER. signer holds the
// cluster CA key, Ed25519; random is read for the serial number.
func NewRoot(signer crypto.Signer, cluster [16]byte, notBefore, notAfter time.Time, random io.Reader) ([]byte, error) {
	if err := errors.Join(checkSigner(signer), checkLifetime(notBefore, notAfter, random)); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "cloakroom cluster " + hex.EncodeToString(cluster[:])},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs nodes, no other authority
	}
	der, err := x509.CreateCertificate(random, template, template, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign root certificate: %w", err)
	}
	return der, nil
}

// Request is what a node's certificate is made from.
type Request struct {
	Node      string // as CheckNode wants it
	Cluster   [16]byte
	PublicKey crypto.PublicKey // Ed25519 or P-256
	Hosts     []string         // names and IP addresses for clients that dial one; may be empty
	NotBefore time.Time
	NotAfter  time.Time
	Rand      io.Reader // for the serial number
}

// Issue returns a certificate for a node, in DER, signed by root's key. It
// reports every fault of the request. A certificate never outlives its root.
func Issue(root *x509.Certificate, signer crypto.Signer, req Request) ([]byte, error) {
	if err := errors.Join(req.check(root), checkSigner(signer)); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: req.Node},
		URIs:                  []*url.URL{identity(req.Cluster, req.Node)},
		DNSNames:              []string{ServerName},
		NotBefore:             req.NotBefore,
		NotAfter:              req.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range req.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(req.Rand, template, root, req.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %q: %w", req.Node, err)
	}
	return der, nil
}

func (r *Request) check(root *x509.Certificate) error {
	faults := []error{CheckNode(r.Node), checkNodeKey(r.PublicKey), checkLifetime(r.NotBefore, r.NotAfter, r.Rand)}
	if r.NotAfter.After(root.NotAfter) {
		faults = append(faults, errors.New("certificate: would outlive its root"))
	}
	return errors.Join(faults...)
}

func checkLifetime(notBefore, notAfter time.Time, random io.Reader) error {
	if !notBefore.Before(notAfter) {
		return errors.New("certificate: not valid at any time")
	}
	if random == nil {
		return errors.New("certificate: no randomness")
	}
	return nil
}

func checkSigner(signer crypto.Signer) error {
	if _, ok := signer.Public().(ed25519.PublicKey); !ok {
		return errors.New("cluster CA key: want Ed25519")
	}
	return nil
}

func checkNodeKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
	}
	return errors.New("node key: want Ed25519 or P-256")
}

// identity is cloakroom://<cluster, 32 hex digits>/<node>.
func identity(cluster [16]byte, node string) *url.URL {
	return &url.URL{Scheme: scheme, Host: hex.EncodeToString(cluster[:]), Path: "/" + node}
}

// NodeOf returns the node that a certificate of this cluster names. It does
// not verify the chain: TLS does.
func NodeOf(c *x509.Certificate, cluster [16]byte) (node string, err error) {
	if c.IsCA {
		return "", errors.New("certificate: an authority's, not a node's")
	}
	if len(c.URIs) != 1 {
		return "", errors.New("certificate: want one URI, that of a node")
	}
	node = c.Subject.CommonName
	if err := CheckNode(node); err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	if *c.URIs[0] != *identity(cluster, node) {
		return "", errors.New("certificate: of another cluster, or its URI names another node than its subject")
	}
	return node, nil
}
