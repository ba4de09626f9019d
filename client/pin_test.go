package client_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"cloakroom/client"
)

// authority signs certificates of nodes.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return authority{sign(t, template, template, key.Public(), key), key}
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// serveAs starts a server with a certificate of the authority, and whatever is
// shown behind it.
func (a authority) serveAs(t *testing.T, behind ...*x509.Certificate) (addr, fingerprint string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "n1"}, DNSNames: []string{"node.cloakroom.internal"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leaf := sign(t, template, a.cert, key.Public(), a.key)
	shown := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	for _, c := range behind {
		shown.Certificate = append(shown.Certificate, c.Raw)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"node":"n1","stage":"ready","ready":true}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{shown}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), client.Fingerprint(leaf)
}

func greet(t *testing.T, cfg client.Config) error {
	t.Helper()
	cfg.Retries = -1
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.PublicStatus(context.Background())
	return err
}

func TestPins(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	cluster := client.Fingerprint(own.cert)
	addr, node := own.serveAs(t, own.cert)
	bare, _ := own.serveAs(t)
	// An impostor shows the right authority behind a certificate of its own.
	impostor, impostorNode := other.serveAs(t, own.cert)

	for _, test := range []struct {
		addr, pin string
		good      bool
	}{
		{addr, node, true}, {addr, cluster, true},
		{bare, cluster, false}, {impostor, cluster, false}, {impostor, node, false},
		{addr, client.Fingerprint(other.cert), false}, {addr, "", false},
	} {
		err := greet(t, client.Config{Addr: test.addr, Peer: client.Pin(test.addr, test.pin)})
		if (err == nil) != test.good {
			t.Errorf("%s with %q: %v", test.addr, test.pin, err)
		}
		var pin *client.FingerprintError
		if err != nil && (!errors.As(err, &pin) || pin.Host != test.addr || pin.Want != test.pin) {
			t.Errorf("got %#v", err)
		}
	}
	var met string
	if err := greet(t, client.Config{Addr: impostor, Peer: func(n, c string) error { met = n + " " + c; return nil }}); err != nil {
		t.Error(err)
	}
	if met != impostorNode+" " {
		t.Errorf("met %q: the impostor passed for the cluster", met)
	}
}

func TestCheckFingerprint(t *testing.T) {
	good := client.Fingerprint(newAuthority(t).cert)
	if err := client.CheckFingerprint(good); err != nil {
		t.Errorf("%s: %v", good, err)
	}
	for _, bad := range []string{"", "sha256:", good[7:], good + "A", good[:len(good)-1], "sha512:" + good[7:]} {
		if client.CheckFingerprint(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"node":"n1"}`)
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	if err := greet(t, client.Config{Addr: "unix:" + path}); err != nil {
		t.Error(err)
	}
	server.Close()
	err = greet(t, client.Config{Addr: "unix:" + path})
	var gone *client.UnreachableError
	if !errors.As(err, &gone) || gone.Host != "unix:"+path {
		t.Errorf("gone: %v", err)
	}
	if _, err := client.New(client.Config{Addr: "unix:relative"}); err == nil {
		t.Error("a relative path was taken")
	}
	if _, err := client.New(client.Config{Addr: "a:1", CACert: "x", Peer: client.Pin("a:1", "")}); err == nil {
		t.Error("CACert and Peer were taken together")
	}
}
