package record

import (
	"encoding/binary"
	"errors"
	"time"

	"cloakroom"
)

// Record format 1, all numbers big-endian:
//
//	offset  bytes  what
//	     0      1  format << 4 | flags; format 1 names AES-256-GCM under
//	               HKDF-SHA-256(data key of the epoch, sealing number)
//	     1      2  epoch of the data key
//	     3      4  sealing number
//	     7      2  domain
//	     9  0|2|4  expiry: none; days since 2000-01-01 (flag 1); Unix seconds
//	               (flag 2)
//	     …     12  nonce, random
//	     …      c  ciphertext, c one of 16, 32, 64, 128, 192, …, 65536
//	     …     16  tag
//
// Additional data: everything before the nonce ‖ cluster id (16) ‖ token (16)
// ‖ field number (2). Plaintext: length (2) ‖ value ‖ zeros up to c.
//
// So a subject with one 25-byte name and no expiry has a record of
// 9 + 12 + 32 + 16 = 69 bytes.
const (
	format1 = 1

	flagDays    = 1 << 0
	flagSeconds = 1 << 1
	flagSlow    = 1 << 2 // reserved: sealed a second time under scrypt
	flagsMask   = 0x0f

	fixedHeader = 9
	nonceBytes  = 12
	tagBytes    = 16
	lengthBytes = 2

	// MaxHeaderBytes is the longest header, expiry included.
	MaxHeaderBytes = fixedHeader + 4
	// MaxRecordBytes is the longest sealed record.
	MaxRecordBytes = MaxHeaderBytes + nonceBytes + maxClass + tagBytes

	minClass = 16
	maxClass = 64 << 10

	recordADBytes = 16 + 16 + 2 // cluster, token, field, behind the header
)

// ErrRecord is the one error for a record that cannot be opened: damaged, of
// an unknown format, or sealed for another cluster, token or field. It does
// not say which, since whoever can choose records could learn from it.
var ErrRecord = errors.New("sealed record cannot be opened")

// Header is what stands in clear before a sealed value.
type Header struct {
	Epoch   cloakroom.Epoch
	Sealing cloakroom.SealingNumber
	Domain  cloakroom.Domain
	Expiry  uint32 // Unix seconds, 0 when the record does not expire
	Fine    bool   // the expiry counts seconds rather than whole days
}

// day0 is 2000-01-01T00:00:00Z in Unix seconds, from which coarse expiries
// count days of UTC.
const (
	day0          = 946_684_800
	secondsPerDay = uint32(24 * time.Hour / time.Second)
)

// coarse rounds an expiry down to its day, so that a record never lives longer
// than was asked.
func coarse(expiry uint32) (days uint16) {
	if expiry <= day0 {
		return 0
	}
	return uint16((expiry - day0) / secondsPerDay)
}

// class returns the padded length of a plaintext that holds n bytes of value.
func class(n int) int {
	n += lengthBytes
	switch {
	case n <= minClass:
		return minClass
	case n <= 2*minClass:
		return 2 * minClass
	}
	return (n + 63) &^ 63
}

// isClass reports whether a plaintext can have n bytes.
func isClass(n int) bool {
	return n == minClass || n == 2*minClass || n > 0 && n%64 == 0 && n <= maxClass
}

// SealedSize returns the length of the record of a value of n bytes with that
// expiry.
func SealedSize(n int, expiry uint32, fine bool) int {
	return headerSize(expiry, fine) + nonceBytes + class(n) + tagBytes
}

func headerSize(expiry uint32, fine bool) int {
	switch {
	case expiry == 0:
		return fixedHeader
	case fine:
		return fixedHeader + 4
	}
	return fixedHeader + 2
}

// append writes the header to dst.
func (h *Header) append(dst []byte) []byte {
	first := byte(format1 << 4)
	switch {
	case h.Expiry == 0:
	case h.Fine:
		first |= flagSeconds
	default:
		first |= flagDays
	}
	dst = append(dst, first)
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Epoch))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Sealing))
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Domain))
	switch {
	case first&flagSeconds != 0:
		dst = binary.BigEndian.AppendUint32(dst, h.Expiry)
	case first&flagDays != 0:
		dst = binary.BigEndian.AppendUint16(dst, coarse(h.Expiry))
	}
	return dst
}

// ParseHeader reads the header of a sealed record without opening it, so
// nothing of it is proven yet. It returns [ErrRecord] for anything that cannot
// be a record of a known format.
func ParseHeader(rec []byte) (Header, error) {
	h, _, err := parseHeader(rec)
	return h, err
}

// parseHeader also returns the length of the header.
func parseHeader(rec []byte) (h Header, n int, err error) {
	if len(rec) < fixedHeader || rec[0]>>4 != format1 {
		return Header{}, 0, ErrRecord
	}
	n = fixedHeader
	flags := rec[0] & flagsMask
	switch flags {
	case 0:
	case flagDays:
		n += 2
	case flagSeconds:
		n += 4
	default:
		return Header{}, 0, ErrRecord
	}
	if !isClass(len(rec) - n - nonceBytes - tagBytes) {
		return Header{}, 0, ErrRecord
	}
	h.Epoch = cloakroom.Epoch(binary.BigEndian.Uint16(rec[1:]))
	h.Sealing = cloakroom.SealingNumber(binary.BigEndian.Uint32(rec[3:]))
	h.Domain = cloakroom.Domain(binary.BigEndian.Uint16(rec[7:]))
	switch flags {
	case flagDays:
		// The largest day number is in 2179, beyond Unix seconds in 32 bits.
		at := day0 + uint64(binary.BigEndian.Uint16(rec[9:]))*uint64(secondsPerDay)
		h.Expiry = uint32(min(at, 1<<32-1))
	case flagSeconds:
		h.Expiry = binary.BigEndian.Uint32(rec[9:])
		h.Fine = true
		if h.Expiry == 0 { // would be written without the flag
			return Header{}, 0, ErrRecord
		}
	}
	return h, n, nil
}
