package record

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"cloakroom"
)

// A mask shows enough to recognise a value one knows already and too little to
// learn one. It has a fixed length, so that it does not tell the value's, and
// the JSON type that the value has.
//
//	text     Ada Lovelace          A***
//	email    ada.l@example.org     a***@***.org
//	phone    +14155550123          +***23
//	date     1815-12-10            1815-**-**
//	json     {"zip":"12345","n":7} {"zip":"***","n":0}
//	sealed   (opaque)              ***
//
// Whatever has fewer than four characters, the part of an address before its @
// included, is masked fully.
const fullMask = "***"

// minShown is the number of characters from which on a mask shows one.
const minShown = 4

// MaskBound is the room that [Mask] wants behind len(dst) for a value of n
// bytes.
func MaskBound(t Type, n int) int {
	if t == JSON {
		return 2*n + 8 // "" becomes "***", and a comma comes with it
	}
	return n + 16
}

// Mask appends the masked form of value to dst and returns the appended part.
// The masked form is still personal data: dst is guarded memory. Mask never
// moves dst; when its capacity is short it returns [cloakroom.ErrTooLarge].
func Mask(dst []byte, t Type, value []byte) ([]byte, error) {
	if cap(dst)-len(dst) < MaskBound(t, len(value)) {
		return nil, cloakroom.ErrTooLarge
	}
	from := len(dst)
	switch t {
	case Text:
		dst = maskText(dst, value)
	case Email:
		dst = maskEmail(dst, value)
	case Phone:
		dst = maskPhone(dst, value)
	case Date:
		dst = maskDate(dst, value)
	case JSON:
		dst = maskJSON(dst, value)
	default:
		dst = append(dst, fullMask...)
	}
	return dst[from:], nil
}

// maskText shows the first character of four or more.
func maskText(dst, value []byte) []byte {
	if first := firstShown(value); first > 0 {
		dst = append(dst, value[:first]...)
	}
	return append(dst, fullMask...)
}

// firstShown returns the length in bytes of the first character, its combining
// marks included, when value has at least four characters, else 0.
func firstShown(value []byte) int {
	count, first := 0, 0
	for i := 0; i < len(value); {
		r, n := utf8.DecodeRune(value[i:])
		if !unicode.In(r, unicode.M, unicode.Cf) {
			if count++; count == 2 {
				first = i
			}
			if count == minShown {
				return first
			}
		}
		i += n
	}
	return 0
}

// maskEmail keeps the shape of an address and its top-level domain; the rest
// of the domain is often a family's or a firm's name.
func maskEmail(dst, value []byte) []byte {
	at := bytes.LastIndexByte(value, '@')
	top := bytes.LastIndexByte(value, '.')
	if at < 0 || top < at {
		return append(dst, fullMask...)
	}
	dst = maskText(dst, value[:at])
	dst = append(append(dst, '@'), fullMask...)
	return append(dst, value[top:]...)
}

// maskPhone shows the last two digits of seven or more.
func maskPhone(dst, value []byte) []byte {
	dst = append(append(dst, '+'), fullMask...)
	if len(value) >= len("+1234567") {
		dst = append(dst, value[len(value)-2:]...)
	}
	return dst
}

// maskDate shows the year.
func maskDate(dst, value []byte) []byte {
	if checkDate(value) != "" {
		return append(dst, fullMask...)
	}
	return append(append(dst, value[:4]...), "-**-**"...)
}

// maskJSON keeps the shape and the names of a value that [Check] has accepted
// and replaces every leaf: strings fully, numbers by 0, booleans by false.
// Names are taken for part of the schema.
func maskJSON(dst, value []byte) []byte {
	for i := 0; i < len(value); {
		switch c := value[i]; {
		case c == '"':
			end := stringEnd(value, i)
			if isName(value[end:]) {
				dst = append(dst, value[i:end]...)
			} else {
				dst = append(append(append(dst, '"'), fullMask...), '"')
			}
			i = end
		case c == '-' || isDigit(c):
			dst = append(dst, '0')
			for i < len(value) && isNumberByte(value[i]) {
				i++
			}
		case c == 't' || c == 'f':
			dst = append(dst, "false"...)
			i = wordEnd(value, i)
		case c == 'n':
			dst = append(dst, "null"...)
			i = wordEnd(value, i)
		default:
			dst = append(dst, c)
			i++
		}
	}
	return dst
}

// stringEnd returns the offset behind the closing quote of the string at i.
func stringEnd(value []byte, i int) int {
	for i++; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(value)
}

// isName reports whether the string before rest is a member's name.
func isName(rest []byte) bool {
	rest = bytes.TrimLeft(rest, " \t\r\n")
	return len(rest) > 0 && rest[0] == ':'
}

func isNumberByte(c byte) bool {
	return isDigit(c) || c == '-' || c == '+' || c == '.' || c|0x20 == 'e'
}

func wordEnd(value []byte, i int) int {
	for i < len(value) && 'a' <= value[i] && value[i] <= 'z' {
		i++
	}
	return i
}
