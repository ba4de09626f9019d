package api

import (
	"encoding/binary"
	"math/bits"
)

// maxEscape is how many bytes one byte of a value can become: \u00XX.
const maxEscape = 6

// appendQuoted appends value, which is valid UTF-8, as a JSON string. Only
// what RFC 8259 says must be escaped is escaped.
func appendQuoted(dst, value []byte) []byte {
	dst = append(dst, '"')
	for {
		n := plainPrefix(value)
		dst = append(dst, value[:n]...)
		if n == len(value) {
			return append(dst, '"')
		}
		dst = appendEscaped(dst, value[n])
		value = value[n+1:]
	}
}

// quotedLen is how many bytes appendQuoted appends, less the quotes.
func quotedLen(value []byte) int {
	n := len(value)
	for {
		plain := plainPrefix(value)
		if plain == len(value) {
			return n
		}
		var room [maxEscape]byte
		n += len(appendEscaped(room[:0], value[plain])) - 1
		value = value[plain+1:]
	}
}

func appendEscaped(dst []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
}

// plainPrefix returns how many leading bytes of s stand for themselves in a
// JSON string: no quote, no backslash, no control character. Eight at a time:
// a byte is found by the borrow of a subtraction (Hacker's Delight, 6-1).
func plainPrefix(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(s)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(s[n:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		special := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if special &= highs; special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for ; n < len(s); n++ {
		if c := s[n]; c < 0x20 || c == '"' || c == '\\' {
			return n
		}
	}
	return n
}
