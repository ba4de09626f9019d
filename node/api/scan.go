package api

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// scanner reads one JSON text in place from guarded memory, as strictly as
// RFC 7493 (I-JSON) asks: valid UTF-8, paired surrogates, no member twice,
// nothing after the text. It keeps positions, never bytes: neither values nor
// names are copied to the heap, and no error quotes the input. (Libraries keep
// tables of member names, and a name can be a value; DESIGN.md.)
type scanner struct {
	b []byte
	i int
	// spare gives guarded memory for strings that hold escapes; all of them
	// together are shorter than b.
	spare func(n int) ([]byte, error)
	plain []byte // what is left of it
	names []span // of the objects around the current value
}

// span is a quoted name: b[from:to] without the quotes.
type span struct {
	from, to int
	escaped  bool
}

func (s *scanner) reset(b []byte) {
	s.b, s.i, s.plain, s.names = b, 0, nil, s.names[:0]
}

// fail makes the error for the current position.
func (s *scanner) fail(what string) error {
	return malformed(what + " at byte " + strconv.Itoa(s.i) + " of the body")
}

// next skips white space and returns the next byte, or 0 at the end.
func (s *scanner) next() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// take consumes c or fails.
func (s *scanner) take(c byte, want string) error {
	if s.next() != c || s.i >= len(s.b) {
		return s.fail("want " + want)
	}
	s.i++
	return nil
}

// end checks that nothing follows.
func (s *scanner) end() error {
	s.next()
	if s.i < len(s.b) {
		return s.fail("data after the JSON text")
	}
	return nil
}

// object reads an object and calls member at each value, with the unescaped
// name; member consumes the value. Names are distinct.
func (s *scanner) object(what string, member func(name []byte) error) error {
	if err := s.take('{', what); err != nil {
		return err
	}
	if s.next() == '}' {
		s.i++
		return nil
	}
	base := len(s.names)
	defer func() { s.names = s.names[:base] }()
	for {
		name, err := s.name(base)
		if err != nil {
			return err
		}
		text, err := s.text(name)
		if err != nil {
			return err
		}
		if err := member(text); err != nil {
			return err
		}
		more, err := s.more('}')
		if err != nil || !more {
			return err
		}
	}
}

// array reads an array and calls element at each value.
func (s *scanner) array(what string, element func(i int) error) error {
	if err := s.take('[', what); err != nil {
		return err
	}
	if s.next() == ']' {
		s.i++
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		more, err := s.more(']')
		if err != nil || !more {
			return err
		}
	}
}

// more consumes a comma, or the closing byte and returns false.
func (s *scanner) more(closing byte) (bool, error) {
	switch s.next() {
	case ',':
		s.i++
		return true, nil
	case closing:
		s.i++
		return false, nil
	}
	return false, s.fail("want a comma or the end of the list")
}

// name reads a member name and its colon, and refuses one that stands in
// s.names[base:] already.
func (s *scanner) name(base int) (span, error) {
	if s.next() != '"' {
		return span{}, s.fail("want a member name")
	}
	name, err := s.quoted()
	if err != nil {
		return span{}, err
	}
	for _, other := range s.names[base:] {
		if s.same(name, other) {
			return span{}, s.fail("duplicate member before the colon")
		}
	}
	if len(s.names)-base >= MaxMembers {
		return span{}, s.fail("too many members")
	}
	s.names = append(s.names, name)
	return name, s.take(':', "a colon")
}

// same compares two names by what they mean.
func (s *scanner) same(a, b span) bool {
	x, y := s.b[a.from:a.to], s.b[b.from:b.to]
	if !a.escaped && !b.escaped {
		return bytes.Equal(x, y)
	}
	for len(x) > 0 && len(y) > 0 {
		r, n := character(x)
		q, m := character(y)
		if r != q {
			return false
		}
		x, y = x[n:], y[m:]
	}
	return len(x) == len(y)
}

// str reads a string and returns its unescaped bytes.
func (s *scanner) str(what string) ([]byte, error) {
	if s.next() != '"' {
		return nil, s.fail("want " + what)
	}
	quoted, err := s.quoted()
	if err != nil {
		return nil, err
	}
	return s.text(quoted)
}

