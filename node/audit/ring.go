package audit

import "bytes"

// ring keeps the latest lines in a fixed piece of memory.
type ring struct {
	bytes []byte
	total int // bytes ever written; the next goes to total % len(bytes)
}

// append adds a line, over the oldest ones. A line that is longer than the
// ring leaves its end.
func (r *ring) append(line []byte) {
	if over := len(line) - len(r.bytes); over > 0 {
		r.total += over
		line = line[over:]
	}
	n := copy(r.bytes[r.total%len(r.bytes):], line)
	copy(r.bytes, line[n:])
	r.total += len(line)
}

// appendTo appends the whole lines that are left, oldest first.
func (r *ring) appendTo(dst []byte) []byte {
	if r.total <= len(r.bytes) {
		return append(dst, r.bytes[:r.total]...)
	}
	at := r.total % len(r.bytes)
	older, newer := r.bytes[at:], r.bytes[:at]
	if end := bytes.IndexByte(older, '\n'); end >= 0 {
		return append(append(dst, older[end+1:]...), newer...)
	}
	end := bytes.IndexByte(newer, '\n')
	return append(dst, newer[end+1:]...)
}
