package state

import (
	"encoding/binary"

	"cloakroom"
)

// A slot holds all of a token but its last byte, which is the tag in the
// bucket, and the record. Slots come in classes; an entry whose slot is longer
// than its content is marked padded, and the slot's end then tells by how much.
//
//	offset  size  content
//	0       15    the token's first 15 bytes
//	15      …     record
//	        …     [padding of p bytes: zeros, then p in the last byte;
//	              from p = 255 on, p in two bytes (big-endian) before a last byte 255]
const slotHead = 15

// fillSlot writes token and record into a slot of its class's size.
func fillSlot(slot []byte, token *cloakroom.Token, record []byte) mark {
	n := copy(slot, token[:slotHead])
	n += copy(slot[n:], record)
	pad := len(slot) - n
	if pad == 0 {
		return 0
	}
	clear(slot[n:])
	if pad < 255 {
		slot[len(slot)-1] = byte(pad)
		return padded
	}
	slot[len(slot)-1] = 255
	binary.BigEndian.PutUint16(slot[len(slot)-3:], uint16(pad))
	return padded
}

// slotRecord returns the record in a slot.
func slotRecord(slot []byte, m mark) []byte {
	if m&padded == 0 {
		return slot[slotHead:]
	}
	pad := int(slot[len(slot)-1])
	if pad == 255 {
		pad = int(binary.BigEndian.Uint16(slot[len(slot)-3:]))
	}
	return slot[slotHead : len(slot)-pad]
}

// slotHolds reports whether the slot is the token's, given that the tags are
// equal: two loads that overlap by one byte.
func slotHolds(slot []byte, token *cloakroom.Token) bool {
	_ = slot[slotHead]
	return binary.LittleEndian.Uint64(slot[0:8]) == binary.LittleEndian.Uint64(token[0:8]) &&
		binary.LittleEndian.Uint64(slot[7:15]) == binary.LittleEndian.Uint64(token[7:15])
}

// slotToken puts the token together again.
func slotToken(slot []byte, tag byte) (token cloakroom.Token) {
	*(*[slotHead]byte)(token[:]) = [slotHead]byte(slot)
	token[slotHead] = tag
	return token
}
