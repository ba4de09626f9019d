package importer

import (
	"fmt"
	"unicode/utf8"

	"cloakroom"
	"cloakroom/cmd/cloakroom/rows"
)

const (
	bodyOpen  = `{"subjects":[`
	bodyClose = `]}`
)

// batch is a request body in the making. Its memory is used again.
type batch struct {
	body  []byte // bodyOpen, items with commas between, bodyClose once sealed
	items []item
	keys  []byte // of all items, one after the other
	bytes int64  // of the file that it stands for
}

// item is where one row stands in a batch.
type item struct {
	line         int
	from, to     int // in body
	keyFrom, key int // in keys
	settled      bool
}

func (b *batch) reset() { b.body, b.items, b.keys = b.body[:0], b.items[:0], b.keys[:0] }

// assemble returns the body with these items of b, which is b's own when they
// are all of them, else made in scratch.
func (b *batch) assemble(items []item, scratch []byte) (body, newScratch []byte) {
	if len(items) == len(b.items) {
		return append(b.body, bodyClose...), scratch
	}
	body = append(scratch[:0], bodyOpen...)
	for i, it := range items {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, b.body[it.from:it.to]...)
	}
	body = append(body, bodyClose...)
	return body, body
}

// admit appends a row to the batch, or says why not. A row whose key is in
// the journal already is counted and left out.
func (imp *Importer) admit(row *rows.Row, b *batch) *rows.Fault {
	id, skip, reason := imp.name(row.Key)
	switch {
	case reason != "":
		return &rows.Fault{Line: row.Line, Column: imp.cfg.Key, Reason: reason}
	case skip:
		imp.skipped.Add(1)
		return nil
	}
	if len(b.items) == 0 {
		b.body = append(b.body[:0], bodyOpen...)
	}
	before := len(b.body)
	if len(b.items) > 0 {
		b.body = append(b.body, ',')
	}
	from := len(b.body)
	if fault := imp.appendItem(row, id, b); fault != nil {
		b.body = b.body[:before]
		return fault
	}
	keyFrom := len(b.keys)
	if imp.cfg.Journal != nil {
		b.keys = append(b.keys, row.Key...)
	}
	b.items = append(b.items, item{line: row.Line, from: from, to: len(b.body), keyFrom: keyFrom, key: len(b.keys)})
	if imp.cfg.Key != "" {
		imp.seen[id] = struct{}{}
	}
	return nil
}

// name returns the pseudonym of a row, whether the row is done already, and
// why its key can't be taken.
func (imp *Importer) name(key []byte) (id cloakroom.Pseudonym, done bool, reason string) {
	switch {
	case imp.cfg.Key == "":
		return id, false, ""
	case imp.cfg.Journal != nil:
		if reason := faultOfKey(key); reason != "" {
			return id, false, reason
		}
		id, done = imp.cfg.Journal.name(key)
	default:
		var err error
		if id, err = cloakroom.ParsePseudonym(key); err != nil {
			return id, false, err.Error()
		}
	}
	if _, again := imp.seen[id]; again {
		return id, false, "an earlier row has the same"
	}
	return id, done, ""
}

// appendItem appends {"id":…,"fields":{…}}.
func (imp *Importer) appendItem(row *rows.Row, id cloakroom.Pseudonym, b *batch) *rows.Fault {
	body := append(b.body, '{')
	if imp.cfg.Key != "" {
		body = append(body, `"id":"`...)
		body = id.AppendText(body)
		body = append(body, `",`...)
	}
	body = imp.appendMember(body, `"domain":`, row.Domain, imp.cfg.Domain)
	body = imp.appendMember(body, `"ttl":`, row.TTL, imp.cfg.TTL)
	body = append(body, `"fields":{`...)
	total := 0
	for i := range row.Cells {
		cell := &row.Cells[i]
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, imp.names[cell.Field]...)
		var reason string
		if body, reason = imp.appendValue(body, cell); reason != "" {
			return &rows.Fault{Line: row.Line, Column: imp.cfg.Fields[cell.Field].Column, Reason: reason}
		}
		total += len(cell.Value)
	}
	if total > cloakroom.MaxSubjectBytes {
		return &rows.Fault{Line: row.Line, Reason: fmt.Sprintf("the values have more than %d bytes together", cloakroom.MaxSubjectBytes)}
	}
	b.body = append(body, `}}`...)
	return nil
}

// appendMember appends the row's own JSON string, or the one for all rows.
func (imp *Importer) appendMember(body []byte, name string, own []byte, forAll string) []byte {
	switch {
	case own != nil:
		body = append(append(body, name...), own...)
	case forAll != "":
		body = appendQuoted(append(body, name...), []byte(forAll))
	default:
		return body
	}
	return append(body, ',')
}

// appendValue appends one value as JSON, or says why it can't.
func (imp *Importer) appendValue(body []byte, cell *rows.Cell) (_ []byte, reason string) {
	field := &imp.cfg.Fields[cell.Field]
	if cell.Raw {
		return append(body, cell.Value...), ""
	}
	value := cell.Value
	if field.Normalize != nil {
		var ok bool
		if imp.text, ok = field.Normalize(imp.text[:0], value); !ok {
			return body, "not a phone number of the region given"
		}
		value = imp.text
	}
	if field.MaxBytes > 0 && len(value) > field.MaxBytes {
		return body, fmt.Sprintf("longer than %d bytes", field.MaxBytes)
	}
	return appendQuoted(body, value), ""
}

// appendQuoted appends a JSON string. text is valid UTF-8.
func appendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= utf8.RuneSelf || c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		if c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
		from = i + 1
	}
	dst = append(dst, text[from:]...)
	return append(dst, '"')
}
