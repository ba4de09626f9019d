package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"
)

// The CA key of the golden files is a0…bf.
func TestCASignsPlainEd25519(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	std := ed25519.NewKeyFromSeed(countedKey(0xa0))
	ca := k.CA()
	if public := std.Public(); !k.CAPublicKey().Equal(public) || !ca.Public().(ed25519.PublicKey).Equal(public) {
		t.Fatal("another public key than the standard library's")
	}
	message := []byte("a certificate to be")
	for _, opts := range []crypto.SignerOpts{crypto.Hash(0), &ed25519.Options{}} {
		got, err := ca.Sign(nil, message, opts)
		if want := ed25519.Sign(std, message); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Sign = %x, %v, want %x", got, err, want)
		}
	}
	for _, opts := range []crypto.SignerOpts{nil, crypto.SHA512, &ed25519.Options{Hash: crypto.SHA512}, &ed25519.Options{Context: "other"}} {
		if _, err := ca.Sign(nil, message, opts); !errors.Is(err, errCAOptions) {
			t.Errorf("Sign with %#v = %v, want errCAOptions", opts, err)
		}
	}
	k.CAPublicKey()[0] ^= 1
	ca.Public().(ed25519.PublicKey)[0] ^= 1
	if !k.CAPublicKey().Equal(std.Public()) {
		t.Error("hands out the keyring's own bytes")
	}
	k.Close()
	if _, err := ca.Sign(nil, message, crypto.Hash(0)); !errors.Is(err, ErrClosed) {
		t.Errorf("Sign after Close = %v, want ErrClosed", err)
	}
}

// What it is there for: x509 takes the signer, and what it issued verifies.
func TestCAIssuesCertificates(t *testing.T) {
	k := newTestKeyring(t, testConfig(t))
	now := time.Unix(1_800_000_000, 0)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a node"}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	node := ed25519.NewKeyFromSeed(countedKey(0xf0)).Public()
	pool := x509.NewCertPool()
	issue := func(template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
		der, err := x509.CreateCertificate(nil, template, root, public, k.CA())
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	pool.AddCert(issue(root, k.CAPublicKey()))
	if _, err := issue(leaf, node).Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
}
