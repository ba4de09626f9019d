package state

import (
	"encoding/binary"

	"cloakroom"
	"cloakroom/cluster/command"
)

// Format 1 of the state stream. Integers are big-endian.
//
//	offset  size  content
//	0       8     "CLKSTATE"
//	8       2     format, 1
//	10      8     log index of the last entry applied
//	18      32    rolling hash of the applied prefix
//	50      8     shard time, unix milliseconds
//	58      4     highest schema epoch seen
//	62      8     number of records
//	70      8     of them living subjects
//	78      8     of them erased marks
//	86      …     records, tokens strictly ascending:
//	                16  token
//	                4   bit 31: subject record, also of an alias or a handle;
//	                    bits 0–30: length
//	                …   record
//	        32    SHA-256 of everything before
const (
	streamMagic  = "CLKSTATE"
	streamFormat = 1
	headerBytes  = 86
	recordHead   = 16 + 4
	subjectBit   = 1 << 31
)

// header is what stands before the records of a stream.
type header struct {
	applied uint64
	hash    [32]byte
	time    uint64
	schema  uint32
	records uint64
	living  uint64
	erased  uint64
}

// header returns the header of the present state; the caller holds mu.
func (m *Machine) header() header {
	return header{
		applied: m.applied, hash: m.hash, time: m.time, schema: m.schema,
		records: uint64(m.index.count), living: uint64(m.counts.living), erased: uint64(m.counts.erased),
	}
}

func (h *header) append(dst []byte) []byte {
	dst = append(dst, streamMagic...)
	dst = binary.BigEndian.AppendUint16(dst, streamFormat)
	dst = binary.BigEndian.AppendUint64(dst, h.applied)
	dst = append(dst, h.hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.time)
	dst = binary.BigEndian.AppendUint32(dst, h.schema)
	dst = binary.BigEndian.AppendUint64(dst, h.records)
	dst = binary.BigEndian.AppendUint64(dst, h.living)
	return binary.BigEndian.AppendUint64(dst, h.erased)
}

// decodeHeader reads a header; it refuses other formats and counts that can't
// be.
func decodeHeader(b *[headerBytes]byte) (h header, ok bool) {
	if string(b[:8]) != streamMagic || binary.BigEndian.Uint16(b[8:]) != streamFormat {
		return header{}, false
	}
	h.applied = binary.BigEndian.Uint64(b[10:])
	copy(h.hash[:], b[18:])
	h.time = binary.BigEndian.Uint64(b[50:])
	h.schema = binary.BigEndian.Uint32(b[58:])
	h.records = binary.BigEndian.Uint64(b[62:])
	h.living = binary.BigEndian.Uint64(b[70:])
	h.erased = binary.BigEndian.Uint64(b[78:])
	return h, h.living <= h.records && h.erased <= h.records-h.living
}

// appendRecord appends one record of the stream to dst.
func appendRecord(dst []byte, token *cloakroom.Token, record []byte, m mark) []byte {
	n := uint32(len(record))
	if m&subject != 0 {
		n |= subjectBit
	}
	dst = append(dst, token[:]...)
	dst = binary.BigEndian.AppendUint32(dst, n)
	return append(dst, record...)
}

// decodeRecordHead reads the head of a record and refuses lengths that no
// command brings.
func decodeRecordHead(b *[recordHead]byte) (token cloakroom.Token, length int, m mark, ok bool) {
	token = cloakroom.Token(b[:16])
	n := binary.BigEndian.Uint32(b[16:])
	limit := uint32(command.MaxRecordBytes)
	if n&subjectBit != 0 {
		m, n, limit = subject, n&^subjectBit, command.MaxSubjectRecord
	}
	return token, int(n), m, n > 0 && n <= limit
}
