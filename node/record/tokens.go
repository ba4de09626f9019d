package record

import (
	"cloakroom"
)

// A token is one AES-256 block: the id under the token key of the field. That
// is a permutation, so two ids never share a token, and ids are random, so a
// block cipher is all it takes. With the key it can be turned back.

// block is where a single id is encrypted: what is passed to a cipher behind
// an interface escapes, so it must not be a local variable of a hot path.
type block struct{ in, out [16]byte }

// Token returns the token of an id's record of a field.
func (r *Room) Token(f cloakroom.FieldNumber, id cloakroom.Pseudonym) (cloakroom.Token, error) {
	c, err := r.keys.TokenCipher(f)
	if err != nil {
		return cloakroom.Token{}, err
	}
	b := r.blocks.Get().(*block)
	defer r.blocks.Put(b)
	b.in = id
	c.Encrypt(b.out[:], b.in[:])
	return b.out, nil
}

// Tokens writes the tokens of ids to dst, which has room for as many. It takes
// about 16 ns an id and does not allocate.
func (r *Room) Tokens(f cloakroom.FieldNumber, ids []cloakroom.Pseudonym, dst []cloakroom.Token) error {
	c, err := r.keys.TokenCipher(f)
	if err != nil {
		return err
	}
	dst = dst[:len(ids)]
	for i := range ids {
		c.Encrypt(dst[i][:], ids[i][:])
	}
	return nil
}

// IDOf turns a token back into the id. A sweep of expired subjects needs it to
// name the other records of a subject whose subject token is all it has.
func (r *Room) IDOf(f cloakroom.FieldNumber, tok cloakroom.Token) (cloakroom.Pseudonym, error) {
	c, err := r.keys.TokenCipher(f)
	if err != nil {
		return cloakroom.Pseudonym{}, err
	}
	b := r.blocks.Get().(*block)
	defer r.blocks.Put(b)
	b.in = tok
	c.Decrypt(b.out[:], b.in[:])
	return b.out, nil
}

// Slot returns the slot that owns an id: the first 12 bits of the id under the
// slot key.
func (r *Room) Slot(id cloakroom.Pseudonym) cloakroom.Slot {
	b := r.blocks.Get().(*block)
	defer r.blocks.Put(b)
	b.in = id
	r.keys.SlotCipher().Encrypt(b.out[:], b.in[:])
	return b.slot()
}

// Slots writes the slots of ids to dst, which has room for as many.
func (r *Room) Slots(ids []cloakroom.Pseudonym, dst []cloakroom.Slot) {
	c := r.keys.SlotCipher()
	b := r.blocks.Get().(*block)
	defer r.blocks.Put(b)
	dst = dst[:len(ids)]
	for i := range ids {
		c.Encrypt(b.out[:], ids[i][:])
		dst[i] = b.slot()
	}
}

func (b *block) slot() cloakroom.Slot {
	return cloakroom.Slot(b.out[0])<<4 | cloakroom.Slot(b.out[1]>>4)
}
