// Package entry owns the two forms in which secrets travel when a node gets
// into a cluster: the join token that a person carries to a new machine, and
// the keyring that one node seals for another.
//
// It decides nothing: who may have either is asked elsewhere. A token's secret
// is on the heap for as long as its holder keeps it; the keyring passes from
// guarded memory to guarded memory. Everything here is safe for concurrent use.
package entry

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// SecretBytes is the length of the secret in a token.
const SecretBytes = 32

const (
	// MaxAddresses bounds the addresses in a token.
	MaxAddresses = 8
	// maxAddress bounds one of them, in bytes: a host name of 255, ":65535".
	maxAddress = 261

	tokenPrefix = "cloakroom-join-1."
	tokenHead   = 89
	tokenCheck  = 4
	// MaxTokenText bounds the text of a token, in bytes.
	MaxTokenText = len(tokenPrefix) + ((tokenHead+MaxAddresses*(2+maxAddress)+tokenCheck)*4+2)/3
)

// Token lets one node in, once. Its text is "cloakroom-join-1." and in
// base64url without padding:
//
//	offset  size  content
//	0       16    cluster
//	16      32    pin: SHA-256 of the SubjectPublicKeyInfo of the cluster's CA key
//	48      8     when it expires, Unix seconds, big-endian
//	56      32    secret
//	88      1     number of addresses, 1 to 8
//	89      2+n   each: its length, big-endian, and host:port of a cluster port
//	        4     the first bytes of SHA-256 of all that, for copies gone wrong
type Token struct {
	Cluster   [16]byte
	Pin       [32]byte
	Expires   time.Time
	Addresses []string
	Secret    [SecretBytes]byte
}

var (
	// ErrToken is what [ParseToken] returns for a text that is none.
	ErrToken = errors.New("not a join token, or a damaged one: give the whole line that 'cloakroom join-token create' printed")

	encoding = base64.RawURLEncoding.Strict()
)

// Append appends the text of t to dst.
func (t *Token) Append(dst []byte) ([]byte, error) {
	if len(t.Addresses) < 1 || len(t.Addresses) > MaxAddresses {
		return dst, fmt.Errorf("encode join token: %d addresses: want 1 to %d", len(t.Addresses), MaxAddresses)
	}
	raw := make([]byte, 0, MaxTokenText)
	defer func() { clear(raw[:cap(raw)]) }()
	raw = append(append(raw, t.Cluster[:]...), t.Pin[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(t.Expires.Unix()))
	raw = append(append(raw, t.Secret[:]...), byte(len(t.Addresses)))
	for _, addr := range t.Addresses {
		if addr == "" || len(addr) > maxAddress {
			return dst, fmt.Errorf("encode join token: an address of %d bytes", len(addr))
		}
		raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(addr))), addr...)
	}
	sum := sha256.Sum256(raw)
	raw = append(raw, sum[:tokenCheck]...)
	return encoding.AppendEncode(append(dst, tokenPrefix...), raw), nil
}

// ParseToken reads the text of a token, with white space around it or not. It
// returns [ErrToken] for anything but what [Token.Append] writes.
func ParseToken(text []byte) (*Token, error) {
	text = bytes.TrimSpace(text)
	coded, found := bytes.CutPrefix(text, []byte(tokenPrefix))
	if !found || len(text) > MaxTokenText {
		return nil, ErrToken
	}
	raw := make([]byte, encoding.DecodedLen(len(coded)))
	defer clear(raw)
	n, err := encoding.Decode(raw, coded)
	if err != nil || n < tokenHead+tokenCheck {
		return nil, ErrToken
	}
	body, check := raw[:n-tokenCheck], raw[n-tokenCheck:n]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:tokenCheck], check) {
		return nil, ErrToken
	}
	t := &Token{Cluster: [16]byte(body), Pin: [32]byte(body[16:]), Secret: [SecretBytes]byte(body[56:])}
	expires := int64(binary.BigEndian.Uint64(body[48:]))
	if t.Expires = time.Unix(expires, 0); expires < 0 {
		return nil, ErrToken
	}
	if t.Addresses, err = parseAddresses(int(body[88]), body[tokenHead:]); err != nil {
		return nil, err
	}
	return t, nil
}

func parseAddresses(count int, rest []byte) ([]string, error) {
	if count < 1 || count > MaxAddresses {
		return nil, ErrToken
	}
	addresses := make([]string, count)
	for i := range addresses {
		if len(rest) < 2 {
			return nil, ErrToken
		}
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; n == 0 || n > maxAddress || n > len(rest) {
			return nil, ErrToken
		}
		addresses[i], rest = string(rest[:n]), rest[n:]
	}
	if len(rest) > 0 {
		return nil, ErrToken
	}
	return addresses, nil
}

// Wipe clears the secret.
func (t *Token) Wipe() { clear(t.Secret[:]) }

// Digest is what stands for the secret before it is put under the cluster's
// key: no API token is ever taken for a join token, nor the other way round.
func Digest(secret *[SecretBytes]byte) [32]byte {
	h := sha256.New()
	io.WriteString(h, "cloakroom/v1/join-token\x00")
	h.Write(secret[:])
	return [32]byte(h.Sum(nil))
}

const concealed = "[secret]"

// Format writes "[secret]" for every verb.
func (*Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, concealed) }

// LogValue returns "[secret]".
func (*Token) LogValue() slog.Value { return slog.StringValue(concealed) }

// MarshalText returns "[secret]"; JSON uses it as well.
func (*Token) MarshalText() ([]byte, error) { return []byte(concealed), nil }
