package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"cloakroom"
)

// Format 1 of a snapshot. Integers are big-endian.
//
//	offset  size  content
//	0       8     "CLKSNAPS"
//	8       2     format, 1
//	10      16    cluster id
//	26      4     group: 0 the directory, 1+n shard n
//	30      4     generation of the group, from 1
//	34      8     log index of the last entry in the state
//	42      8     its term
//	50      8     created, Unix milliseconds
//	58      2     key epoch of the snapshot identity, from 1
//	60      2     lowest key epoch a record may be sealed under; 0: no records are
//	62      2     highest such epoch; 0: no records are
//	64      8     number of records
//	72      8     of them living subjects
//	80      8     of them erased marks
//	88      8     payload: bytes of the state in the age stream
//	96      1643  age header and nonce, for one mlkem768x25519 recipient
//	1739    …     chunks: 65536 bytes of the payload each but the last, and
//	              16 of authentication; the last is not empty unless the payload is
//	        8     id of the signing key: the first bytes of SHA-256 of its public half
//	        64    signature, in context "snapshot", of
//	              bytes 0–95 ‖ SHA-256 of everything from byte 96 up to the key id
//
// The length follows from the payload's, see [Size]. Nothing comes after it.
const (
	magic       = "CLKSNAPS"
	format      = 1
	headerBytes = 96

	// An age file for one hybrid recipient has one header length: the
	// encapsulated key has 1120 bytes, the wrapped file key 32, the MAC 32, in
	// base64 without padding.
	ageHeaderBytes = len("age-encryption.org/v1\n") +
		len("-> mlkem768x25519 \n") + 1494 +
		43 + len("\n") +
		len("--- \n") + 43
	ageNonceBytes = 16
	chunkBytes    = 64 << 10
	chunkTagBytes = 16

	keyIDBytes     = 8
	signatureBytes = 64
	trailerBytes   = keyIDBytes + signatureBytes

	// maxPayload keeps every sum of lengths within an int64.
	maxPayload = math.MaxInt64 / 2
)

// Context is the context of the signature; see the keyring's Sign.
const Context = "snapshot"

// The reasons to refuse a snapshot. Whatever the source of the bytes returned
// is passed on as it is: a connection that broke says nothing about them.
var (
	ErrFormat    = errors.New("not a snapshot of format 1")
	ErrOther     = errors.New("snapshot of something else")
	ErrDamaged   = errors.New("snapshot is damaged, cut short or too long")
	ErrSignature = errors.New("snapshot is not signed by this cluster")
)

// Origin says what a snapshot is a snapshot of.
type Origin struct {
	Cluster    [16]byte
	Group      uint32 // 0 the directory, 1+n shard n
	Generation uint32 // of the group, from 1
	Index      uint64 // of the last log entry in the state
	Term       uint64 // of that entry
}

// Header is the part of a snapshot that is readable without keys. It is to be
// believed only once the signature was checked.
type Header struct {
	Origin
	Created int64           // Unix milliseconds
	Epoch   cloakroom.Epoch // of the snapshot identity it is sealed to
	// Lowest and Highest bound the key epochs that the records in it may be
	// sealed under: what a restore needs. Both are 0 where there are none.
	Lowest, Highest cloakroom.Epoch
	// What a shard counts; the directory leaves them 0.
	Records, Living, Erased uint64
	Payload                 int64 // length of the state in bytes
}

// Size is the exact length in bytes of a snapshot whose state has payload
// bytes.
func Size(payload int64) int64 {
	return headerBytes + streamBytes(payload) + trailerBytes
}

// streamBytes is the length of the age stream.
func streamBytes(payload int64) int64 {
	chunks := max(1, (payload+chunkBytes-1)/chunkBytes)
	return int64(ageHeaderBytes) + ageNonceBytes + payload + chunks*chunkTagBytes
}

// ReadHeader reads the header of a snapshot from r and nothing after it. It
// checks the form, not the signature. It returns [ErrFormat] for anything else
// than a header.
func ReadHeader(r io.Reader) (Header, error) {
	var b [headerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return Header{}, fmt.Errorf("read snapshot header: %w", ErrFormat)
	} else if err != nil {
		return Header{}, fmt.Errorf("read snapshot header: %w", err)
	}
	h, err := decodeHeader(&b)
	if err != nil {
		return Header{}, fmt.Errorf("read snapshot header: %w", err)
	}
	return h, nil
}

// append appends the encoded header to dst.
func (h *Header) append(dst []byte) []byte {
	be := binary.BigEndian
	dst = append(dst, magic...)
	dst = be.AppendUint16(dst, format)
	dst = append(dst, h.Cluster[:]...)
	dst = be.AppendUint32(dst, h.Group)
	dst = be.AppendUint32(dst, h.Generation)
	dst = be.AppendUint64(dst, h.Index)
	dst = be.AppendUint64(dst, h.Term)
	dst = be.AppendUint64(dst, uint64(h.Created))
	for _, e := range []cloakroom.Epoch{h.Epoch, h.Lowest, h.Highest} {
		dst = be.AppendUint16(dst, uint16(e))
	}
	for _, n := range []uint64{h.Records, h.Living, h.Erased, uint64(h.Payload)} {
		dst = be.AppendUint64(dst, n)
	}
	return dst
}

func decodeHeader(b *[headerBytes]byte) (Header, error) {
	be := binary.BigEndian
	if string(b[:8]) != magic || be.Uint16(b[8:]) != format {
		return Header{}, ErrFormat
	}
	h := Header{
		Origin: Origin{
			Cluster: [16]byte(b[10:]), Group: be.Uint32(b[26:]), Generation: be.Uint32(b[30:]),
			Index: be.Uint64(b[34:]), Term: be.Uint64(b[42:]),
		},
		Created: int64(be.Uint64(b[50:])),
		Epoch:   cloakroom.Epoch(be.Uint16(b[58:])),
		Lowest:  cloakroom.Epoch(be.Uint16(b[60:])),
		Highest: cloakroom.Epoch(be.Uint16(b[62:])),
		Records: be.Uint64(b[64:]), Living: be.Uint64(b[72:]), Erased: be.Uint64(b[80:]),
		Payload: int64(be.Uint64(b[88:])),
	}
	if faults := h.faults(); faults != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrFormat, faults)
	}
	return h, nil
}

// faults returns everything that no header says.
func (h *Header) faults() error {
	var all []error
	fault := func(is bool, text string) {
		if is {
			all = append(all, errors.New(text))
		}
	}
	fault(h.Cluster == [16]byte{}, "no cluster")
	fault(h.Generation == 0, "generation 0")
	fault(h.Created < 0, "created before 1970")
	fault(h.Epoch == 0, "epoch 0")
	fault(h.Lowest > h.Highest || (h.Lowest == 0) != (h.Highest == 0), "no range of epochs")
	fault(h.Living > h.Records || h.Erased > h.Records-min(h.Living, h.Records), "counts that contradict each other")
	fault(h.Payload < 0 || h.Payload > maxPayload, "a payload of no length")
	return errors.Join(all...)
}

// differs names what of o is not as wanted, or returns "".
func (o *Origin) differs(want *Origin) string {
	switch {
	case o.Cluster != want.Cluster:
		return "another cluster"
	case o.Group != want.Group:
		return "another group"
	case o.Generation != want.Generation:
		return "another generation"
	case o.Index != want.Index || o.Term != want.Term:
		return "another index or term"
	}
	return ""
}
