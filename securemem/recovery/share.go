package recovery

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
)

// Share, format 1: "cloakroom-share-1." and 62 characters of base64url of
//
//	offset  bytes  what
//	     0      8  fingerprint: the first bytes of SHA-256 of the recipient's text
//	     8      1  k, how many shares restore the secret
//	     9      1  index, from 1
//	    10     32  value: a scalar of Ristretto255 (RFC 9496)
//	    42      4  checksum: the first bytes of SHA-256 of what stands before
//
// The checksum finds a slip of the pen; that the share is one of those that
// were given out is known by its SHA-256 (all 46 bytes), see [Public].
const (
	sharePrefix  = "cloakroom-share-1."
	shareBytes   = 46
	valueBytes   = 32
	valueAt      = 10
	checksumAt   = 42
	checksumSize = shareBytes - checksumAt

	// TextBytes is the length of a share's text.
	TextBytes = len(sharePrefix) + (shareBytes*8+5)/6
)

type fingerprint [8]byte

// share is one that was read, or is to be written. value lies in guarded
// memory.
type share struct {
	fingerprint      fingerprint
	threshold, index byte
	value            []byte
}

var errShareForm = errors.New("it is not a share as it was given out: copy all of it, from cloakroom-share-1 to the end of the line")

// write writes the text of s to to, of TextBytes bytes, and returns its hash.
// It is called inside securemem.Do.
func (s *share) write(to []byte) Hash {
	var b [shareBytes]byte
	copy(b[:], s.fingerprint[:])
	b[8], b[9] = s.threshold, s.index
	copy(b[valueAt:], s.value)
	sum := sha256.Sum256(b[:checksumAt])
	copy(b[checksumAt:], sum[:checksumSize])
	copy(to, sharePrefix)
	base64.RawURLEncoding.Encode(to[len(sharePrefix):], b[:])
	return sha256.Sum256(b[:])
}

// readShare reads a text into room, of shareBytes bytes in guarded memory,
// which the share then refers to. White space around it is skipped. It is
// called inside securemem.Do.
func readShare(room, text []byte) (share, Hash, error) {
	text = trim(text)
	if len(text) != TextBytes || string(text[:len(sharePrefix)]) != sharePrefix {
		return share{}, Hash{}, errShareForm
	}
	n, err := base64.RawURLEncoding.Strict().Decode(room, text[len(sharePrefix):])
	if err != nil || n != shareBytes { // the error quotes what it read
		return share{}, Hash{}, errShareForm
	}
	sum := sha256.Sum256(room[:checksumAt])
	if subtle.ConstantTimeCompare(sum[:checksumSize], room[checksumAt:shareBytes]) != 1 {
		return share{}, Hash{}, errors.New("a character of the share is wrong: copy it again")
	}
	s := share{threshold: room[8], index: room[9], value: room[valueAt:checksumAt]}
	copy(s.fingerprint[:], room)
	return s, sha256.Sum256(room[:shareBytes]), nil
}

// trim returns text without the spaces and ends of line around it; unlike
// bytes.TrimSpace it never decodes runes.
func trim(text []byte) []byte {
	space := func(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }
	for len(text) > 0 && space(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && space(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return text
}
