// Package peertest helps tests of whatever talks over the cluster port: a CA
// with certificates for any time, and a [Network] in memory that works inside
// a testing/synctest bubble.
package peertest

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"cloakroom/cluster/cert"
)

// CA signs certificates of one cluster. Safe for concurrent use.
type CA struct {
	Cluster [16]byte
	Root    *x509.Certificate

	t   testing.TB
	key ed25519.PrivateKey
}

// The life of what NewCA and Node make. A synctest bubble begins in 2000.
func firstDay() time.Time { return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC) }
func lastDay() time.Time  { return time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC) }

// NewCA returns the CA of a cluster, with a key of its own.
func NewCA(t testing.TB, cluster [16]byte) *CA {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.NewRoot(key, cluster, firstDay(), lastDay(), serials{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{Cluster: cluster, Root: root, t: t, key: key}
}

// Roots returns a pool with this CA alone.
func (ca *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Root)
	return pool
}

// Node returns a certificate with its key, valid from 1990 to 2190.
func (ca *CA) Node(name string) tls.Certificate {
	ca.t.Helper()
	return ca.Issue(cert.Request{Node: name, NotBefore: firstDay(), NotAfter: lastDay()})
}

// Issue returns a certificate with its key, Ed25519, which is made here. A
// zero Cluster means the CA's.
func (ca *CA) Issue(req cert.Request) tls.Certificate {
	ca.t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		ca.t.Fatal(err)
	}
	req.PublicKey, req.Rand = public, serials{}
	if req.Cluster == ([16]byte{}) {
		req.Cluster = ca.Cluster
	}
	der, err := cert.Issue(ca.Root, ca.key, req)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serials is where serial numbers come from. Nothing looks at them here.
type serials struct{}

func (serials) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 0x2a
	}
	return len(p), nil
}
