package wire

import (
	"encoding/binary"
	"slices"

	"cloakroom"
	"cloakroom/cluster/command"
)

const (
	// MaxReadTokens bounds the tokens of one [ReadRequest]. A reply is full with
	// as many records of 128 bytes; who wants more asks again.
	MaxReadTokens = MaxReadBytes / 128
	// MaxReadBytes is how many bytes of records a [ReadReply] carries at most.
	// The largest record fits many times, so a reply always answers something.
	MaxReadBytes = 1 << 20
)

// ReadRequest asks for the records of tokens, of many groups at once.
//
//	offset  size  content
//	0       1     format, 1
//	1       1     level
//	2       4     number of parts, at most MaxGroups
//	6       …     parts, groups strictly ascending: 4 group, 4 generation,
//	              8 index to wait for, of that generation, 0: none,
//	              8 term of the asker's own replica of the group,
//	              2+… ID of that replica, empty: it says nothing,
//	              4 number of tokens, 16 × tokens; at most MaxReadTokens in all
//
// The term is the asker's vote in a confirm round: with it and its own a
// leader of three needs no round. Without an ID there is none.
type ReadRequest struct {
	Level cloakroom.Level
	Parts []ReadPart

	tokens []cloakroom.Token // decoded, of all parts
}

// ReadPart is one group's part of a [ReadRequest].
type ReadPart struct {
	Group, Generation uint32
	Index             uint64 // to wait for; 0: none
	Term              uint64 // of Replica, when the asker wrote this
	Replica           []byte // ID of the asker's own replica of the group; aliases the message
	Tokens            []cloakroom.Token
}

const (
	readHead     = 6
	readPartHead = 30
	tokenBytes   = 16
)

// Append appends the message to dst.
func (m *ReadRequest) Append(dst []byte) []byte {
	size := readHead
	for i := range m.Parts {
		size += readPartHead + len(m.Parts[i].Replica) + len(m.Parts[i].Tokens)*tokenBytes
	}
	dst = slices.Grow(dst, size)
	dst = append(dst, format, byte(m.Level))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Parts)))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = binary.BigEndian.AppendUint32(dst, p.Group)
		dst = binary.BigEndian.AppendUint32(dst, p.Generation)
		dst = binary.BigEndian.AppendUint64(dst, p.Index)
		dst = binary.BigEndian.AppendUint64(dst, p.Term)
		id := p.Replica[:min(len(p.Replica), MaxStringBytes)]
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(id)))
		dst = append(dst, id...)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Tokens)))
		for j := range p.Tokens {
			dst = append(dst, p.Tokens[j][:]...)
		}
	}
	return dst
}

// Decode reads one message and reuses its memory; the tokens are copies, good
// until the next Decode.
func (m *ReadRequest) Decode(b []byte) error {
	r := open(b)
	m.Level = cloakroom.Level(r.byte())
	r.demand(m.Level <= cloakroom.Linearizable)
	parts := r.count(MaxGroups, readPartHead)
	m.Parts, m.tokens = slices.Grow(m.Parts[:0], parts)[:parts], slices.Grow(m.tokens[:0], min(len(r.rest)/tokenBytes, MaxReadTokens))
	for i := range m.Parts {
		p := &m.Parts[i]
		p.Group, p.Generation, p.Index, p.Term, p.Replica = r.uint32(), r.uint32(), r.uint64(), r.uint64(), r.raw()
		r.demand(p.Term == 0 || len(p.Replica) > 0)
		r.demand(i == 0 || m.Parts[i-1].Group < p.Group)
		n := r.count(MaxReadTokens-len(m.tokens), tokenBytes)
		from := len(m.tokens)
		for b := r.take(n * tokenBytes); len(b) > 0; b = b[tokenBytes:] {
			m.tokens = append(m.tokens, cloakroom.Token(b))
		}
		p.Tokens = m.tokens[from:len(m.tokens):len(m.tokens)]
	}
	return r.end()
}

