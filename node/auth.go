package node

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash/maphash"

	"github.com/dgraph-io/ristretto/v2"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
)

// maxTokenBytes bounds a bearer token.
const maxTokenBytes = 512

// credentials remembers which token has which credential, so that the HMAC
// under the guarded credential key, which takes microseconds, is computed once
// per token and not once per request. Losing an entry costs that time again
// and nothing else; rights are never cached here, they are looked up in the
// newest view every time.
type credentials struct {
	cache *ristretto.Cache[uint64, *verified]
	seed  maphash.Seed
}

// verified is a token seen before, by its SHA-256.
type verified struct {
	sum        [sha256.Size]byte
	credential directory.Digest
}

// maxVerified is how many tokens are remembered.
const maxVerified = 1 << 12

func newCredentials() (*credentials, error) {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *verified]{
		NumCounters: 10 * maxVerified, MaxCost: maxVerified, BufferItems: 64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make credential cache: %w", err)
	}
	return &credentials{cache: cache, seed: maphash.MakeSeed()}, nil
}

// Authenticate finds the live principal whose token this is. Unknown, suspended
// and revoked tokens are the same error.
func (n *Node) Authenticate(token []byte) (api.Caller, error) {
	if stage := n.Stage(); stage != Ready {
		return nil, stage.Err()
	}
	if len(token) == 0 || len(token) > maxTokenBytes {
		return nil, cloakroom.ErrUnauthenticated
	}
	r := n.rulesNow()
	c, known := r.callers[n.credential(token)]
	switch {
	case !known && n.current(r, 0) != nil:
		return nil, cloakroom.ErrDirectoryStale // it may be a new one
	case !known, c.grant.Expires != 0 && n.now().Unix() >= c.grant.Expires:
		return nil, cloakroom.ErrUnauthenticated
	}
	return c, nil
}

// credential returns the keyed hash under which the directory knows token.
func (n *Node) credential(token []byte) directory.Digest {
	sum := sha256.Sum256(token)
	slot := maphash.Bytes(n.credentials.seed, token)
	if v, ok := n.credentials.cache.Get(slot); ok && subtle.ConstantTimeCompare(v.sum[:], sum[:]) == 1 {
		return v.credential
	}
	v := &verified{sum: sum, credential: n.credentialOf(sum)}
	if _, known := n.rulesNow().callers[v.credential]; known {
		n.credentials.cache.Set(slot, v, 1) // guesses find no room here
	}
	return v.credential
}

// credentialOf returns the credential of the token with that SHA-256: its HMAC
// under the guarded credential key.
func (n *Node) credentialOf(tokenHash [sha256.Size]byte) (c directory.Digest) {
	n.keys.CredentialMAC((*[32]byte)(&c), &tokenHash)
	return c
}
