package command

import "slices"

// Records is what a read copied out of one or more shards: sealed records, one
// span for each token asked, in the order asked. Reads append, so that one
// Records serves all shards of a request; [Records.Reset] readies it for the
// next request without giving its memory back.
type Records struct {
	Buf   []byte
	Spans []Span
	// Time is the latest shard time of the reads, in unix milliseconds.
	// Records whose expiry lies at or before it are hidden.
	Time uint64
	// Schema is the highest schema epoch that the shards read have heard of.
	// Whoever works by an older one may have been told fields that have retired.
	Schema uint32
}

// Span is where a record stands in [Records.Buf], in bytes. Len 0: there is no
// such record.
type Span struct{ Off, Len uint32 }

// Reset forgets all records and keeps the memory.
func (r *Records) Reset() {
	r.Buf, r.Spans, r.Time, r.Schema = r.Buf[:0], r.Spans[:0], 0, 0
}

// Extend appends n empty spans and returns them.
func (r *Records) Extend(n int) []Span {
	from := len(r.Spans)
	r.Spans = slices.Grow(r.Spans, n)[:from+n]
	clear(r.Spans[from:])
	return r.Spans[from:]
}

// At returns the record for the i-th token asked since the last reset, nil if
// there is none. It aliases Buf and dies with the next read or reset.
func (r *Records) At(i int) []byte {
	span := r.Spans[i]
	if span.Len == 0 {
		return nil
	}
	return r.Buf[span.Off : span.Off+span.Len : span.Off+span.Len]
}
