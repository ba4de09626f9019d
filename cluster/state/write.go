package state

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"
)

// copyAtOnce is how many records are copied out in one hold of the read lock.
const copyAtOnce = 512

// WriteTo writes the view as a state stream (format 1, records in token
// order). It holds the machine's read lock for one segment's tokens, or for a
// few hundred records, at a time and never while it writes.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	if v.segments == nil {
		panic("state: view used after Release")
	}
	out := &hashingWriter{to: w, sha: sha256.New()}
	err := out.write(v.header.append(nil))
	var entries []entry
	var buf []byte
	for i := 0; err == nil && i < len(v.segments); i++ {
		entries = v.sorted(v.segments[i], entries[:0])
		for rest := entries; err == nil && len(rest) > 0; {
			n := min(len(rest), copyAtOnce)
			buf = v.appendRecords(buf[:0], rest[:n])
			rest = rest[n:]
			err = out.write(buf)
		}
	}
	if err == nil {
		err = out.write(out.sha.Sum(nil))
	}
	if err != nil {
		return out.n, fmt.Errorf("write state: %w", err)
	}
	return out.n, nil
}

// sorted returns the entries of a segment in token order.
func (v *View) sorted(s *segment, dst []entry) []entry {
	v.machine.mu.RLock()
	dst = s.appendEntries(v.machine.slab, dst)
	v.machine.mu.RUnlock()
	slices.SortFunc(dst, func(a, b entry) int { return bytes.Compare(a.token[:], b.token[:]) })
	return dst
}

func (v *View) appendRecords(dst []byte, entries []entry) []byte {
	v.machine.mu.RLock()
	defer v.machine.mu.RUnlock()
	for i := range entries {
		e := &entries[i]
		dst = appendRecord(dst, &e.token, slotRecord(v.machine.slab.Bytes(e.ref), e.mark), e.mark)
	}
	return dst
}

// hashingWriter counts and hashes what it passes on.
type hashingWriter struct {
	to  io.Writer
	sha hash.Hash
	n   int64
}

func (w *hashingWriter) write(b []byte) error {
	n, err := w.to.Write(b)
	w.n += int64(n)
	w.sha.Write(b[:n])
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
