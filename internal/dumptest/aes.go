package dumptest

import (
	"crypto/aes"
	"encoding/binary"
	"slices"
)

// The key schedule of AES (FIPS 197, section 5.2), written out here because
// crypto/aes keeps it to itself and the test must know what to look for.

// expandKey returns the round keys for encryption and, in the order of the
// equivalent inverse cipher (section 5.3.5), for decryption.
func expandKey(key []byte) (enc, dec []uint32) {
	box := sbox()
	nk := len(key) / 4
	total := 4 * (nk + 7)
	enc = make([]uint32, total)
	for i := range nk {
		enc[i] = binary.BigEndian.Uint32(key[4*i:])
	}
	rcon := byte(1)
	for i := nk; i < total; i++ {
		t := enc[i-1]
		switch {
		case i%nk == 0:
			t = subWord(box, t<<8|t>>24) ^ uint32(rcon)<<24
			rcon = double(rcon)
		case nk > 6 && i%nk == 4:
			t = subWord(box, t)
		}
		enc[i] = enc[i-nk] ^ t
	}
	return enc, inverseSchedule(enc)
}

func inverseSchedule(enc []uint32) []uint32 {
	dec := make([]uint32, 0, len(enc))
	for at := len(enc) - 4; at >= 0; at -= 4 {
		for _, w := range enc[at : at+4] {
			if at != 0 && at != len(enc)-4 {
				w = invMixColumn(w)
			}
			dec = append(dec, w)
		}
	}
	return dec
}

func subWord(box [256]byte, w uint32) uint32 {
	return uint32(box[w>>24])<<24 | uint32(box[w>>16&0xff])<<16 | uint32(box[w>>8&0xff])<<8 | uint32(box[w&0xff])
}

func invMixColumn(w uint32) uint32 {
	a := [4]byte{byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)}
	var out uint32
	for row := range 4 {
		var b byte
		for col, factor := range [4]byte{14, 11, 13, 9} {
			b ^= times(a[(row+col)%4], factor)
		}
		out = out<<8 | uint32(b)
	}
	return out
}

func double(b byte) byte {
	if b&0x80 != 0 {
		return b<<1 ^ 0x1b
	}
	return b << 1
}

func times(a, b byte) (product byte) {
	for ; b != 0; a, b = double(a), b>>1 {
		if b&1 != 0 {
			product ^= a
		}
	}
	return product
}

// sbox computes the substitution box: the inverse in GF(2^8), then an affine
// map (FIPS 197, section 5.1.1).
func sbox() (box [256]byte) {
	box[0] = 0x63
	for x := 1; x < 256; x++ {
		y := byte(1)
		for range 254 { // x^254 is the inverse of x
			y = times(y, byte(x))
		}
		r := y
		for range 4 {
			y = y<<1 | y>>7
			r ^= y
		}
		box[x] = r ^ 0x63
	}
	return box
}

func ghashKey(key []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	h := make([]byte, block.BlockSize())
	block.Encrypt(h, h)
	return h
}

func bigEndian(words []uint32) (b []byte) {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func littleEndian(words []uint32) (b []byte) {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func reversed(b []byte) []byte {
	r := slices.Clone(b)
	slices.Reverse(r)
	return r
}