// ReadReply answers a [ReadRequest], its parts in the same order.
//
//	offset  size  content
//	0       1     format, 1
//	1       8     shard time, unix milliseconds
//	9       4     schema epoch
//	13      4     number of parts, at most MaxGroups
//	17      …     parts: 1 code, then
//	              ok: 4 number of tokens answered, 4 × length of each record,
//	                  0: there is none, at most command.MaxRecordBytes
//	              otherwise: 2+… ID of the replica that leads, empty if unknown
//	        …     the records, one after the other
//
// A part may answer only the first of its tokens, or none, when the records
// would be more than [MaxReadBytes] together ([ReadReply.Limit]): the asker
// asks again for the rest.
type ReadReply struct {
	Time   uint64 // the latest shard time of the parts
	Schema uint32 // the highest schema epoch that their shards have heard of
	Parts  []ReadAnswer
	Buf    []byte // where the spans of all parts point to

	spans []command.Span // decoded, of all parts
}

// ReadAnswer is one group's part of a [ReadReply]. Spans are there if Code is
// [OK], Hint if not.
type ReadAnswer struct {
	Code  Code
	Hint  string
	Spans []command.Span // in Buf of the reply; one for each token answered
}

// Limit cuts the spans off where the records would be more than
// [MaxReadBytes] together. What follows the first token cut off is cut off as
// well, in later parts too.
func (m *ReadReply) Limit() {
	left, full := uint64(MaxReadBytes), false
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.Code != OK {
			continue
		}
		n := 0
		for ; !full && n < len(p.Spans); n++ {
			if full = uint64(p.Spans[n].Len) > left; full {
				break
			}
			left -= uint64(p.Spans[n].Len)
		}
		p.Spans = p.Spans[:n]
	}
}

// Append appends the message to dst. The spans may point anywhere in Buf.
func (m *ReadReply) Append(dst []byte) []byte {
	dst = slices.Grow(dst, m.size())
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint64(dst, m.Time)
	dst = binary.BigEndian.AppendUint32(dst, m.Schema)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Parts)))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = append(dst, byte(p.Code))
		if p.Code != OK {
			dst = appendString(dst, p.Hint)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Spans)))
		for _, span := range p.Spans {
			dst = binary.BigEndian.AppendUint32(dst, span.Len)
		}
	}
	for i := range m.Parts {
		if p := &m.Parts[i]; p.Code == OK {
			for _, span := range p.Spans {
				dst = append(dst, m.Buf[span.Off:span.Off+span.Len]...)
			}
		}
	}
	return dst
}

// size is about how many bytes Append appends: hints come on top.
func (m *ReadReply) size() int {
	n := 17
	for i := range m.Parts {
		p := &m.Parts[i]
		n += 5 + 4*len(p.Spans)
		for _, span := range p.Spans {
			n += int(span.Len)
		}
	}
	return n
}

// Decode reads one message and reuses its memory. Buf aliases b and holds the
// records of all parts in order; the spans are good until the next Decode.
func (m *ReadReply) Decode(b []byte) error {
	r := open(b)
	m.Time, m.Schema = r.uint64(), r.uint32()
	parts := r.count(MaxGroups, 1)
	m.Parts, m.spans = slices.Grow(m.Parts[:0], parts)[:parts], slices.Grow(m.spans[:0], min(len(r.rest)/4, MaxReadTokens))
	total := uint64(0)
	for i := range m.Parts {
		p := &m.Parts[i]
		*p = ReadAnswer{Code: r.code()}
		if p.Code != OK {
			p.Hint = r.string()
			continue
		}
		from := len(m.spans)
		lengths := r.take(4 * r.count(MaxReadTokens-len(m.spans), 4))
		for ; len(lengths) > 0; lengths = lengths[4:] {
			span := command.Span{Off: uint32(total), Len: binary.BigEndian.Uint32(lengths)}
			r.demand(span.Len <= command.MaxRecordBytes)
			if span.Len == 0 {
				span.Off = 0
			}
			total += uint64(span.Len)
			m.spans = append(m.spans, span)
		}
		p.Spans = m.spans[from:len(m.spans):len(m.spans)]
	}
	m.Buf = r.take(int(total))
	return r.end()
}
