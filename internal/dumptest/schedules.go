package dumptest

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// FindSchedules returns the keys of all whole AES-128 and AES-256 key
// schedules for encryption in the memory of a core file, whoever made them.
// It does what aeskeyfind does for memory without bit errors, at the speed of
// reading, and where that is not installed; words may be in either byte order.
func FindSchedules(path string) ([][]byte, error) {
	finder := scheduleFinder{box: sbox(), seen: map[string]bool{}}
	err := eachSegment(path, func(r io.Reader) error { return inChunks(r, maxSchedule-4, finder.search) })
	return finder.keys, err
}

const maxSchedule = 240 // bytes of an AES-256 schedule

type scheduleFinder struct {
	box  [256]byte
	seen map[string]bool
	keys [][]byte
}

// search looks at every aligned word that has room for a schedule behind it.
func (f *scheduleFinder) search(b []byte) {
	for at := 0; at+176 <= len(b); at += 4 {
		if at+8 <= len(b) && binary.LittleEndian.Uint64(b[at:]) == 0 {
			at += zeros(b[at+8:]) &^ 3
			continue
		}
		for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
			f.try(b[at:], 4, 176, order)
			f.try(b[at:], 8, maxSchedule, order)
		}
	}
}

// try checks one word of the schedule, and all of it if that fits.
func (f *scheduleFinder) try(b []byte, nk, size int, order binary.ByteOrder) {
	if len(b) < size {
		return
	}
	last := order.Uint32(b[4*(nk-1):])
	if order.Uint32(b[4*nk:]) != order.Uint32(b)^subWord(f.box, last<<8|last>>24)^0x01000000 {
		return
	}
	var key []byte
	for i := range nk {
		key = binary.BigEndian.AppendUint32(key, order.Uint32(b[4*i:]))
	}
	enc, _ := expandKey(key)
	for i, w := range enc {
		if order.Uint32(b[4*i:]) != w {
			return
		}
	}
	if !f.seen[string(key)] {
		f.seen[string(key)] = true
		f.keys = append(f.keys, key)
	}
}

// Condense writes the memory of a core file to another, without its empty
// pages: most of a dump is address space that nobody touched, and aeskeyfind
// takes half a minute over a gigabyte of it.
func Condense(path, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var failed error
	err = eachSegment(path, func(r io.Reader) error {
		return inChunks(r, 0, func(b []byte) {
			for page := range slices.Chunk(b, pageBytes) {
				if zeros(page) < len(page) && failed == nil {
					_, failed = out.Write(page)
				}
			}
		})
	})
	if failed == nil {
		failed = err
	}
	if err := out.Close(); failed == nil {
		failed = err
	}
	return failed
}

const pageBytes = 4096

func eachSegment(path string, visit func(r io.Reader) error) error {
	core, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read core: %w", err)
	}
	defer core.Close()
	for _, prog := range core.Progs {
		if prog.Type == elf.PT_LOAD {
			if err := visit(prog.Open()); err != nil {
				return fmt.Errorf("read core: %w", err)
			}
		}
	}
	return nil
}

// inChunks calls visit for pieces of what r holds; each begins with the last
// keep bytes of the one before.
func inChunks(r io.Reader, keep int, visit func([]byte)) error {
	buf := make([]byte, keep+chunkBytes)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:kept+chunkBytes])
		visit(buf[:kept+n])
		switch err {
		case nil:
			kept = copy(buf, buf[kept+n-min(keep, kept+n):kept+n])
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
