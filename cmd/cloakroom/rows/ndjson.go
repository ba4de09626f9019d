package rows

import (
	"bytes"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// ndjson reads one object a line, written as a subject of the API:
//
//	{"fields": {"display_name": "…"}, "domain": "…", "ttl": "…"}
//
// and beside it the member that is the key or the id.
type ndjson struct {
	buf    *buffer
	cfg    Config
	fields map[string]int
	line   int
	body   bytes.Buffer
	dec    *jsontext.Decoder
	text   []byte // unquoted names
	key    []byte // unquoted key
	plain  []byte // unquoted values of the row
}

// OpenNDJSON starts reading a file with one JSON object a line. Empty lines
// are skipped.
func OpenNDJSON(src io.Reader, cfg Config) (Source, error) {
	r := &ndjson{buf: newBuffer(src), cfg: cfg, fields: make(map[string]int, len(cfg.Fields))}
	for i, field := range cfg.Fields {
		r.fields[cfg.column(field)] = i
	}
	r.dec = jsontext.NewDecoder(&r.body)
	if err := r.buf.start(); err != nil {
		return nil, err
	}
	if len(r.buf.data) == 0 && !r.buf.fill() {
		return nil, ErrEmpty
	}
	return r, nil
}

// Offset returns how many bytes of the file are used.
func (r *ndjson) Offset() int64 { return r.buf.offset }

// Next reads a row.
func (r *ndjson) Next(row *Row) error {
	for {
		n, ok := r.buf.line()
		r.line++
		switch {
		case !ok:
			r.buf.skipLine()
			return &Fault{Line: r.line, Reason: reasonTooLong}
		case n == 0:
			return r.buf.err
		}
		text := bytes.TrimSpace(r.buf.data[:n])
		r.buf.use(n)
		if len(text) > 0 {
			*row = Row{Line: r.line, Cells: row.Cells[:0]}
			return r.object(text, row)
		}
	}
}

const (
	reasonSyntax = "not a valid JSON object (one a line, no member twice, valid UTF-8)"
	reasonMember = "a member is unknown: leave such members out with --ignore-unknown"
)

// object reads the one object of a line.
func (r *ndjson) object(text []byte, row *Row) error {
	syntax := &Fault{Line: row.Line, Reason: reasonSyntax}
	// The whole value first, so that a fault of syntax is told as one.
	if !jsontext.Value(text).IsValid() || text[0] != '{' {
		return syntax
	}
	r.plain = r.plain[:0]
	r.body = *bytes.NewBuffer(text)
	r.dec.Reset(&r.body)
	if _, err := r.dec.ReadToken(); err != nil {
		return syntax
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.name()
		if err != nil {
			return syntax
		}
		if err := r.member(name, row); err != nil {
			return err
		}
	}
	switch {
	case r.cfg.Key != "" && len(row.Key) == 0:
		return &Fault{row.Line, r.cfg.Key, "the member is missing or empty, and it must name the row"}
	case len(row.Cells) == 0:
		return &Fault{Line: row.Line, Reason: reasonNoValues}
	}
	return nil
}

// name reads the name of a member.
func (r *ndjson) name() (string, error) {
	quoted, err := r.dec.ReadValue()
	if err != nil {
		return "", err
	}
	r.text, err = jsontext.AppendUnquote(r.text[:0], quoted)
	return string(r.text), err
}

// member reads one member of a line.
func (r *ndjson) member(name string, row *Row) error {
	if name == "fields" && r.dec.PeekKind() == '{' {
		return r.values(row)
	}
	value, err := r.dec.ReadValue()
	switch {
	case err != nil:
		return &Fault{Line: row.Line, Reason: reasonSyntax}
	case name == r.cfg.Key:
		return r.readKey(value, row)
	case name == "fields":
		return &Fault{row.Line, name, "not an object"}
	case name != "domain" && name != "ttl":
		if r.cfg.IgnoreUnknown {
			return nil
		}
		return &Fault{Line: row.Line, Reason: reasonMember}
	case name == "ttl" && value.Kind() == '{': // one for each field named in it
		row.TTL = value
	case value.Kind() != '"':
		return &Fault{row.Line, name, "not a string"}
	case name == "domain":
		row.Domain = value
	default:
		row.TTL = value
	}
	return nil
}

// cell returns a value of a field, unquoted where the field takes text.
func (r *ndjson) cell(field int, value jsontext.Value) Cell {
	if r.cfg.JSON[field] {
		return Cell{field, value, true}
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return Cell{field, value[1 : len(value)-1], false}
	}
	from := len(r.plain)
	r.plain, _ = jsontext.AppendUnquote(r.plain, value)
	return Cell{field, r.plain[from:len(r.plain):len(r.plain)], false}
}

// readKey reads the key, a string or a number.
func (r *ndjson) readKey(value jsontext.Value, row *Row) error {
	switch value.Kind() {
	case '0':
		row.Key = value
	case '"':
		r.key, _ = jsontext.AppendUnquote(r.key[:0], value)
		row.Key = r.key
	default:
		return &Fault{row.Line, r.cfg.Key, "neither a string nor a number, and it must name the row"}
	}
	return nil
}

// values reads the member "fields".
func (r *ndjson) values(row *Row) error {
	syntax := &Fault{Line: row.Line, Reason: reasonSyntax}
	if _, err := r.dec.ReadToken(); err != nil {
		return syntax
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.name()
		if err != nil {
			return syntax
		}
		value, err := r.dec.ReadValue()
		if err != nil {
			return syntax
		}
		field, ok := r.fields[name]
		switch {
		case !ok && r.cfg.IgnoreUnknown:
		case !ok:
			return &Fault{Line: row.Line, Column: "fields", Reason: "a member is no field of the schema: leave such members out with --ignore-unknown"}
		case value.Kind() == 'n' || string(value) == `""`: // no value, as an empty cell
		case value.Kind() != '"' && !r.cfg.JSON[field]:
			return &Fault{row.Line, name, "not a string"}
		default:
			row.Cells = append(row.Cells, r.cell(field, value))
		}
	}
	_, err := r.dec.ReadToken()
	if err != nil {
		return syntax
	}
	return nil
}
