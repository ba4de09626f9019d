package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"cloakroom/cluster/disk"
)

// slots is a small file with two places for one value. It is as long as it will
// ever be from the start, so writing it needs no room on the disk. Each place:
//
//	offset  bytes  what (little endian)
//	0       8      magic "ckslot01"
//	8       8      serial number of the value, from 1; the higher one counts
//	16      4      length of the value, at most 400
//	20      4      zero
//	24      16     first half of SHA-256 over bytes 0 to 23 and the value
//	40      …      the value, then zeros up to 4096
//
// Both are written when the file is made, with no value: a place of zeros has
// lost what it held.
type slots struct {
	f      disk.File
	serial uint64
	sound  [2]bool // the place holds the newest value
}

const (
	slotMagic  = "ckslot01"
	slotBytes  = 4096 // a sector is written or not, so places don't share one
	slotHeader = 40
	maxSlot    = 400
)

// errSlots means that neither place can be read.
var errSlots = errors.New("both places are damaged")

func createSlots(fsys disk.FS, name string) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	place := encodeSlot(1, nil)
	_, err = f.WriteAt(append(place, place...), 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// openSlots reads the newest value, which is empty if none was ever written.
func openSlots(fsys disk.FS, name string) (s *slots, value []byte, err error) {
	f, err := fsys.Edit(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	s = &slots{f: f}
	var serials [2]uint64 // 0: damaged
	for i := range serials {
		place := make([]byte, slotBytes)
		if _, err := f.ReadAt(place, int64(i)*slotBytes); err != nil && err != io.EOF {
			return nil, nil, err
		}
		serial, content, err := decodeSlot(place)
		if err != nil {
			continue
		}
		serials[i] = serial
		if serial > s.serial {
			s.serial, value = serial, content
		}
	}
	if s.serial == 0 {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, errSlots)
	}
	s.sound = [2]bool{serials[0] == s.serial, serials[1] == s.serial}
	return s, value, nil
}

func encodeSlot(serial uint64, value []byte) []byte {
	place := make([]byte, slotBytes)
	copy(place, slotMagic)
	binary.LittleEndian.PutUint64(place[8:], serial)
	binary.LittleEndian.PutUint32(place[16:], uint32(len(value)))
	copy(place[slotHeader:], value)
	copy(place[24:], slotSum(place, len(value)))
	return place
}

func slotSum(place []byte, length int) []byte {
	h := sha256.New()
	h.Write(place[:24])
	h.Write(place[slotHeader : slotHeader+length])
	return h.Sum(nil)[:16]
}

// decodeSlot reads a place.
func decodeSlot(place []byte) (serial uint64, value []byte, err error) {
	if len(place) != slotBytes {
		return 0, nil, errors.New("short")
	}
	length := binary.LittleEndian.Uint32(place[16:])
	serial = binary.LittleEndian.Uint64(place[8:])
	if string(place[:8]) != slotMagic || length > maxSlot || serial == 0 ||
		string(place[24:slotHeader]) != string(slotSum(place, int(length))) ||
		!allZero(place[20:24]) || !allZero(place[slotHeader+length:]) {
		return 0, nil, errors.New("checksum")
	}
	return serial, place[slotHeader : slotHeader+length], nil
}

// put writes a value over the older one, and returns when it is durable. If it
// is lost or damaged later, the one before it is found.
func (s *slots) put(value []byte) error { return s.write(value, 1) }

// putBoth writes a value into both places, one after the other. Whichever is
// lost or damaged later, the value found is not older than this one.
func (s *slots) putBoth(value []byte) error { return s.write(value, 2) }

func (s *slots) write(value []byte, places int) error {
	s.serial++
	place := encodeSlot(s.serial, value)
	at := 0
	if s.sound[0] && !s.sound[1] {
		at = 1 // the newest value stays until the next is durable
	}
	for range places {
		s.sound[at] = false
		if _, err := s.f.WriteAt(place, int64(at)*slotBytes); err != nil {
			return err
		}
		if err := synced(s.f); err != nil {
			return err
		}
		s.sound[at] = true
		at = 1 - at
		s.sound[at] = false // it holds an older one now
	}
	if places == 2 {
		s.sound[0], s.sound[1] = true, true
	}
	return nil
}

func (s *slots) close() error { return s.f.Close() }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
