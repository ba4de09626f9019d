package rows

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Config says what a file holds.
type Config struct {
	// Fields are the names a row may give values for, and JSON says which of
	// them take a JSON value.
	Fields []string
	JSON   []bool
	// Columns names the column of a field where it is called differently.
	Columns map[string]string
	// Key is the column (in NDJSON: the member) that names a row, or "".
	Key string
	// Comma separates cells of CSV; ',' if 0.
	Comma byte
	// IgnoreUnknown leaves out columns and members that are no field.
	IgnoreUnknown bool
}

// columns says what to do with each cell of a row.
type columns struct {
	names []string // as the configuration calls them, "" for unknown ones
	field []int    // position in Config.Fields, or -1
	key   int      // or -1
}

// column returns the name of the column of a field.
func (cfg *Config) column(field string) string {
	if name, ok := cfg.Columns[field]; ok {
		return name
	}
	return field
}

// readHeader matches the first record with the configuration and returns every
// fault at once. It prints no cell: without a header, the first record is a
// person.
func (cfg *Config) readHeader(header [][]byte) (*columns, error) {
	var faults []error
	cols := &columns{key: -1}
	wanted := make(map[string]int, len(cfg.Fields))
	for i, field := range cfg.Fields {
		wanted[cfg.column(field)] = i
	}
	seen := map[string]bool{}
	for i, cell := range header {
		name := string(bytes.TrimSpace(cell))
		field, isField := wanted[name]
		isKey := cfg.Key != "" && name == cfg.Key
		switch {
		case (isField || isKey) && seen[name]:
			faults = append(faults, fmt.Errorf("the header has the column %s twice", name))
		case !isField && !isKey && !cfg.IgnoreUnknown:
			faults = append(faults, fmt.Errorf("column %d of the header is no field of the schema: give its field with --field FIELD=COLUMN, or leave such columns out with --ignore-unknown", i+1))
		}
		if !isField {
			field = -1
		}
		if isKey {
			cols.key = i
		}
		if !isField && !isKey {
			name = ""
		}
		seen[name] = true
		cols.names, cols.field = append(cols.names, name), append(cols.field, field)
	}
	faults = append(faults, cfg.missing(seen, wanted)...)
	return cols, errors.Join(faults...)
}

// missing returns what the header lacks.
func (cfg *Config) missing(seen map[string]bool, wanted map[string]int) (faults []error) {
	if cfg.Key != "" && !seen[cfg.Key] {
		faults = append(faults, fmt.Errorf("the header has no column %s", cfg.Key))
	}
	for field, column := range cfg.Columns {
		if !seen[column] {
			faults = append(faults, fmt.Errorf("the header has no column %s for the field %s", column, field))
		}
	}
	for column := range wanted {
		if seen[column] {
			return faults
		}
	}
	return append(faults, fmt.Errorf("no column of the header is a field of the schema (%s): is the first line a header, and is the separator right (--delimiter)",
		strings.Join(cfg.Fields, ", ")))
}
