package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint is how a node or a cluster is recognised: "sha256:" and the
// base64url of the SHA-256 over the public key of a certificate (its
// SubjectPublicKeyInfo). That of a node is the same for all its certificates,
// that of a cluster is of its own authority.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return fingerprintScheme + base64.RawURLEncoding.EncodeToString(sum[:])
}

const fingerprintScheme = "sha256:"

// CheckFingerprint says whether text can be a fingerprint.
func CheckFingerprint(text string) error {
	digits, found := strings.CutPrefix(text, fingerprintScheme)
	sum, err := base64.RawURLEncoding.Strict().DecodeString(digits)
	if !found || err != nil || len(sum) != sha256.Size {
		return errors.New("a fingerprint is sha256: and 43 characters, as `node init` prints it")
	}
	return nil
}

// FingerprintError means that the server is not the one with that fingerprint,
// or that none is known that it could be held to.
type FingerprintError struct {
	Host          string
	Node, Cluster string // of whoever answered; Cluster may be empty
	Want          string // "" if none is known
}

// Error shows who answered.
func (e *FingerprintError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("%s is not known yet: it shows the fingerprint %s", e.Host, e.Node)
	}
	return fmt.Sprintf("%s is not the server with the fingerprint %s: it shows %s", e.Host, e.Want, e.Node)
}

// Pin returns a [Config.Peer] that takes the node or the cluster with that
// fingerprint and nobody else. host is for the error.
func Pin(host, want string) func(node, cluster string) error {
	return func(node, cluster string) error {
		if want == "" || node != want && cluster != want {
			return &FingerprintError{Host: host, Node: node, Cluster: cluster, Want: want}
		}
		return nil
	}
}

// PeerTLS is what a client dials with that recognises servers by their keys
// alone, as [Config.Peer] has it.
func PeerTLS(peer func(node, cluster string) error) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // verifyPeer does it, by key
		VerifyConnection:   verifyPeer(peer),
	}
}

// verifyPeer has a server recognised by its keys instead of by its name. The
// handshake proved that it holds the key of its certificate; the cluster
// counts only if its authority, which comes along, signed that.
func verifyPeer(peer func(node, cluster string) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0] // TLS 1.3: a server has one
		cluster := ""
		for _, root := range state.PeerCertificates[1:] {
			if root.IsCA && signedBy(leaf, root) {
				cluster = Fingerprint(root)
			}
		}
		return peer(Fingerprint(leaf), cluster)
	}
}

// signedBy verifies the leaf against one root, its time included.
func signedBy(leaf, root *x509.Certificate) bool {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err == nil
}
