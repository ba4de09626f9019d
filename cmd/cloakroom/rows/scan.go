package rows

import (
	"bytes"
	"io"
)

// scan cuts the record at the start of the window into spans. It returns the
// record's length and number of lines. After a fault, len(spans) is the
// position of the faulty cell.
func (c *CSV) scan() (n, lines int, outcome scan) {
	c.spans, c.text = c.spans[:0], c.text[:0]
	for at := 0; ; {
		var end bool
		var more int
		if at < len(c.buf.data) && c.buf.data[at] == '"' {
			at, more, end, outcome = c.scanQuoted(at + 1)
		} else {
			at, more, end, outcome = c.scanPlain(at)
		}
		lines += more
		if outcome != scanDone || end {
			return at, lines, outcome
		}
	}
}

// atEOF reports whether the window reaches to the end of the file.
func (c *CSV) atEOF() bool { return c.buf.err == io.EOF }

// lineEnd returns the length of the line end at the position, 0 if there is
// none. The end of the file is a line end of length 0, with or without a CR.
func (c *CSV) lineEnd(at int) (n int, end bool, outcome scan) {
	rest := c.buf.data[at:]
	switch {
	case len(rest) == 0:
		if c.atEOF() {
			return 0, true, scanDone
		}
		return 0, false, scanMore
	case rest[0] == '\n':
		return 1, true, scanDone
	case rest[0] != '\r':
		return 0, false, scanDone
	case len(rest) == 1:
		if c.atEOF() {
			return 1, true, scanDone
		}
		return 0, false, scanMore
	case rest[1] == '\n':
		return 2, true, scanDone
	}
	return 0, false, scanDone
}

// scanPlain reads a cell without quotes from at. It returns the position
// behind it and its separator, and whether the record ends there.
func (c *CSV) scanPlain(at int) (next, lines int, end bool, outcome scan) {
	from := at
	for ; ; at++ {
		n, end, outcome := c.lineEnd(at)
		switch {
		case outcome != scanDone:
			return at, 0, false, outcome
		case end:
			c.spans = append(c.spans, span{from: from, to: at})
			return at + n, 1, true, scanDone
		case c.buf.data[at] == c.comma:
			c.spans = append(c.spans, span{from: from, to: at})
			return at + 1, 0, false, scanDone
		case c.buf.data[at] == '"':
			return at, 0, false, scanBare
		}
	}
}

// scanQuoted reads a cell from behind its opening quote.
func (c *CSV) scanQuoted(at int) (next, lines int, end bool, outcome scan) {
	from := len(c.text)
	for {
		i := bytes.IndexByte(c.buf.data[at:], '"')
		if i < 0 {
			if c.atEOF() {
				return at, lines, false, scanUnclosed
			}
			return at, lines, false, scanMore
		}
		lines += c.appendUnquoted(c.buf.data[at : at+i])
		at += i + 1
		if at < len(c.buf.data) && c.buf.data[at] == '"' {
			c.text = append(c.text, '"')
			at++
			continue
		}
		n, end, outcome := c.lineEnd(at)
		switch {
		case outcome != scanDone:
			return at, lines, false, outcome
		case end:
			lines, at = lines+1, at+n
		case c.buf.data[at] == c.comma:
			at++
		default:
			return at, lines, false, scanQuote
		}
		c.spans = append(c.spans, span{from, len(c.text), true})
		return at, lines, end, scanDone
	}
}

// appendUnquoted appends a piece of a quoted cell to text, with CRLF as LF,
// and returns the number of line ends in it.
func (c *CSV) appendUnquoted(piece []byte) (lines int) {
	for {
		i := bytes.IndexByte(piece, '\n')
		if i < 0 {
			c.text = append(c.text, piece...)
			return lines
		}
		line := piece[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		c.text = append(append(c.text, line...), '\n')
		piece = piece[i+1:]
		lines++
	}
}
