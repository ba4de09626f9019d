package rows

import (
	"bytes"
	"io"
)

// CSV reads records. What it accepts, it reads as encoding/csv does: lines end
// with LF or CRLF, empty lines are skipped, CRLF inside quotes becomes LF. It
// differs in what it does about a broken record: it is bounded by [MaxRecord],
// and reading goes on with the line after the one the record began on, so that
// a quote that is never closed costs one row and not the rest of the file.
type CSV struct {
	buf   *buffer
	comma byte

	line   int // of data[0], from 1
	cells  [][]byte
	text   []byte // unquoted cells, when they differ from the file
	spans  []span
	rewind int // bytes of the last record that Rewind gives back
}

// span is a cell: a piece of text, or of the file.
type span struct {
	from, to int
	unquoted bool // in CSV.text
}

// NewCSV starts reading records whose cells are separated by comma, a single
// byte that is no quote and no line end.
func NewCSV(src io.Reader, comma byte) (*CSV, error) {
	c := &CSV{buf: newBuffer(src), comma: comma, line: 1}
	if err := c.buf.start(); err != nil {
		return nil, err
	}
	return c, nil
}

// Offset returns how many bytes of the file are used.
func (c *CSV) Offset() int64 { return c.buf.offset }

// The outcomes of scanning a record.
type scan uint8

const (
	scanDone     scan = iota
	scanMore          // the record goes on behind the window
	scanBare          // a quote inside a cell that does not begin with one
	scanQuote         // text behind the closing quote
	scanUnclosed      // the file ends inside quotes
)

var scanReasons = map[scan]string{
	scanBare:     "a quote stands inside a cell that is not quoted",
	scanQuote:    "text stands behind the closing quote",
	scanUnclosed: "a quote is opened and never closed",
}

// Record returns the cells of the next record and the line it begins on. A
// *[Fault] has no column name; cell is its position then. The cells live until
// the next call.
func (c *CSV) Record() (cells [][]byte, line, cell int, err error) {
	for {
		n, ok := c.buf.line()
		line = c.line
		switch {
		case !ok:
			c.buf.skipLine()
			c.line++
			return nil, line, 0, &Fault{Line: line, Reason: reasonTooLong}
		case n == 0 && c.buf.err != io.EOF:
			return nil, line, 0, c.buf.err
		case n == 0:
			return nil, line, 0, io.EOF
		}
		text := trimEnd(c.buf.data[:n], c.buf.err == io.EOF && n == len(c.buf.data))
		if len(text) == 0 {
			c.buf.use(n)
			c.line++
			continue
		}
		if bytes.IndexByte(text, '"') < 0 {
			c.split(text)
			c.buf.use(n)
			c.line++
			c.rewind = 0
			return c.cells, line, 0, nil
		}
		return c.quoted()
	}
}

// trimEnd cuts LF, CRLF, and a CR that is the last byte of the file.
func trimEnd(line []byte, last bool) []byte {
	n := len(line)
	if n > 0 && line[n-1] == '\n' {
		n--
		last = true
	}
	if last && n > 0 && line[n-1] == '\r' {
		n--
	}
	return line[:n]
}

// split cuts a line without quotes.
func (c *CSV) split(text []byte) {
	c.cells = c.cells[:0]
	from := 0
	for i, b := range text {
		if b == c.comma {
			c.cells = append(c.cells, text[from:i])
			from = i + 1
		}
	}
	c.cells = append(c.cells, text[from:])
}

// quoted reads a record with quotes in its first line.
func (c *CSV) quoted() (cells [][]byte, line, cell int, err error) {
	line = c.line
	n, lines, outcome := c.scan()
	for outcome == scanMore && len(c.buf.data) <= MaxRecord && c.buf.err == nil {
		c.buf.fill()
		n, lines, outcome = c.scan()
	}
	if outcome == scanMore && c.buf.err != nil && c.buf.err != io.EOF {
		return nil, line, 0, c.buf.err
	}
	if outcome != scanDone || n > MaxRecord {
		reason, ok := scanReasons[outcome]
		if !ok {
			reason = reasonTooLong
		}
		cell = len(c.spans)
		c.buf.skipLine()
		c.line++
		return nil, line, cell, &Fault{Line: line, Reason: reason}
	}
	c.cells = c.cells[:0]
	for _, s := range c.spans {
		from := c.buf.data
		if s.unquoted {
			from = c.text
		}
		c.cells = append(c.cells, from[s.from:s.to:s.to])
	}
	first, _ := c.buf.line()
	c.rewind = n - first
	c.buf.use(n)
	c.line += lines
	return c.cells, line, 0, nil
}

// Rewind goes back to the line after the one the last record began on, if the
// record had more than one. A caller that refuses such a record does this: the
// quotes that held it together were probably not meant to. The cells of the
// record are no longer valid then.
func (c *CSV) Rewind() {
	if c.rewind == 0 {
		return
	}
	// The window still holds the record: data only ever moves in fill.
	at := len(c.buf.all) - cap(c.buf.data) - c.rewind
	given := c.buf.all[at : at+c.rewind]
	c.line -= bytes.Count(given, []byte("\n"))
	if n := len(given); given[n-1] != '\n' {
		c.line-- // the last line of the file
	}
	c.buf.data = c.buf.all[at : at+c.rewind+len(c.buf.data)]
	c.buf.offset -= int64(c.rewind)
	c.rewind = 0
}
