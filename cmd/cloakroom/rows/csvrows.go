package rows

import (
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// csvRows gives the cells of records their names.
type csvRows struct {
	csv  *CSV
	cfg  Config
	cols *columns
}

// OpenCSV reads the header and returns the rows behind it.
func OpenCSV(src io.Reader, cfg Config) (Source, error) {
	if cfg.Comma == 0 {
		cfg.Comma = ','
	}
	csv, err := NewCSV(src, cfg.Comma)
	if err != nil {
		return nil, err
	}
	header, _, _, err := csv.Record()
	if err == io.EOF {
		return nil, ErrEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	cols, err := cfg.readHeader(header)
	if err != nil {
		return nil, err
	}
	return &csvRows{csv, cfg, cols}, nil
}

// Offset returns how many bytes of the file are used.
func (r *csvRows) Offset() int64 { return r.csv.Offset() }

// Next reads a row.
func (r *csvRows) Next(row *Row) error {
	cells, line, at, err := r.csv.Record()
	if fault, ok := err.(*Fault); ok && at < len(r.cols.names) {
		fault.Column = r.cols.names[at]
	}
	if err != nil {
		return err
	}
	if len(cells) != len(r.cols.names) {
		fault := &Fault{Line: line, Reason: fmt.Sprintf("%d cells where the header has %d", len(cells), len(r.cols.names))}
		r.csv.Rewind()
		return fault
	}
	*row = Row{Line: line, Cells: row.Cells[:0]}
	if r.cols.key >= 0 {
		row.Key = cells[r.cols.key]
		if len(row.Key) == 0 {
			return &Fault{line, r.cfg.Key, reasonNoKey}
		}
	}
	for i, cell := range cells {
		field := r.cols.field[i]
		if len(cell) == 0 || field < 0 && i != r.cols.key {
			continue
		}
		if !utf8.Valid(cell) {
			return &Fault{line, r.cols.names[i], reasonNotUTF8}
		}
		if field < 0 {
			continue
		}
		if r.cfg.JSON[field] && !jsontext.Value(cell).IsValid() {
			return &Fault{line, r.cols.names[i], "not a JSON value, and the field takes one"}
		}
		row.Cells = append(row.Cells, Cell{field, cell, r.cfg.JSON[field]})
	}
	if len(row.Cells) == 0 {
		return &Fault{Line: line, Reason: reasonNoValues}
	}
	return nil
}
