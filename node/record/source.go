package record

import (
	"encoding/binary"
	"fmt"
	"io"

	"cloakroom"
)

// A person who is known by an issuer (an identity provider) and a subject (its
// name for the person) is found by a handle: HMAC-SHA-256 under the source key,
// cut to a token's 16 bytes. Under the handle lies a sealed pseudonym. Another
// one, per further domain, leads to the person's pseudonym of that domain.
//
// The handle also says in which slot the person's records are, and every
// pseudonym of the person is drawn into it, so that one command in one shard
// makes, finds or erases all there is of somebody.

// The contexts of the source key; each names one use.
const (
	contextHandle = "source/handle"
	contextDomain = "source/domain"
)

// Handle returns the token under which the person is found whom issuer calls
// subject. Both lie in guarded memory and nothing of them stays behind.
func (r *Room) Handle(issuer, subject []byte) cloakroom.Token {
	var sum [32]byte
	r.keys.SourceMAC(&sum, contextHandle, issuer, subject)
	return cloakroom.Token(sum[:16])
}

// DomainHandle returns the token under which the pseudonym of a further domain
// is found of the person with that handle.
func (r *Room) DomainHandle(handle cloakroom.Token, domain cloakroom.Domain) cloakroom.Token {
	var number [2]byte
	binary.BigEndian.PutUint16(number[:], uint16(domain))
	var sum [32]byte
	r.keys.SourceMAC(&sum, contextDomain, handle[:], number[:])
	return cloakroom.Token(sum[:16])
}

// HandleSlot returns the slot that owns a handle and all pseudonyms of its
// person: the first 12 bits of the handle under the slot key, like an id's. The
// bits of the handle itself would not do, since a shard's index counts on them
// being spread.
func (r *Room) HandleSlot(handle cloakroom.Token) cloakroom.Slot {
	return r.Slot(cloakroom.Pseudonym(handle))
}

// Draw returns a new random pseudonym of a slot, from random. Every pseudonym of
// the slot is as likely as any other.
//
// Drawing ids until one falls into the slot takes 4,096 of them. The slot is the
// beginning of the id's block under the slot key, which is a permutation: so
// this draws among the blocks that begin with the slot, turns each back, and
// takes the first that has the form of a version-4 UUID, one in 64. It takes some 10 µs.
func (r *Room) Draw(slot cloakroom.Slot, random io.Reader) (cloakroom.Pseudonym, error) {
	c := r.keys.SlotCipher()
	b := r.draws.Get().(*draws)
	defer r.draws.Put(b)
	for {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return cloakroom.Pseudonym{}, fmt.Errorf("draw pseudonym: %w", err)
		}
		for at := 0; at < len(b); at += 16 {
			id := (*cloakroom.Pseudonym)(b[at:])
			id[0] = byte(slot >> 4)
			id[1] = byte(slot<<4) | id[1]&0x0f
			c.Decrypt(id[:], id[:])
			if formed := *id; id[6]>>4 == 4 && id[8]>>6 == 2 {
				return formed, nil
			}
		}
	}
}

// draws is memory for 32 candidates of one Draw, or for one record to open.
type draws [32 * 16]byte

// SealedPseudonym is the length of the record of a pseudonym, in bytes.
const SealedPseudonym = fixedHeader + nonceBytes + 2*minClass + tagBytes

// SealPseudonym appends a sealed pseudonym to dst, to be kept under tok: a
// handle's or an alias's. domain is the one it is a pseudonym of.
func (r *Room) SealPseudonym(dst []byte, tok cloakroom.Token, id cloakroom.Pseudonym, domain cloakroom.Domain) ([]byte, error) {
	return r.Seal(dst, tok, cloakroom.AliasField, domain, 0, false, id[:])
}

// OpenPseudonym returns the pseudonym that was sealed for this token, and its
// domain. It returns [ErrRecord] for what is not a sealed pseudonym.
func (r *Room) OpenPseudonym(tok cloakroom.Token, rec []byte) (id cloakroom.Pseudonym, domain cloakroom.Domain, err error) {
	if len(rec) != SealedPseudonym {
		return id, 0, ErrRecord
	}
	// On the heap, as in every request that names it: a pseudonym is no value.
	b := r.draws.Get().(*draws)
	defer r.draws.Put(b)
	value, h, err := r.Open(b[:0], tok, cloakroom.AliasField, rec)
	if err != nil {
		return id, 0, err
	}
	defer clear(b[:SealedPseudonym])
	if len(value) != len(id) {
		return id, 0, ErrRecord
	}
	return cloakroom.Pseudonym(value), h.Domain, nil
}
