// Package dumptest looks for values and keys in the memory of a running node:
// it takes core dumps from outside, as root would, and searches them. It is
// test-only, and it knows what must not be found because the test put it
// there.
//
// The search is by windows: every 8-byte piece of every pattern is looked up
// at every byte of the dump, so a piece of a name left over in a buffer counts
// like the whole of it.
package dumptest

import (
	"encoding/binary"
	"math/bits"
)

// Window is the length, in bytes, of the pieces that are searched for.
const Window = 8

// Class says what kind of pattern was found, and in which form.
type Class uint8

// Patterns is a set of byte strings to search for. Add everything, then scan;
// it may be read by many scans at a time once nothing is added any more.
type Patterns struct {
	classes []class
	starts  [1 << 16 / 64]uint64 // a bit per first two bytes; stays in the nearest cache
	filter  []uint64             // a bit per hash
	keys    []uint64             // open addressing; 0 is free
	values  []Class
	used    int
}

type class struct {
	name string
	min  int // shortest run of bytes that counts
}

// Class declares a kind of pattern. A run of matching bytes counts from min
// bytes on, Window at least.
func (p *Patterns) Class(name string, min int) Class {
	if len(p.classes) == 255 {
		panic("dumptest: too many classes")
	}
	p.classes = append(p.classes, class{name: name, min: max(min, Window)})
	return Class(len(p.classes) - 1)
}

// Add puts every window of pattern into the set. Windows that are there
// already keep their class; windows with fewer than four different bytes are
// left out, since memory is full of those.
func (p *Patterns) Add(c Class, pattern []byte) {
	for at := 0; at+Window <= len(pattern); at++ {
		if w := pattern[at : at+Window]; distinct(w) >= 4 {
			p.insert(binary.LittleEndian.Uint64(w), c)
		}
	}
}

// Windows returns how many different windows are in the set.
func (p *Patterns) Windows() int { return p.used }

func distinct(w []byte) int {
	var seen [4]uint64
	n := 0
	for _, b := range w {
		if seen[b>>6]&(1<<(b&63)) == 0 {
			seen[b>>6] |= 1 << (b & 63)
			n++
		}
	}
	return n
}

const (
	hashFactor = 0x9e3779b97f4a7c15
	minSlots   = 1 << 10
	filterBits = 8 // per slot of the table
)

func (p *Patterns) insert(w uint64, c Class) {
	if 2*(p.used+1) > len(p.keys) {
		p.grow()
	}
	if at, found := p.find(w); !found {
		p.keys[at], p.values[at] = w, c
		p.used++
		p.mark(w)
	}
}

func (p *Patterns) grow() {
	keys, values := p.keys, p.values
	n := max(minSlots, 2*len(keys))
	p.keys, p.values = make([]uint64, n), make([]Class, n)
	p.filter = make([]uint64, n*filterBits/64)
	for i, w := range keys {
		if w != 0 {
			at, _ := p.find(w)
			p.keys[at], p.values[at] = w, values[i]
			p.mark(w)
		}
	}
}

// find returns the place of w in the table, or the free place where it goes.
func (p *Patterns) find(w uint64) (at int, found bool) {
	mask := len(p.keys) - 1
	at = int(w*hashFactor>>32) & mask
	for p.keys[at] != 0 {
		if p.keys[at] == w {
			return at, true
		}
		at = (at + 1) & mask
	}
	return at, false
}

func (p *Patterns) mark(w uint64) {
	p.starts[w>>6&0x3ff] |= 1 << (w & 63)
	h := w * hashFactor >> p.filterShift()
	p.filter[h>>6] |= 1 << (h & 63)
}

func (p *Patterns) filterShift() int {
	return 64 - bits.Len(uint(len(p.filter)*64-1))
}
