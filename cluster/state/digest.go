package state

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// digest computes the rolling hash of applied entries:
//
//	hash = SHA-256(hash before ‖ index, 8 bytes big-endian ‖ batch)
//
// The first hash is over 32 zeros.
type digest struct {
	sha  hash.Hash
	head [32 + 8]byte
}

func newDigest() digest { return digest{sha: sha256.New()} }

func (d *digest) next(before [32]byte, index uint64, batch []byte) (after [32]byte) {
	copy(d.head[:], before[:])
	binary.BigEndian.PutUint64(d.head[32:], index)
	d.sha.Reset()
	d.sha.Write(d.head[:])
	d.sha.Write(batch)
	d.sha.Sum(after[:0])
	return after
}
