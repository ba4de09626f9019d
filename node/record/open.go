package record

import (
	"encoding/binary"
	"runtime"

	"cloakroom"
	"cloakroom/securemem"
)

// Opener opens records of one field, many in a row: it remembers the sealing
// key and the additional data that they share. It serves one goroutine, holds
// nothing secret, and goes back with Close.
type Opener struct {
	room *Room
	ad   additional

	aead   *securemem.AEAD // of epoch and number; nil at first
	epoch  cloakroom.Epoch
	number cloakroom.SealingNumber
}

func newOpener(r *Room) *Opener {
	o := &Opener{room: r}
	o.ad.setCluster(r.cluster)
	return o
}

// Opener returns an opener for records of field f.
func (r *Room) Opener(f cloakroom.FieldNumber) *Opener {
	o := r.openers.Get().(*Opener)
	o.ad.setField(f)
	return o
}

// Close gives the opener back. It must not be used any more.
func (o *Opener) Close() {
	o.aead = nil // so that the keyring can drop the key
	o.room.openers.Put(o)
}

// Open proves that rec was sealed for this token and field and returns its
// value, which it appends to dst together with its length and padding, and its
// header. dst is guarded memory with room for len(rec) more bytes: Open never
// moves it, since that would put plaintext on the heap, and returns
// [cloakroom.ErrTooLarge] when the room is short. Everything else that can be
// wrong with a record is [ErrRecord]; when its key is not in the keyring, the
// error is the keyring's.
//
// It takes 100 to 200 ns for a short value and does not allocate.
func (o *Opener) Open(dst []byte, tok *cloakroom.Token, rec []byte) (value []byte, h Header, err error) {
	h, n, err := parseHeader(rec)
	if err != nil {
		return nil, Header{}, err
	}
	if cap(dst)-len(dst) < len(rec) {
		return nil, Header{}, cloakroom.ErrTooLarge
	}
	if o.aead == nil || h.Sealing != o.number || h.Epoch != o.epoch {
		if o.aead, err = o.room.keys.Opening(h.Epoch, h.Sealing); err != nil {
			return nil, Header{}, err
		}
		o.epoch, o.number = h.Epoch, h.Sealing
	}
	sealed := rec[n+nonceBytes:]
	plain, err := o.aead.Open(dst, rec[n:n+nonceBytes], sealed, o.ad.of(rec[:n], tok))
	runtime.KeepAlive(o)
	if err != nil {
		return nil, Header{}, ErrRecord
	}
	value, ok := unpad(plain[len(dst):])
	if !ok {
		return nil, Header{}, ErrRecord
	}
	return value, h, nil
}

// Open opens one record, see [Opener.Open]. For more than one record of a
// field an Opener is faster.
func (r *Room) Open(dst []byte, tok cloakroom.Token, f cloakroom.FieldNumber, rec []byte) (value []byte, h Header, err error) {
	o := r.Opener(f)
	value, h, err = o.Open(dst, &tok, rec)
	o.Close()
	return value, h, err
}

// unpad takes the value out of a plaintext and insists on the one form that
// Seal writes: the smallest class, zeros behind the value.
func unpad(plain []byte) (value []byte, ok bool) {
	n := int(binary.BigEndian.Uint16(plain))
	if class(n) != len(plain) {
		return nil, false
	}
	var rest byte
	for _, c := range plain[lengthBytes+n:] {
		rest |= c
	}
	return plain[lengthBytes : lengthBytes+n : lengthBytes+n], rest == 0
}
