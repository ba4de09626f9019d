package node

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
)

// This file seals small texts that callers carry back and forth, a
// Cloakroom-Index or the cursor of a stream. Whoever holds one learns nothing
// from it and can make none that was not given out; any node of the cluster
// opens it.
//
// As the caller sees it (base64url without padding):
//
//	offset  size  content
//	0       16    tag: HMAC-SHA-256 under the request key, context "…/tag", of
//	              the plaintext, cut off
//	16      n     plaintext XOR keystream; block i of the keystream is the
//	              HMAC, context "…/stream", of the tag and i (4 bytes)
//
// The tag stands for the nonce, as in SIV (RFC 5297): equal plaintexts have
// equal texts, and nothing has to be drawn. It is not sealed under a data key,
// because a made-up text could name any sealing number, and deriving one costs
// a garbage collection.

// opaque is one kind of such texts: its contexts for the request key.
type opaque struct{ tag, stream string }

const opaqueTagBytes = 16

// sealOpaque appends the sealed form of text[opaqueTagBytes:] to dst; the room
// in front of it is for the tag. text is changed.
func (n *Node) sealOpaque(dst []byte, kind opaque, text []byte) []byte {
	var tag [32]byte
	n.keys.RequestMAC(&tag, kind.tag, text[opaqueTagBytes:])
	copy(text, tag[:opaqueTagBytes])
	n.crossOpaque(kind, text[:opaqueTagBytes], text[opaqueTagBytes:])
	return base64.RawURLEncoding.AppendEncode(dst, text)
}

// openOpaque returns the plaintext of what sealOpaque wrote on a node of this
// cluster, nil for anything else.
func (n *Node) openOpaque(kind opaque, sealed []byte) []byte {
	text, err := base64.RawURLEncoding.Strict().AppendDecode(nil, sealed)
	if err != nil || len(text) <= opaqueTagBytes {
		return nil
	}
	tag, body := text[:opaqueTagBytes], text[opaqueTagBytes:]
	n.crossOpaque(kind, tag, body)
	var want [32]byte
	n.keys.RequestMAC(&want, kind.tag, body)
	if subtle.ConstantTimeCompare(want[:opaqueTagBytes], tag) != 1 {
		return nil
	}
	return body
}

// crossOpaque encrypts or decrypts body in place.
func (n *Node) crossOpaque(kind opaque, tag, body []byte) {
	var block [32]byte
	var number [4]byte
	for i := uint32(0); len(body) > 0; i++ {
		binary.BigEndian.PutUint32(number[:], i)
		n.keys.RequestMAC(&block, kind.stream, tag, number[:])
		body = body[subtle.XORBytes(body, body, block[:]):]
	}
}
