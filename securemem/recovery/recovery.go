// Package recovery makes and combines the shares of a cluster's recovery
// secret. Whoever brings enough of them together can open the keyring files of
// the cluster: after all of it stood still, nobody else can.
//
// The secret is a random scalar of Ristretto255, shared among n people so that
// any k can restore it and k-1 know nothing (Shamir, by circl's secretsharing).
// HKDF of it is the seed of an age identity of the post-quantum kind, to which
// keyring files are sealed. Once the shares are made the secret is nowhere.
//
// Secrets and shares lie in guarded memory only; what leaves the room is
// public. A [Gathering] is safe for concurrent use.
package recovery

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"

	"filippo.io/age"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"cloakroom/securemem"
	"cloakroom/securemem/hybrid"
)

// MaxShares bounds how many people share a secret.
const MaxShares = 32

// Public is what everybody may know of a recovery secret. It stands in the
// head of every keyring file and in the directory.
type Public struct {
	// Recipient is the public half of the age identity, "age1pq1…".
	Recipient string `json:"recipient"`
	// Threshold is how many shares restore the secret.
	Threshold int `json:"threshold"`
	// Shares are the SHA-256 of all shares; the share of index i stands at i-1.
	// They tell a wrong share from a right one and say nothing else: a share
	// has 252 random bits.
	Shares []Hash `json:"shares"`
}

// Hash is a SHA-256; its text form is hex.
type Hash [sha256.Size]byte

// MarshalText returns 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("want 64 hex digits")
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return errors.New("want 64 hex digits")
	}
	return nil
}

// Check reports what is wrong with p, or nil.
func (p *Public) Check() error {
	if _, err := age.ParseHybridRecipient(p.Recipient); err != nil {
		return errors.New("recovery: the recipient is none of age's post-quantum kind")
	}
	return checkNumbers(p.Threshold, len(p.Shares))
}

func checkNumbers(k, n int) error {
	switch {
	case n < 1 || n > MaxShares:
		return fmt.Errorf("recovery: %d shares: want 1 to %d", n, MaxShares)
	case k < 1 || k > n:
		return fmt.Errorf("recovery: %d of %d shares: want 1 to %d", k, n, n)
	}
	return nil
}

// Fingerprint returns 16 hex digits that name the secret: the first of
// SHA-256 of the recipient's text. Every share carries it.
func (p *Public) Fingerprint() string {
	f := p.fingerprint()
	return hex.EncodeToString(f[:])
}

func (p *Public) fingerprint() fingerprint {
	sum := sha256.Sum256([]byte(p.Recipient))
	return fingerprint(sum[:])
}

// AgeRecipient returns what a keyring file is sealed to.
func (p *Public) AgeRecipient() (age.Recipient, error) {
	r, err := age.ParseHybridRecipient(p.Recipient)
	if err != nil {
		return nil, errors.New("recovery: the recipient is none of age's post-quantum kind")
	}
	return r, nil
}

// Make draws a recovery secret for a cluster and splits it into n shares, any k
// of which restore it. The shares, which are texts, belong to the caller, who
// gives each away and destroys it.
func Make(memory *securemem.Memory, cluster [16]byte, k, n int) (*Public, []*securemem.Secret, error) {
	if err := checkNumbers(k, n); err != nil {
		return nil, nil, err
	}
	defer collect()
	values, seed, err := split(memory, cluster, k, n)
	if err != nil {
		return nil, nil, fmt.Errorf("make recovery secret: %w", err)
	}
	defer seed.Destroy()
	defer values.Destroy()
	public := &Public{Recipient: hybrid.NewRecipient(seed).String(), Threshold: k}
	shares := make([]*securemem.Secret, 0, n)
	for i := range n {
		text, err := memory.NewSecret(TextBytes)
		if err != nil {
			for _, s := range shares {
				s.Destroy()
			}
			return nil, nil, fmt.Errorf("make recovery secret: %w", err)
		}
		share := share{fingerprint: public.fingerprint(), threshold: byte(k), index: byte(i + 1)}
		values.Use(func(b []byte) {
			share.value = b[i*valueBytes : (i+1)*valueBytes]
			text.Use(func(to []byte) { public.Shares = append(public.Shares, share.write(to)) })
		})
		shares = append(shares, text)
	}
	return public, shares, nil
}

// split draws a scalar and returns the values of n shares of it, one after the
// other, and the seed that it stands for.
func split(memory *securemem.Memory, cluster [16]byte, k, n int) (values, seed *securemem.Secret, err error) {
	if values, err = memory.NewSecret(n * valueBytes); err != nil {
		return nil, nil, err
	}
	if seed, err = memory.NewSecret(hybrid.SeedBytes); err != nil {
		values.Destroy()
		return nil, nil, err
	}
	values.Use(func(to []byte) {
		secret := group.Ristretto255.RandomNonZeroScalar(nil) // draws from crypto/rand
		for i, s := range secretsharing.New(nil, uint(k-1), secret).Share(uint(n)) {
			err = errors.Join(err, putScalar(to[i*valueBytes:(i+1)*valueBytes], s.Value))
		}
		err = errors.Join(err, derive(seed, cluster, secret))
	})
	if err != nil {
		values.Destroy()
		seed.Destroy()
		return nil, nil, err
	}
	return values, seed, nil
}

// combine restores the secret from the values of exactly k shares, one after
// the other, whose indexes differ, and writes its seed.
func combine(seed *securemem.Secret, cluster [16]byte, indexes []byte, values []byte) error {
	shares := make([]secretsharing.Share, len(indexes))
	for i, index := range indexes {
		value := group.Ristretto255.NewScalar()
		if err := value.UnmarshalBinary(values[i*valueBytes : (i+1)*valueBytes]); err != nil {
			return fmt.Errorf("share %d: %w", index, errShareForm)
		}
		shares[i] = secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(index)), Value: value}
	}
	secret, err := secretsharing.Recover(uint(len(shares)-1), shares)
	if err != nil {
		return errors.New("combine shares: too few")
	}
	return derive(seed, cluster, secret)
}

// derive writes HKDF-SHA-256(secret, salt = cluster id, info =
// "cloakroom/v1/recovery" ‖ 0x00) to seed.
func derive(seed *securemem.Secret, cluster [16]byte, secret group.Scalar) error {
	b, err := secret.MarshalBinary()
	if err != nil {
		return err
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, cluster[:], "cloakroom/v1/recovery\x00", hybrid.SeedBytes)
	if err != nil {
		return err
	}
	defer clear(key)
	seed.Use(func(to []byte) { copy(to, key) })
	return nil
}

// putScalar writes a scalar as RFC 9496 does: 32 bytes, little-endian.
func putScalar(to []byte, s group.Scalar) error {
	b, err := s.MarshalBinary()
	if err != nil {
		return err
	}
	copy(to, b)
	clear(b)
	return nil
}

// collect ends every handling of secrets; see keyring.
func collect() {
	runtime.GC()
	runtime.GC()
}
