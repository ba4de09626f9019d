package cert

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A fingerprint is "sha256:" and the base64url, without padding, of SHA-256
// over a SubjectPublicKeyInfo: of a node's TLS key, the same for all its
// certificates, or of a cluster's CA key.
const fingerprintPrefix = "sha256:"

var errFingerprint = errors.New("not a fingerprint: want sha256: and 43 characters, as 'cloakroom status' on that node prints it")

// KeyDigest returns SHA-256 over the SubjectPublicKeyInfo of a certificate.
func KeyDigest(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Fingerprint returns the text of a digest, for people to compare.
func Fingerprint(digest [32]byte) string {
	return fingerprintPrefix + base64.RawURLEncoding.EncodeToString(digest[:])
}

// ParseFingerprint reads what [Fingerprint] wrote.
func ParseFingerprint(text string) (digest [32]byte, err error) {
	coded, found := strings.CutPrefix(strings.TrimSpace(text), fingerprintPrefix)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(coded)
	if !found || err != nil || len(raw) != len(digest) {
		return digest, errFingerprint
	}
	return [32]byte(raw), nil
}

// Matches says whether a chain that TLS presented has the pinned key: that of
// its leaf, or that of the root behind it, which must then have signed the leaf.
// It does not look at the time: a pin is for first contact, also after a year.
func Matches(chain []*x509.Certificate, pin [32]byte) error {
	if len(chain) == 0 {
		return errors.New("no certificate was presented")
	}
	leaf, root := chain[0], chain[len(chain)-1]
	is := func(c *x509.Certificate) bool {
		sum := KeyDigest(c)
		return subtle.ConstantTimeCompare(sum[:], pin[:]) == 1
	}
	switch {
	case is(leaf):
		return nil
	case !is(root):
		return fmt.Errorf("neither the node's key nor its cluster's is %s: the node's is %s", Fingerprint(pin), Fingerprint(KeyDigest(leaf)))
	case !root.IsCA:
		return errors.New("the pinned certificate is no authority's")
	}
	if err := leaf.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("the pinned cluster did not sign the node's certificate: %w", err)
	}
	return nil
}
