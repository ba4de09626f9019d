package dumptest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Count says how often patterns of one class were found.
type Count struct {
	Class   string
	Runs    int    // separate places
	Longest int    // bytes of the longest run
	First   uint64 // address, or offset, of the first
	Places  []Place
}

// Place is where something was found.
type Place struct {
	Addr  uint64
	Bytes int
}

// maxPlaces bounds the places that are remembered for each class.
const maxPlaces = 100

// Scan searches a sequence of memory ranges for the patterns.
type Scan struct {
	patterns *Patterns
	counts   []Count
	open     []run // per class, the run that may still grow
	scanned  int64
}

type run struct{ from, to uint64 } // from == to: none

// String returns the counts without the places.
func (c Count) String() string {
	return fmt.Sprintf("%d × %s (longest %d bytes)", c.Runs, c.Class, c.Longest)
}

// NewScan returns a scan that has seen nothing.
func (p *Patterns) NewScan() *Scan {
	s := &Scan{patterns: p, counts: make([]Count, len(p.classes)), open: make([]run, len(p.classes))}
	for i, c := range p.classes {
		s.counts[i].Class = c.name
	}
	return s
}

// Counts returns what was found, one entry per class that was found at all.
func (s *Scan) Counts() []Count {
	s.close()
	var found []Count
	for _, c := range s.counts {
		if c.Runs > 0 {
			found = append(found, c)
		}
	}
	return found
}

// Bytes returns how many bytes were searched.
func (s *Scan) Bytes() int64 { return s.scanned }

const (
	chunkBytes = 1 << 20
	overlap    = Window - 1
)

// Range searches one contiguous range of memory that begins at addr. Nothing
// is matched across two ranges.
func (s *Scan) Range(addr uint64, r io.Reader) error {
	buf := make([]byte, overlap+chunkBytes)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:kept+chunkBytes])
		s.scanned += int64(n)
		s.bytes(addr, buf[:kept+n])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			s.close()
			return nil
		case err != nil:
			return err
		}
		addr += uint64(kept + n - overlap)
		kept = copy(buf, buf[kept+n-overlap:kept+n])
	}
}

func (s *Scan) bytes(addr uint64, b []byte) {
	p := s.patterns
	if p.used == 0 {
		return
	}
	shift := p.filterShift()
	for at := 0; at+Window <= len(b); at++ {
		w := binary.LittleEndian.Uint64(b[at:])
		if w == 0 {
			at += zeros(b[at+Window:])
			continue
		}
		if p.starts[w>>6&0x3ff]&(1<<(w&63)) == 0 {
			continue
		}
		h := w * hashFactor >> shift
		if p.filter[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		if slot, found := p.find(w); found {
			s.hit(p.values[slot], addr+uint64(at))
		}
	}
}

// zeros counts the zero words that b begins with, in bytes: most of a dump is
// empty.
func zeros(b []byte) int {
	n := 0
	for n+8 <= len(b) && binary.LittleEndian.Uint64(b[n:]) == 0 {
		n += 8
	}
	return n
}

// hit takes a window found at an address. Windows that overlap make one run.
func (s *Scan) hit(c Class, at uint64) {
	r := &s.open[c]
	if r.from != r.to && at >= r.from && at < r.to {
		r.to = at + Window
		return
	}
	s.closeRun(c)
	*r = run{at, at + Window}
}

func (s *Scan) close() {
	for c := range s.open {
		s.closeRun(Class(c))
	}
}

func (s *Scan) closeRun(c Class) {
	r, count := &s.open[c], &s.counts[c]
	length := int(r.to - r.from)
	if length >= s.patterns.classes[c].min {
		if count.Runs == 0 {
			count.First = r.from
		}
		count.Runs++
		if len(count.Places) < maxPlaces {
			count.Places = append(count.Places, Place{r.from, length})
		}
		count.Longest = max(count.Longest, length)
	}
	*r = run{}
}
