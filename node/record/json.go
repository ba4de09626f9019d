package record

import (
	"bytes"
	"unicode/utf8"
)

// Limits of json values. They bound the quadratic comparison of names; people
// have fewer properties than this.
const (
	// MaxJSONDepth is how deep arrays and objects may be nested.
	MaxJSONDepth = 32
	// MaxJSONNames is how many members one object may have, its enclosing
	// objects' members up to there counted in.
	MaxJSONNames = 256
)

// checkJSON wants one strict JSON value (RFC 8259, RFC 7493): valid UTF-8,
// whole surrogate pairs, no repeated names, white space around it allowed.
//
// It is our own and not a library's because of what the others leave behind:
// jsontext keeps the names of every object in a pooled heap buffer to find
// repeated ones, as map keys when there are many, and names may be personal
// data. This one remembers offsets only.
func checkJSON(value []byte) Reason {
	s := jsonScan{b: value}
	s.space()
	if s.literal("null") {
		return reasonNull
	}
	if s.value(0) {
		s.space()
		if s.at == len(s.b) {
			return ""
		}
		s.fail(reasonJSON)
	}
	return s.why
}

// jsonScan walks over b. Its methods return false when the value is at fault;
// why then holds the first reason.
type jsonScan struct {
	b     []byte
	at    int
	why   Reason
	names [MaxJSONNames]span // of the objects that are open, innermost last
	open  int                // names in use
}

// span is a name between its quotes, as offsets into b.
type span struct{ from, to uint32 }

func (s *jsonScan) fail(why Reason) bool {
	if s.why == "" {
		s.why = why
	}
	return false
}

func (s *jsonScan) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next returns the byte at the scan position, or 0 at the end: no token of
// JSON begins with NUL.
func (s *jsonScan) next() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

func (s *jsonScan) literal(word string) bool {
	if len(s.b)-s.at < len(word) || string(s.b[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

// value scans one value that stands depth levels deep.
func (s *jsonScan) value(depth int) bool {
	switch c := s.next(); {
	case c == '{' || c == '[':
		if depth == MaxJSONDepth {
			return s.fail(reasonDeep)
		}
		s.at++
		if c == '{' {
			return s.object(depth)
		}
		return s.array(depth)
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '-' || isDigit(c):
		return s.number()
	case s.literal("true") || s.literal("false") || s.literal("null"):
		return true
	}
	return s.fail(reasonJSON)
}

func (s *jsonScan) array(depth int) bool {
	if s.space(); s.next() == ']' {
		s.at++
		return true
	}
	for {
		if s.space(); !s.value(depth + 1) {
			return false
		}
		if done, ok := s.separator(']'); done || !ok {
			return ok
		}
	}
}

func (s *jsonScan) object(depth int) bool {
	outer := s.open
	if s.space(); s.next() == '}' {
		s.at++
		return true
	}
	for {
		s.space()
		name, ok := s.str()
		if !ok || !s.addName(outer, name) {
			return false
		}
		if s.space(); s.next() != ':' {
			return s.fail(reasonJSON)
		}
		s.at++
		if s.space(); !s.value(depth + 1) {
			return false
		}
		if done, ok := s.separator('}'); done || !ok {
			s.open = outer
			return ok
		}
	}
}

// separator scans the comma before a further element (done is false) or the
// closing bracket.
func (s *jsonScan) separator(closing byte) (done, ok bool) {
	s.space()
	c := s.next()
	if c != ',' && c != closing {
		return false, s.fail(reasonJSON)
	}
	s.at++
	return c == closing, true
}

// addName records a member's name and refuses one that the object, whose names
// begin at first, has already.
func (s *jsonScan) addName(first int, name span) bool {
	for _, other := range s.names[first:s.open] {
		if s.sameName(name, other) {
			return s.fail(reasonRepeated)
		}
	}
	if s.open == len(s.names) {
		return s.fail(reasonMembers)
	}
	s.names[s.open] = name
	s.open++
	return true
}

// sameName compares two names after unescaping, without writing them out.
func (s *jsonScan) sameName(x, y span) bool {
	a, b := s.b[x.from:x.to], s.b[y.from:y.to]
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Equal(a, b)
	}
	for len(a) > 0 && len(b) > 0 {
		ra, na := unescape(a)
		rb, nb := unescape(b)
		if ra != rb {
			return false
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) == len(b)
}

// number scans int [frac] [exp].
func (s *jsonScan) number() bool {
	if s.next() == '-' {
		s.at++
	}
	if s.next() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.next() == '.' {
		if s.at++; !s.digits() {
			return false
		}
	}
	if s.next()|0x20 == 'e' {
		s.at++
		if c := s.next(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return true
}

// digits scans one digit or more.
func (s *jsonScan) digits() bool {
	from := s.at
	for isDigit(s.next()) {
		s.at++
	}
	if s.at == from {
		return s.fail(reasonJSON)
	}
	return true
}

// str scans a string and returns what stands between its quotes.
func (s *jsonScan) str() (span, bool) {
	if s.next() != '"' {
		return span{}, s.fail(reasonJSON)
	}
	s.at++
	from := s.at
	for s.at < len(s.b) {
		c := s.b[s.at]
		switch {
		case c == '"':
			s.at++
			return span{uint32(from), uint32(s.at - 1)}, true
		case c < 0x20:
			return span{}, s.fail(reasonJSON)
		case c < utf8.RuneSelf && c != '\\':
			s.at++
		default:
			r, n := unescape(s.b[s.at:])
			if r == badRune {
				return span{}, s.fail(reasonJSON)
			}
			s.at += n
		}
	}
	return span{}, s.fail(reasonJSON)
}

const badRune = rune(-1)

// unescape returns the first character of a string's content and how many
// bytes it takes, or badRune.
func unescape(b []byte) (rune, int) {
	if b[0] != '\\' {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return badRune, 1
		}
		return r, n
	}
	if len(b) < 2 {
		return badRune, 1
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		return unescapeHex(b)
	}
	return badRune, 1
}

// unescapeHex reads \u and four hex digits, or two of them that make a surrogate pair.
func unescapeHex(b []byte) (rune, int) {
	r := hex4(b)
	switch {
	case r == badRune || 0xdc00 <= r && r <= 0xdfff:
		return badRune, 1
	case r < 0xd800 || r > 0xdfff:
		return r, 6
	}
	low := hex4(b[6:])
	if low < 0xdc00 || low > 0xdfff {
		return badRune, 1
	}
	return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), 12
}

// hex4 reads \u and four hex digits at the beginning of b.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return badRune
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return badRune
		}
		r = r<<4 | rune(c)
	}
	return r
}
