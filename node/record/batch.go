package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"slices"

	"cloakroom"
)

// Sealed batch, format 1, all numbers big-endian:
//
//	offset  bytes  what
//	     0      1  format, 1
//	     1      2  epoch of the data key
//	     3      4  sealing number
//	     7     12  nonce, random
//	    19      c  ciphertext, c a padded length (batchClass)
//	     …     16  tag
//
// Additional data: "cloakroom/v1/batch" ‖ 0x00 ‖ the first 7 bytes ‖ cluster id
// (16) ‖ group (4) ‖ generation (4). It begins with a letter, which no record's
// does, so a batch never opens as a record nor the other way round. Plaintext:
// length (4) ‖ batch ‖ zeros up to c.
const (
	batchFormat      = 1
	batchHeaderBytes = 1 + 2 + 4
	batchLengthBytes = 4
	batchLabel       = "cloakroom/v1/batch\x00"

	// MaxBatchBytes bounds a batch before it is sealed.
	MaxBatchBytes = 1 << 20
	// minBatchClass hides which of the small commands is in a batch.
	minBatchClass = 256
)

// ErrBatch is the one error for a batch that cannot be opened.
var ErrBatch = errors.New("sealed batch cannot be opened")

// batchClass returns the padded length of a batch of n bytes and its length
// field: the next multiple of a quarter of the power of two below it, so that
// padding takes a fifth at most and a length tells log log n bits.
func batchClass(n int) int {
	n += batchLengthBytes
	if n <= minBatchClass {
		return minBatchClass
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) &^ (step - 1)
}

// SealBatch appends the sealed form of a batch of commands to dst, for one
// group (shard) and generation of it. The values in the batch are sealed
// records; sealing it once more hides which tokens arrived together. So the
// batch is no plaintext in the sense of this room, and lies in dst for the
// moment before it is encrypted in place.
func (r *Room) SealBatch(dst []byte, group, generation uint32, batch []byte) ([]byte, error) {
	if len(batch) > MaxBatchBytes {
		return dst, fmt.Errorf("seal batch: %w", cloakroom.ErrTooLarge)
	}
	epoch, number, aead, err := r.keys.Sealing(1)
	if err != nil {
		return dst, fmt.Errorf("seal batch: %w", err)
	}
	start, padded := len(dst), batchClass(len(batch))
	dst = slices.Grow(dst, batchHeaderBytes+nonceBytes+padded+tagBytes)
	dst = append(dst, batchFormat)
	dst = binary.BigEndian.AppendUint16(dst, uint16(epoch))
	dst = binary.BigEndian.AppendUint32(dst, uint32(number))
	dst = append(dst, zeroNonce[:]...)
	nonce := dst[start+batchHeaderBytes:]
	if _, err := io.ReadFull(r.rand, nonce); err != nil {
		return dst[:start], fmt.Errorf("make nonce: %w", err)
	}
	plainAt := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(batch)))
	dst = append(dst, batch...)
	dst = dst[:plainAt+padded]
	clear(dst[plainAt+batchLengthBytes+len(batch):])
	ad := r.batchAD(dst[start:start+batchHeaderBytes], group, generation)
	dst = aead.Seal(dst[:plainAt], nonce, dst[plainAt:], ad)
	runtime.KeepAlive(aead)
	return dst, nil
}

// OpenBatch appends the batch that was sealed for this group and generation to
// dst. It returns [ErrBatch] for anything else, or the keyring's error when the
// key is not there.
func (r *Room) OpenBatch(dst []byte, group, generation uint32, sealed []byte) ([]byte, error) {
	padded := len(sealed) - batchHeaderBytes - nonceBytes - tagBytes
	if padded < minBatchClass || padded > batchClass(MaxBatchBytes) || sealed[0] != batchFormat {
		return dst, ErrBatch
	}
	epoch := cloakroom.Epoch(binary.BigEndian.Uint16(sealed[1:]))
	number := cloakroom.SealingNumber(binary.BigEndian.Uint32(sealed[3:]))
	aead, err := r.keys.Opening(epoch, number)
	if err != nil {
		return dst, fmt.Errorf("open batch: %w", err)
	}
	header, nonce := sealed[:batchHeaderBytes], sealed[batchHeaderBytes:batchHeaderBytes+nonceBytes]
	start := len(dst)
	plain, err := aead.Open(slices.Grow(dst, padded), nonce, sealed[batchHeaderBytes+nonceBytes:], r.batchAD(header, group, generation))
	runtime.KeepAlive(aead)
	if err != nil {
		return dst, ErrBatch
	}
	n := binary.BigEndian.Uint32(plain[start:])
	if n > MaxBatchBytes || batchClass(int(n)) != padded {
		return dst, ErrBatch
	}
	copy(plain[start:], plain[start+batchLengthBytes:start+batchLengthBytes+int(n)])
	return plain[:start+int(n)], nil
}

func (r *Room) batchAD(header []byte, group, generation uint32) []byte {
	ad := make([]byte, 0, len(batchLabel)+batchHeaderBytes+len(r.cluster)+4+4)
	ad = append(append(append(ad, batchLabel...), header...), r.cluster[:]...)
	ad = binary.BigEndian.AppendUint32(ad, group)
	return binary.BigEndian.AppendUint32(ad, generation)
}
