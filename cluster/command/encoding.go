package command

import (
	"bytes"
	"encoding/binary"

	"cloakroom"
)

// Format 1 of a command. Integers are big-endian; what a flag says is absent
// takes no bytes, and what is present is never zero (expected version apart).
//
//	offset  size  content
//	0       1     format, 1
//	1       1     kind
//	2       1     flags: bit 0 create-only, 1 expected version, 2 key tag,
//	              3 expiry, 4 value, 5 replace-only, 6 later expiry; 7 is zero
//	3       2     domain
//	5       4     schema epoch
//	9       16    subject token
//	25      8     version
//	33      8     [expected version]
//	        8     [key tag]
//	        4     [expiry, unix seconds]
//	        8     [value]
//	        2     number of fields, at most MaxFields
//	        …     fields, tokens strictly ascending, none the subject's own:
//	                16  token
//	                4   length of the record, at most MaxRecordBytes; 0: remove
//	                …   record
//	        1     [number of links, 1 to MaxLinks: a bind has them, others not]
//	        …     [links (link.go), tokens strictly ascending, none the subject's
//	              or a field's]
const (
	formatCommand = 1
	fixedBytes    = 33
	fieldBytes    = 16 + 4

	hasKeyTag Flags = 1 << 2
	hasExpiry Flags = 1 << 3
	hasValue  Flags = 1 << 4
	callers         = CreateOnly | HasExpected | ReplaceOnly | LaterExpiry
	allFlags        = callers | hasKeyTag | hasExpiry | hasValue
)

// wireFlags adds to the caller's flags those that tell what is present.
func (c *Command) wireFlags() Flags {
	f := c.Flags & callers
	if c.KeyTag != (KeyTag{}) {
		f |= hasKeyTag
	}
	if c.Expiry != 0 {
		f |= hasExpiry
	}
	if c.Value != 0 {
		f |= hasValue
	}
	return f
}

// Size returns the number of bytes [Command.Append] appends.
func (c *Command) Size() int {
	f := c.wireFlags()
	n := fixedBytes + 2 + len(c.Fields)*fieldBytes
	for i := range c.Fields {
		n += len(c.Fields[i].Record)
	}
	for _, part := range [...]struct {
		flag Flags
		size int
	}{{HasExpected, 8}, {hasKeyTag, 8}, {hasExpiry, 4}, {hasValue, 8}} {
		if f&part.flag != 0 {
			n += part.size
		}
	}
	if c.Kind == Bind || len(c.Links) > 0 {
		n++
		for i := range c.Links {
			n += c.Links[i].size()
		}
	}
	return n
}

// Append appends the command in format 1 to dst. Fields and links must be
// in order already ([Command.SortFields]); the shard refuses a command that is not.
func (c *Command) Append(dst []byte) []byte {
	f := c.wireFlags()
	dst = append(dst, formatCommand, byte(c.Kind), byte(f))
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.Domain))
	dst = binary.BigEndian.AppendUint32(dst, c.SchemaEpoch)
	dst = append(dst, c.Subject[:]...)
	dst = append(dst, c.Version[:]...)
	if f&HasExpected != 0 {
		dst = append(dst, c.Expected[:]...)
	}
	if f&hasKeyTag != 0 {
		dst = append(dst, c.KeyTag[:]...)
	}
	if f&hasExpiry != 0 {
		dst = binary.BigEndian.AppendUint32(dst, c.Expiry)
	}
	if f&hasValue != 0 {
		dst = binary.BigEndian.AppendUint64(dst, c.Value)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Fields)))
	for i := range c.Fields {
		field := &c.Fields[i]
		dst = append(dst, field.Token[:]...)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(field.Record)))
		dst = append(dst, field.Record...)
	}
	if c.Kind == Bind || len(c.Links) > 0 { // links of another kind are there to be refused
		dst = append(dst, byte(min(len(c.Links), MaxLinks+1)))
		for i := range c.Links {
			dst = c.Links[i].append(dst)
		}
	}
	return dst
}

// KindOf returns the kind of an encoded command without looking at the rest of
// it, 0 if there is none.
func KindOf(encoded []byte) Kind {
	if len(encoded) < 2 || encoded[0] != formatCommand {
		return 0
	}
	return Kind(encoded[1])
}

// Decode reads one command in format 1 into c, whose Fields and Links it
// reuses; the records alias b. It accepts exactly what [Command.Append] writes for a
// well-formed command, so accepted bytes encode to themselves again, and
// returns [cloakroom.ErrMalformed] for anything else. c is then undefined.
func Decode(b []byte, c *Command) error {
	r := reader{rest: b}
	if r.take(1)[0] != formatCommand {
		return cloakroom.ErrMalformed
	}
	kind, flags := Kind(r.take(1)[0]), Flags(r.take(1)[0])
	*c = Command{Kind: kind, Flags: flags & callers, Fields: c.Fields[:0], Links: c.Links[:0]}
	c.Domain = cloakroom.Domain(r.uint16())
	c.SchemaEpoch = r.uint32()
	c.Subject = cloakroom.Token(r.take(16))
	c.Version = cloakroom.Version(r.take(8))
	if flags&HasExpected != 0 {
		c.Expected = cloakroom.Version(r.take(8))
	}
	if flags&hasKeyTag != 0 {
		c.KeyTag = KeyTag(r.take(8))
	}
	if flags&hasExpiry != 0 {
		c.Expiry = r.uint32()
	}
	if flags&hasValue != 0 {
		c.Value = r.uint64()
	}
	if r.short || kind < Put || kind > Time || flags&^allFlags != 0 || c.wireFlags() != flags {
		return cloakroom.ErrMalformed
	}
	if err := c.decodeFields(&r); err != nil {
		return err
	}
	if kind == Bind {
		if err := c.decodeLinks(&r); err != nil {
			return err
		}
	}
	if r.short || len(r.rest) != 0 {
		return cloakroom.ErrMalformed
	}
	return nil
}

// decodeFields reads the fields.
func (c *Command) decodeFields(r *reader) error {
	count := int(r.uint16())
	if count > MaxFields {
		return cloakroom.ErrMalformed
	}
	for i := range count {
		token := cloakroom.Token(r.take(16))
		n := r.uint32()
		if n > MaxRecordBytes || token == c.Subject ||
			i > 0 && bytes.Compare(c.Fields[i-1].Token[:], token[:]) >= 0 {
			return cloakroom.ErrMalformed
		}
		field := Field{Token: token}
		if n > 0 {
			field.Record = r.take(int(n))
		}
		if r.short {
			return cloakroom.ErrMalformed
		}
		c.Fields = append(c.Fields, field)
	}
	return nil
}

// reader takes bytes from the front of a buffer. Once it runs out it says so
// in short and hands out zeros, so that callers check once.
type reader struct {
	rest  []byte
	short bool
}

// zeros is what a reader that ran out hands out for the fixed-size parts; it
// is never written to. Records are checked before they are used.
var zeros [16]byte

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.short, r.rest = true, nil
		return zeros[:min(n, len(zeros))]
	}
	part := r.rest[:n:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
