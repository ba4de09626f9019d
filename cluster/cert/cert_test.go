package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"flag"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var (
	testCluster = [16]byte{0xc1, 15: 0x0a}
	testStart   = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	testEnd     = testStart.Add(365 * 24 * time.Hour)
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

func fixedKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(b)), ed25519.SeedSize)))
}

func testRoot(t *testing.T) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	signer := fixedKey('r')
	der, err := NewRoot(signer, testCluster, testStart, testEnd, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root, signer
}

func testRequest() Request {
	return Request{
		Node: "node-1", Cluster: testCluster, PublicKey: fixedKey('n').Public(), Hosts: []string{"n1.example", "10.0.0.1", "::1"},
		NotBefore: testStart, NotAfter: testEnd.Add(-time.Hour), Rand: zeros{},
	}
}

// Ed25519 signatures are deterministic, so every byte is known.
func TestGoldenCertificates(t *testing.T) {
	root, signer := testRoot(t)
	node, err := Issue(root, signer, testRequest())
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"root": root.Raw, "node": node} {
		path, got := "testdata/"+name+".golden", hex.Dump(der)
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || got != string(want) {
			t.Errorf("%s is\n%swant\n%s%v", name, got, want, err)
		}
	}
}

func TestANodeIsVerifiedAndNamed(t *testing.T) {
	root, signer := testRoot(t)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.PublicKey{fixedKey('n').Public(), p256.Public()} {
		req := testRequest()
		req.PublicKey, req.Rand = key, rand.Reader
		der, err := Issue(root, signer, req)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(root)
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			for _, name := range []string{ServerName, "n1.example", "10.0.0.1", "::1"} {
				opts := x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: testStart.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{usage}}
				if _, err := c.Verify(opts); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testEnd}); err == nil {
			t.Error("valid after its end")
		}
		if node, err := NodeOf(c, testCluster); node != "node-1" || err != nil {
			t.Error(node, err)
		}
		if node, err := NodeOf(c, [16]byte{}); err == nil {
			t.Error("of another cluster:", node)
		}
	}
	if node, err := NodeOf(root, testCluster); err == nil {
		t.Error("the root is a node:", node)
	}
}

// A node's key signs nothing that counts, even if somebody makes it try.
func TestANodeIsNoAuthority(t *testing.T) {
	root, signer := testRoot(t)
	der, err := Issue(root, signer, testRequest())
	if err != nil {
		t.Fatal(err)
	}
	middle, _ := x509.ParseCertificate(der)
	forged := testRequest()
	forged.Node, forged.NotAfter = "node-2", middle.NotAfter
	if der, err = Issue(middle, fixedKey('n'), forged); err != nil {
		return // refused already
	}
	c, _ := x509.ParseCertificate(der)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	between.AddCert(middle)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: testStart.Add(time.Hour)}); err == nil {
		t.Error("a node has vouched for another")
	}
}

func TestRequestsAreChecked(t *testing.T) {
	root, signer := testRoot(t)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	small, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, change := range map[string]func(*Request){
		"no name":          func(r *Request) { r.Node = "" },
		"no key":           func(r *Request) { r.PublicKey = nil },
		"P-384":            func(r *Request) { r.PublicKey = p384.Public() },
		"RSA":              func(r *Request) { r.PublicKey = small.Public() },
		"ends before":      func(r *Request) { r.NotAfter = r.NotBefore },
		"outlives the CA":  func(r *Request) { r.NotAfter = testEnd.Add(time.Second) },
		"randomness, nil":  func(r *Request) { r.Rand = nil },
		"no randomness":    func(r *Request) { r.Rand = strings.NewReader("") },
		"strange host":     func(r *Request) { r.Hosts = []string{"näme"} },
		"another CA's key": nil,
	} {
		req, by := testRequest(), signer
		if change == nil {
			by = fixedKey('x')
		} else {
			change(&req)
		}
		if _, err := Issue(root, by, req); err == nil {
			t.Error(name, "is accepted")
		}
	}
	if _, err := NewRoot(p384, testCluster, testStart, testEnd, zeros{}); err == nil {
		t.Error("a root with a P-384 key")
	}
	if _, err := Issue(root, p384, testRequest()); err == nil {
		t.Error("signed with a P-384 key")
	}
	if _, err := NewRoot(signer, testCluster, testEnd, testStart, zeros{}); err == nil {
		t.Error("a root that ends before it begins")
	}
	bad := Request{Node: "-", NotBefore: testEnd, NotAfter: testStart.Add(-time.Hour)}
	_, err := Issue(root, signer, bad)
	for _, want := range []string{"node name", "not valid", "node key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q: %v", want, err)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for _, good := range []string{"a", "n1", "Node-1.eu_west", "0", strings.Repeat("n", MaxNodeName)} {
		if err := CheckNode(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-a", ".a", "_a", "a b", "a/b", "ä", "a\x00", "a\n", "a%2f", strings.Repeat("n", MaxNodeName+1)} {
		if CheckNode(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// NodeOf trusts no part of a certificate that another part does not bear out.
func TestNodeOfRefuses(t *testing.T) {
	good := func() *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: "n1"}, URIs: []*url.URL{identity(testCluster, "n1")}}
	}
	if node, err := NodeOf(good(), testCluster); node != "n1" || err != nil {
		t.Fatal(node, err)
	}
	uri := func(text string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs[0] = u
		}
	}
	host := hex.EncodeToString(testCluster[:])
	for name, change := range map[string]func(*x509.Certificate){
		"an authority":    func(c *x509.Certificate) { c.IsCA = true },
		"no URI":          func(c *x509.Certificate) { c.URIs = nil },
		"two URIs":        func(c *x509.Certificate) { c.URIs = append(c.URIs, identity(testCluster, "n2")) },
		"another name":    func(c *x509.Certificate) { c.Subject.CommonName = "n2" },
		"no name":         func(c *x509.Certificate) { c.Subject.CommonName = "" },
		"a strange name":  func(c *x509.Certificate) { c.Subject.CommonName, c.URIs[0].Path = "a b", "/a b" },
		"another scheme":  uri("https://" + host + "/n1"),
		"another cluster": uri("cloakroom://00/n1"),
		"upper case":      uri("cloakroom://" + strings.ToUpper(host) + "/n1"),
		"a longer path":   uri("cloakroom://" + host + "/n1/"),
		"a port":          uri("cloakroom://" + host + ":1/n1"),
		"a user":          uri("cloakroom://u@" + host + "/n1"),
		"a query":         uri("cloakroom://" + host + "/n1?x"),
		"a fragment":      uri("cloakroom://" + host + "/n1#x"),
		"an escaped path": uri("cloakroom://" + host + "/%6e1"),
		"opaque":          uri("cloakroom:" + host + "/n1"),
	} {
		c := good()
		change(c)
		if node, err := NodeOf(c, testCluster); err == nil {
			t.Errorf("%s: %q", name, node)
		}
	}
}
