package record

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// Limits of RFC 5321, section 4.5.3.1, in bytes: the path of 256 with its
// angle brackets taken off, the local part, and the label of RFC 1035.
const (
	maxEmail      = 254
	maxEmailLocal = 64
	maxLabel      = 63
)

// checkEmail wants local@domain: a dot-string (RFC 5321) in which UTF-8 is
// allowed (RFC 6531), and a host name of two labels or more, ASCII or
// internationalised. Quoted local parts, address literals and single-label
// hosts are refused: they are legal, and in a person's record nearly always a
// mistake.
func checkEmail(value []byte) Reason {
	if len(value) > maxEmail {
		return reasonLong
	}
	if why := checkText(value); why != "" {
		return why
	}
	at := bytes.IndexByte(value, '@')
	if at < 1 || at > maxEmailLocal {
		return reasonEmail
	}
	if !isDotString(value[:at]) || !isHostName(value[at+1:]) {
		return reasonEmail
	}
	return ""
}

// isDotString reports whether b is atoms joined by single dots.
func isDotString(b []byte) bool {
	atom := 0 // bytes in the atom so far
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		i += n
		if r == '.' {
			if atom == 0 {
				return false
			}
			atom = 0
			continue
		}
		if !isAtomRune(r) {
			return false
		}
		atom += n
	}
	return atom > 0
}

// isAtomRune reports whether r is atext of RFC 5322 or, beyond ASCII, visible.
func isAtomRune(r rune) bool {
	switch {
	case r >= utf8.RuneSelf:
		return unicode.IsGraphic(r) && !unicode.IsSpace(r)
	case isAlphanumeric(byte(r)):
		return true
	}
	switch byte(r) {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~':
		return true
	}
	return false
}

// isHostName reports whether b is two or more labels, the last of them not
// all digits (it would be an IPv4 address).
func isHostName(b []byte) bool {
	labels := 0
	for {
		label, rest, more := bytes.Cut(b, dot)
		if !isLabel(label) {
			return false
		}
		labels++
		if !more {
			return labels >= 2 && !allDigits(label)
		}
		b = rest
	}
}

var dot = []byte{'.'}

// isLabel reports whether b is one label of a host name: letters, digits and
// inner hyphens, beyond ASCII letters, marks and digits (a U-label).
func isLabel(b []byte) bool {
	if len(b) == 0 || len(b) > maxLabel || b[0] == '-' || b[len(b)-1] == '-' {
		return false
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		i += n
		switch {
		case r >= utf8.RuneSelf:
			if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) {
				return false
			}
		case r != '-' && !isAlphanumeric(byte(r)):
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func allDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return true
}
