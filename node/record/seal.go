package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"

	"cloakroom"
)

// Seal appends the sealed record of a value to dst and returns it. The value
// has passed [Check]; expiry is in Unix seconds, 0 for none, and kept to the
// second when fine, else rounded down to its day (UTC). It returns
// [cloakroom.ErrTooLarge] for a value of more than [MaxValueBytes].
//
// dst may be ordinary memory: only the ciphertext is ever in it.
func (r *Room) Seal(dst []byte, tok cloakroom.Token, f cloakroom.FieldNumber, domain cloakroom.Domain, expiry uint32, fine bool, value []byte) ([]byte, error) {
	if len(value) > MaxValueBytes {
		return dst, fmt.Errorf("seal value of field %d: %w", f, cloakroom.ErrTooLarge)
	}
	epoch, number, aead, err := r.keys.Sealing(1)
	if err != nil {
		return dst, fmt.Errorf("seal value of field %d: %w", f, err)
	}
	h := Header{Epoch: epoch, Sealing: number, Domain: domain, Expiry: expiry, Fine: fine}
	start := len(dst)
	dst = h.append(slices.Grow(dst, SealedSize(len(value), expiry, fine)))
	nonceAt := len(dst)
	dst = append(dst, zeroNonce[:]...)
	nonce := dst[nonceAt:]
	if _, err := io.ReadFull(r.rand, nonce); err != nil {
		return dst[:start], fmt.Errorf("make nonce: %w", err)
	}
	o := r.Opener(f)
	ad := o.ad.of(dst[start:nonceAt], &tok)
	r.pads.with(class(len(value)), func(pad []byte) {
		binary.BigEndian.PutUint16(pad, uint16(len(value)))
		copy(pad[lengthBytes:], value)
		dst = aead.Seal(dst, nonce, pad, ad)
	})
	runtime.KeepAlive(aead) // see keyring.Opening
	o.Close()
	return dst, nil
}

var zeroNonce [nonceBytes]byte
