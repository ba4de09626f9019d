package node

import (
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
// Plaintext of format 1, sealed as opaque.go says: format (1 byte), then shard,
// generation and index of each entry (uvarints), shards strictly ascending.

const indexFormat = 1

// opaqueIndex seals them.
var opaqueIndex = opaque{"index/tag", "index/stream"}

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
	text := writeIndex(make([]byte, opaqueTagBytes, opaqueTagBytes+1+len(at)*8), at)
	return n.sealOpaque(dst, opaqueIndex, text)
}

// openIndex appends what was sealed to dst, nothing if there is no header. It
// returns [cloakroom.ErrMalformed] and dst as it was for what no node of this
// cluster sealed.
func (n *Node) openIndex(dst []cloakroom.Index, header []byte) ([]cloakroom.Index, error) {
	if len(header) == 0 {
		return dst, nil
	}
	body := n.openOpaque(opaqueIndex, header)
	if body == nil {
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

// indexOf returns the entry of a shard, the zero index if there is none.
func indexOf(at []cloakroom.Index, shard cloakroom.ShardID) cloakroom.Index {
	for i := range at {
		if at[i].Shard == shard {
			return at[i]
		}
	}
	return cloakroom.Index{}
}
