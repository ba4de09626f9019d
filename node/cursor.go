package node

import (
	"crypto/sha256"
	"encoding/binary"

	"cloakroom/node/api"
)

// This file seals the cursor of a stream of events: how far a subscriber has
// been told of each shard. Log indexes are the same on all nodes, so any node
// goes on where another stopped.
//
// Plaintext of format 1, sealed as opaque.go says:
//
//	offset  size  content
//	0       1     format, 1
//	1       8     print of what the subscriber may see ([printOf])
//	9       …     for each shard in order: generation, index (uvarints)

const cursorFormat = 1

// opaqueCursor seals them.
var opaqueCursor = opaque{"cursor/tag", "cursor/stream"}

// cursor is where a subscriber stands.
type cursor struct {
	print print
	marks []mark // by shard
}

// mark is how far it was told of one shard.
type mark struct {
	generation uint32
	index      uint64
}

// print tells two sets of rules apart under which a subscriber was told of
// changes: other domains, or other fields of a schema, and it may hold what it
// was not told of.
type print [8]byte

// printOf returns the print of a caller under its rules.
func printOf(c *caller) (p print) {
	h := sha256.New()
	h.Write(mustJSON(struct {
		Name   string
		Grant  any
		Schema uint32
	}{c.name, c.rules.view.PrincipalNamed(c.name).Grant, c.rules.view.Schema.Epoch}))
	copy(p[:], h.Sum(nil))
	return p
}

// errCursor is the one answer to a cursor that this cluster did not give out.
var errCursor = api.Malformed("the cursor is not one that this cluster gave out")

// sealCursor appends the sealed form of c to dst.
func (n *Node) sealCursor(dst []byte, c *cursor) []byte {
	text := c.append(make([]byte, opaqueTagBytes, opaqueTagBytes+16+len(c.marks)*8))
	return n.sealOpaque(dst, opaqueCursor, text)
}

// openCursor reads what sealCursor wrote on a node of this cluster. It returns
// [cloakroom.ErrMalformed] for anything else.
func (n *Node) openCursor(sealed []byte) (*cursor, error) {
	body := n.openOpaque(opaqueCursor, sealed)
	if body == nil {
		return nil, errCursor
	}
	return readCursor(body)
}

// append appends the plaintext of c to dst.
func (c *cursor) append(dst []byte) []byte {
	dst = append(dst, cursorFormat)
	dst = append(dst, c.print[:]...)
	for _, m := range c.marks {
		dst = binary.AppendUvarint(dst, uint64(m.generation))
		dst = binary.AppendUvarint(dst, m.index)
	}
	return dst
}

// readCursor reads a plaintext. It accepts what append writes and nothing else.
func readCursor(body []byte) (*cursor, error) {
	c := &cursor{}
	if len(body) < 1+len(c.print) || body[0] != cursorFormat {
		return nil, errCursor
	}
	body = body[1+copy(c.print[:], body[1:]):]
	for len(body) > 0 {
		var pair [2]uint64
		for i := range pair {
			value, n := binary.Uvarint(body)
			if n <= 0 || n > 1 && body[n-1] == 0 { // cut off, too large, or longer than need be
				return nil, errCursor
			}
			pair[i], body = value, body[n:]
		}
		if pair[0] > 1<<32-1 {
			return nil, errCursor
		}
		c.marks = append(c.marks, mark{uint32(pair[0]), pair[1]})
	}
	return c, nil
}
