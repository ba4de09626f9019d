package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cloakroom/cluster/disk"

	"github.com/hashicorp/raft"
)

// A segment is a file of the log, its number as 16 hex digits and ".seg":
//
//	offset  bytes  what (little endian)
//	0       8      magic "ckseg001"
//	8       8      number, from 1
//	16      8      base: index of its first entry
//	24      4      1: what earlier segments hold below the base stays;
//	               0: nothing of them does
//	28      4      zero
//	32      16     first half of SHA-256 over the identity
//	48      16     first half of SHA-256 over bytes 0 to 47
//	64      …      records, then zeros
//
// What earlier segments hold from the base on counts no more. So a new segment
// is also how the log is cut back, and the cut is one rename.
type segment struct {
	name   string // path
	number uint64
	base   uint64
	keep   bool
	sum    [16]byte // checksum of the header; its records' checksums begin with it

	f    disk.File // open in the last one only
	used int       // bytes of header and records
	size int       // of the file
}

const (
	segmentMagic  = "ckseg001"
	segmentHeader = 64
	segmentSuffix = ".seg"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// hash binds segments and snapshots to their replica.
func (id Identity) hash() []byte {
	text, err := json.Marshal(id)
	if err != nil {
		panic(err) // strings and a number
	}
	sum := sha256.Sum256(text)
	return sum[:16]
}

func (g *segment) header(id Identity) []byte {
	h := make([]byte, segmentHeader)
	copy(h, segmentMagic)
	binary.LittleEndian.PutUint64(h[8:], g.number)
	binary.LittleEndian.PutUint64(h[16:], g.base)
	if g.keep {
		h[24] = 1
	}
	copy(h[32:], id.hash())
	sum := sha256.Sum256(h[:48])
	copy(h[48:], sum[:16])
	return h
}

var errSegment = errors.New("header of a segment")

// decodeSegment reads a header.
func decodeSegment(h []byte, id Identity) (*segment, error) {
	if len(h) < segmentHeader {
		return nil, fmt.Errorf("%w: %w: short", ErrDamaged, errSegment)
	}
	g := &segment{number: binary.LittleEndian.Uint64(h[8:]), base: binary.LittleEndian.Uint64(h[16:]), keep: h[24] == 1}
	if string(g.header(id)) != string(h[:segmentHeader]) || g.base == 0 {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, errSegment)
	}
	copy(g.sum[:], h[48:])
	return g, nil
}

// make writes the segment's file with its first entries, which is there for
// good when it returns, or not at all. size is how long it gets at least.
func (g *segment) make(fsys disk.FS, dir string, id Identity, size int, logs []*raft.Log) error {
	g.name = filepath.Join(dir, segmentName(g.number))
	content := g.header(id)
	copy(g.sum[:], content[48:])
	for _, entry := range logs {
		content = appendRecord(content, g.sum[:], entry, logs[0].Index)
	}
	size = max(size, len(content))
	temp := g.name + disk.TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	err = f.Allocate(int64(size))
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil {
		err = synced(f)
	}
	if err == nil {
		err = fsys.Rename(temp, g.name)
	}
	if err != nil {
		fsys.Remove(temp) // as well as may be: the next Open does it
		return errors.Join(err, f.Close())
	}
	if err := syncedDir(fsys, dir); err != nil {
		return errors.Join(err, f.Close())
	}
	g.f, g.used, g.size = f, len(content), size
	return nil
}

// segmentNumbers returns the numbers of the segments in a folder, ascending.
func segmentNumbers(fsys disk.FS, dir string) ([]uint64, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, entry := range entries {
		hex, ok := strings.CutSuffix(entry.Name(), segmentSuffix)
		if !ok {
			continue
		}
		var number uint64
		if _, err := fmt.Sscanf(hex, "%016x", &number); err != nil || segmentName(number) != entry.Name() {
			return nil, fmt.Errorf("%w: file %s", ErrDamaged, entry.Name())
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers, nil
}

// scan returns the records of a segment, in order, up to the first place where
// none is, and how many bytes they take with the header.
func scan(content []byte, g *segment) (records []record, used int) {
	used = segmentHeader
	for next := g.base; ; next++ {
		r, size, err := decodeRecord(content[used:], g.sum[:])
		if err != nil || r.Index != next {
			return records, used
		}
		records = append(records, r)
		used += size
	}
}

// later returns whether a record stands behind the end of the log that was
// written after the entry end+1 had been made durable: that one is gone then,
// and was no write cut short. One that was written together with it may well
// stand there while it does not.
func later(content []byte, g *segment, used int, end uint64) bool {
	for at := used; at+recordHeader <= len(content); at += 8 {
		r, _, err := decodeRecord(content[at:], g.sum[:])
		if err == nil && r.first > end+1 {
			return true
		}
	}
	return false
}
