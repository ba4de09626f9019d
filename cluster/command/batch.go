package command

import (
	"encoding/binary"

	"cloakroom"
)

// Format 1 of a batch, the plaintext of one log entry (it is sealed as a whole
// before Raft sees it). Integers are big-endian.
//
//	offset  size  content
//	0       1     format, 1
//	1       4     number of items
//	5       …     items: 4 length, … command
const (
	formatBatch = 1
	// ItemOverhead is what each item adds to its command, in bytes.
	ItemOverhead = 4
)

// AppendBatch appends a batch of the commands to dst.
func AppendBatch(dst []byte, commands []Command) []byte {
	at := len(dst)
	dst = BeginBatch(dst)
	for i := range commands {
		dst = AppendItem(dst, &commands[i])
	}
	EndBatch(dst[at:], len(commands))
	return dst
}

// BeginBatch appends the head of a batch to dst; [AppendItem] and
// [AppendEncoded] add to it and [EndBatch] closes it.
func BeginBatch(dst []byte) []byte {
	return append(dst, formatBatch, 0, 0, 0, 0)
}

// AppendItem appends one command to a batch begun with [BeginBatch].
func AppendItem(dst []byte, c *Command) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Size()))
	return c.Append(dst)
}

// AppendEncoded appends a command that [Command.Append] encoded to a batch
// begun with [BeginBatch].
func AppendEncoded(dst, encoded []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(encoded)))
	return append(dst, encoded...)
}

// EndBatch writes the number of items into the head; batch starts at the head.
func EndBatch(batch []byte, items int) {
	binary.BigEndian.PutUint32(batch[1:], uint32(items))
}

// Batch walks over the items of an encoded batch, which it aliases.
type Batch struct {
	rest  []byte
	items int
}

// OpenBatch checks the frame of a whole batch, not the commands in it. It
// returns [cloakroom.ErrMalformed] for a frame that [AppendBatch] does not
// write.
func OpenBatch(b []byte) (Batch, error) {
	r := reader{rest: b}
	if r.take(1)[0] != formatBatch {
		return Batch{}, cloakroom.ErrMalformed
	}
	items := r.uint32()
	if uint64(items)*ItemOverhead > uint64(len(r.rest)) {
		return Batch{}, cloakroom.ErrMalformed
	}
	batch := Batch{rest: r.rest, items: int(items)}
	for range items {
		n := r.uint32()
		if uint64(n) > uint64(len(r.rest)) {
			return Batch{}, cloakroom.ErrMalformed
		}
		r.take(int(n))
	}
	if r.short || len(r.rest) != 0 {
		return Batch{}, cloakroom.ErrMalformed
	}
	return batch, nil
}

// Len returns how many items are left.
func (b *Batch) Len() int { return b.items }

// Next returns the next item, an encoded command, and false at the end.
func (b *Batch) Next() ([]byte, bool) {
	if b.items == 0 {
		return nil, false
	}
	b.items--
	r := reader{rest: b.rest}
	item := r.take(int(r.uint32()))
	b.rest = r.rest
	return item, true
}
