package node

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"cloakroom"
	"cloakroom/node/api"
)

// This file seals Cloakroom-Index: where a write stands in the history of its
// shards, for readers that must see it. Whoever holds one learns nothing of
// shards, of how much is written, or of who wrote, and can make none that was
// not given out; any node of the cluster opens it.
//
// Format 1, as the header carries it (base64url without padding):
//
//	offset  size  content
//	0       16    tag: HMAC-SHA-256 under the request key, context "index/tag",
//	              of the plaintext, cut off
//	16      n     plaintext XOR keystream; block i of the keystream is the
//	              HMAC, context "index/stream", of the tag and i (4 bytes)
//
// Plaintext: format (1 byte), then shard, generation and index of each entry
// (uvarints), shards strictly ascending. The tag stands for the nonce, as in
// SIV (RFC 5297): equal positions have equal texts, and nothing has to be
// drawn. It is not sealed under a data key, because a made-up header could
// name any sealing number, and deriving one costs a garbage collection.

const (
	indexFormat    = 1
	indexTagBytes  = 16
	contextIndex   = "index/tag"
	contextIndexes = "index/stream"
)

// errIndex is the one answer to an index that this cluster did not give out.
var errIndex = api.Malformed("header Cloakroom-Index is not one that this cluster gave out")

// answerIndex has the request answered with where its write left the histories
// of its shards, each shard once. at is sorted.
func (n *Node) answerIndex(req *api.Request, at []cloakroom.Index) {
	if len(at) > 0 {
		slices.SortFunc(at, func(a, b cloakroom.Index) int { return int(a.Shard) - int(b.Shard) })
		req.ReplyIndex = n.sealIndex(req.ReplyIndex[:0], at)
	}
}

// sealIndex appends the sealed form of at, in ascending order of shards.
func (n *Node) sealIndex(dst []byte, at []cloakroom.Index) []byte {
	text := writeIndex(make([]byte, indexTagBytes, indexTagBytes+1+len(at)*8), at)
	var tag [32]byte
	n.keys.RequestMAC(&tag, contextIndex, text[indexTagBytes:])
	copy(text, tag[:indexTagBytes])
	n.crossIndex(text[:indexTagBytes], text[indexTagBytes:])
	return base64.RawURLEncoding.AppendEncode(dst, text)
}

// openIndex appends what was sealed to dst, nothing if there is no header. It
// returns [cloakroom.ErrMalformed] and dst as it was for what no node of this
// cluster sealed.
func (n *Node) openIndex(dst []cloakroom.Index, header []byte) ([]cloakroom.Index, error) {
	if len(header) == 0 {
		return dst, nil
	}
	text, err := base64.RawURLEncoding.Strict().AppendDecode(nil, header)
	if err != nil || len(text) <= indexTagBytes {
		return dst, errIndex
	}
	tag, body := text[:indexTagBytes], text[indexTagBytes:]
	n.crossIndex(tag, body)
	var want [32]byte
	n.keys.RequestMAC(&want, contextIndex, body)
	if subtle.ConstantTimeCompare(want[:indexTagBytes], tag) != 1 {
		return dst, errIndex
	}
	return readIndex(dst, body)
}

// writeIndex appends the plaintext of at to dst.
func writeIndex(dst []byte, at []cloakroom.Index) []byte {
	dst = append(dst, indexFormat)
	for _, x := range at {
		dst = binary.AppendUvarint(dst, uint64(x.Shard))
		dst = binary.AppendUvarint(dst, uint64(x.Generation))
		dst = binary.AppendUvarint(dst, x.Index)
	}
	return dst
}

// readIndex appends the entries of a plaintext to dst. It accepts what
// writeIndex writes and nothing else.
func readIndex(dst []cloakroom.Index, body []byte) ([]cloakroom.Index, error) {
	start := len(dst)
	if len(body) < 2 || body[0] != indexFormat {
		return dst, errIndex
	}
	for body = body[1:]; len(body) > 0; {
		var entry [3]uint64
		for i := range entry {
			value, n := binary.Uvarint(body)
			if n <= 0 || n > 1 && body[n-1] == 0 { // cut off, too large, or longer than need be
				return dst[:start], errIndex
			}
			entry[i], body = value, body[n:]
		}
		if entry[0] >= cloakroom.MaxShards || entry[1] > 1<<32-1 ||
			len(dst) > start && dst[len(dst)-1].Shard >= cloakroom.ShardID(entry[0]) {
			return dst[:start], errIndex
		}
		dst = append(dst, cloakroom.Index{
			Shard: cloakroom.ShardID(entry[0]), Generation: uint32(entry[1]), Index: entry[2]})
	}
	return dst, nil
}

// crossIndex encrypts or decrypts body in place.
func (n *Node) crossIndex(tag, body []byte) {
	var block [32]byte
	var number [4]byte
	for i := uint32(0); len(body) > 0; i++ {
		binary.BigEndian.PutUint32(number[:], i)
		n.keys.RequestMAC(&block, contextIndexes, tag, number[:])
		body = body[subtle.XORBytes(body, body, block[:]):]
	}
}

// indexOf returns the entry of a shard, the zero index if there is none.
func indexOf(at []cloakroom.Index, shard cloakroom.ShardID) cloakroom.Index {
	for i := range at {
		if at[i].Shard == shard {
			return at[i]
		}
	}
	return cloakroom.Index{}
}
