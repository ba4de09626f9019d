package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// A record is an entry in a segment. It begins at a multiple of 8:
//
//	offset  bytes  what (little endian)
//	0       4      magic "ckrc"
//	4       4      length of data
//	8       4      length of extensions
//	12      1      type, as raft has it
//	13      3      zero
//	16      8      index
//	24      8      term
//	32      8      appended at, unix nanoseconds
//	40      8      index of the first entry that was written with it
//	48      16     first half of SHA-256 over the segment's checksum, bytes 0 to
//	               47 and what follows here
//	64      …      data, extensions, zeros up to a multiple of 8
//
// Zeros follow the last record of a segment.
type record struct {
	raft.Log
	first uint64 // of those written together
}

const (
	recordMagic  = "ckrc"
	recordHeader = 64
	// maxEntry bounds what a length may say, so that a damaged one is not
	// believed; raft's entries are under 1 MiB here.
	maxEntry = 64 << 20
)

var errRecord = errors.New("no record")

func padded(n int) int { return (n + 7) &^ 7 }

// recordSize returns how many bytes an entry takes.
func recordSize(log *raft.Log) int {
	return recordHeader + padded(len(log.Data)+len(log.Extensions))
}

// appendRecord appends an entry to dst. seed is the checksum of the segment.
func appendRecord(dst, seed []byte, log *raft.Log, first uint64) []byte {
	at := len(dst)
	dst = append(dst, recordMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(log.Data)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(log.Extensions)))
	dst = append(dst, byte(log.Type), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, log.Index)
	dst = binary.LittleEndian.AppendUint64(dst, log.Term)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(nanos(log.AppendedAt)))
	dst = binary.LittleEndian.AppendUint64(dst, first)
	dst = append(dst, make([]byte, 16)...)
	dst = append(dst, log.Data...)
	dst = append(dst, log.Extensions...)
	for (len(dst)-at)%8 != 0 {
		dst = append(dst, 0)
	}
	copy(dst[at+48:], recordSum(seed, dst[at:]))
	return dst
}

func recordSum(seed, rec []byte) []byte {
	h := sha256.New()
	h.Write(seed)
	h.Write(rec[:48])
	h.Write(rec[recordHeader:])
	return h.Sum(nil)[:16]
}

// decodeRecord reads the record at the beginning of b and returns its size. It
// aliases b.
func decodeRecord(b, seed []byte) (r record, size int, err error) {
	if len(b) < recordHeader || string(b[:4]) != recordMagic {
		return r, 0, errRecord
	}
	data, ext := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if data > maxEntry || ext > maxEntry {
		return r, 0, errRecord
	}
	size = recordHeader + padded(int(data)+int(ext))
	if size > len(b) || string(b[48:recordHeader]) != string(recordSum(seed, b[:size])) {
		return r, 0, errRecord
	}
	body := b[recordHeader:size]
	r.Type = raft.LogType(b[12])
	r.Index = binary.LittleEndian.Uint64(b[16:])
	r.Term = binary.LittleEndian.Uint64(b[24:])
	r.AppendedAt = fromNanos(int64(binary.LittleEndian.Uint64(b[32:])))
	r.first = binary.LittleEndian.Uint64(b[40:])
	r.Data, r.Extensions = body[:data:data], body[data:data+ext:data+ext]
	if !allZero(b[13:16]) || !allZero(body[data+ext:]) || r.Index == 0 || r.first == 0 || r.first > r.Index {
		return r, 0, errRecord
	}
	return r, size, nil
}

// nanos stands for no time as the zero time does, which has no UnixNano.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
