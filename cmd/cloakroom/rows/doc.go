// Package rows reads the files that are imported: CSV (RFC 4180) and NDJSON.
// It owns the way from bytes to a [Row] of named cells, and says about every
// bad row in which line it begins and in which column the fault lies.
//
// A [Fault] names lines and columns and never holds what stands in them, since
// that is personal data. Even a header is only named where its text is known
// to the caller: a file without a header has a person in its first line.
//
// Readers are not safe for concurrent use; the bytes of a row live until the
// next one is read.
package rows

import (
	"errors"
	"fmt"
)

// MaxRecord bounds one record, in bytes: a quote that is never closed must not
// swallow a whole file into memory. It is 16 times what a subject may hold.
const MaxRecord = 1 << 20

// Cell is the value of one field.
type Cell struct {
	Field int    // position in the list of fields given at the start
	Value []byte // text, or JSON where Raw is set
	Raw   bool
}

// Row is one subject of a file.
type Row struct {
	Line   int    // where the row begins, from 1
	Key    []byte // the cell of the key column, or the id
	Cells  []Cell // cells with a value; empty ones are left out
	Domain []byte // NDJSON only: raw JSON, or nil
	TTL    []byte // NDJSON only: raw JSON, or nil
}

// Source yields the rows of a file. Next returns io.EOF at the end, a *[Fault]
// for a row that can't be read, after which it may be called again, and any
// other error when there is no way on.
type Source interface {
	Next(*Row) error
	Offset() int64 // bytes of the file used so far
}

// Fault is why a row can't be taken.
type Fault struct {
	Line   int
	Column string // a name the caller knows already, or ""
	Reason string // a constant of this package, or the server's
}

// Error says where and why.
func (f *Fault) Error() string {
	if f.Column == "" {
		return fmt.Sprintf("line %d: %s", f.Line, f.Reason)
	}
	return fmt.Sprintf("line %d, column %s: %s", f.Line, f.Column, f.Reason)
}

// The faults of a whole file.
var (
	ErrEmpty = errors.New("the file is empty")
	ErrUTF16 = errors.New("the file is UTF-16: convert it first, with iconv -f UTF-16 -t UTF-8")
)

// The reasons of faults that more than one reader gives.
const (
	reasonTooLong  = "the record is too long, or a quote is opened and never closed"
	reasonNotUTF8  = "not valid UTF-8: convert the file first, perhaps with iconv -f WINDOWS-1252 -t UTF-8"
	reasonNoKey    = "the cell is empty, and it must name the row"
	reasonNoValues = "no field has a value"
)