// text returns the unescaped bytes of a string: in place, or from the spare
// memory if it holds an escape, since the body stays as received.
func (s *scanner) text(quoted span) ([]byte, error) {
	raw := s.b[quoted.from:quoted.to]
	if !quoted.escaped {
		return raw, nil
	}
	if cap(s.plain) < len(raw) {
		spare, err := s.spare(len(s.b))
		if err != nil {
			return nil, err
		}
		s.plain = spare[:0]
	}
	out := s.plain[:0:len(raw)]
	for len(raw) > 0 {
		n := plainPrefix(raw)
		out = append(out, raw[:n]...)
		if raw = raw[n:]; len(raw) == 0 {
			break
		}
		r, n := character(raw)
		out = utf8.AppendRune(out, r)
		raw = raw[n:]
	}
	s.plain = s.plain[len(out):cap(s.plain)][:0]
	return out, nil
}

// quoted reads a string, checks its escapes and its UTF-8, and returns where
// it stands.
func (s *scanner) quoted() (span, error) {
	s.i++
	str := span{from: s.i}
	for {
		s.i += asciiPrefix(s.b[s.i:])
		if s.i >= len(s.b) {
			return str, s.fail("unended string")
		}
		switch c := s.b[s.i]; {
		case c == '"':
			str.to = s.i
			s.i++
			return str, nil
		case c == '\\':
			str.escaped = true
			r, n := character(s.b[s.i:])
			if r < 0 {
				return str, s.fail("invalid escape")
			}
			s.i += n
		case c < 0x20:
			return str, s.fail("control character in a string")
		default:
			r, n := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && n == 1 {
				return str, s.fail("invalid UTF-8")
			}
			s.i += n
		}
	}
}

// character decodes the first character of the inside of a string: plain
// UTF-8, an escape, or an escaped surrogate pair. r is -1 for an invalid
// escape, a lone surrogate included.
func character(s []byte) (r rune, n int) {
	if s[0] != '\\' {
		return utf8.DecodeRune(s)
	}
	if len(s) < 2 {
		return -1, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
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
		return codeUnits(s)
	}
	return -1, 0
}

// codeUnits decodes \u and four hex digits, or a pair of them for a surrogate pair.
func codeUnits(s []byte) (rune, int) {
	high := codeUnit(s)
	if high < 0xd800 || high > 0xdfff {
		return high, 6
	}
	if high > 0xdbff {
		return -1, 0
	}
	low := codeUnit(s[6:])
	if low < 0xdc00 || low > 0xdfff {
		return -1, 0
	}
	return (high-0xd800)<<10 | (low - 0xdc00) + 0x10000, 12
}

// codeUnit decodes \u and four hex digits, or returns -1.
func codeUnit(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// value checks any value and skips it.
func (s *scanner) value(depth int) error {
	if depth > MaxDepth {
		return s.fail("nested too deep")
	}
	switch c := s.next(); {
	case c == '"':
		_, err := s.quoted()
		return err
	case c == '{':
		return s.members(depth)
	case c == '[':
		return s.array("an array", func(int) error { return s.value(depth + 1) })
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.fail("want a value")
}

// members checks an object and skips it.
func (s *scanner) members(depth int) error {
	s.i++
	if s.next() == '}' {
		s.i++
		return nil
	}
	base := len(s.names)
	defer func() { s.names = s.names[:base] }()
	for {
		if _, err := s.name(base); err != nil {
			return err
		}
		if err := s.value(depth + 1); err != nil {
			return err
		}
		more, err := s.more('}')
		if err != nil || !more {
			return err
		}
	}
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return s.fail("want a value")
	}
	s.i += len(word)
	return nil
}

// number skips a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *scanner) number() error {
	s.skip('-', '-')
	if !s.skip('0', '0') && s.digits() == 0 {
		return s.fail("invalid number")
	}
	if s.skip('.', '.') && s.digits() == 0 {
		return s.fail("invalid number")
	}
	if s.skip('e', 'E') {
		s.skip('+', '-')
		if s.digits() == 0 {
			return s.fail("invalid number")
		}
	}
	return nil
}

// skip consumes the next byte if it is a or b.
func (s *scanner) skip(a, b byte) bool {
	if s.i < len(s.b) && (s.b[s.i] == a || s.b[s.i] == b) {
		s.i++
		return true
	}
	return false
}

// digits consumes decimal digits and returns how many.
func (s *scanner) digits() int {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i - start
}

// asciiPrefix is plainPrefix that stops at the first byte above 0x7f as well.
func asciiPrefix(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(s)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(s[n:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		special := (w - ones*0x20) | (quote - ones) | (slash - ones) | w
		if special &= highs; special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for ; n < len(s); n++ {
		if c := s[n]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			return n
		}
	}
	return n
}
