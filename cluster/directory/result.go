package directory

import (
	"encoding/binary"
	"fmt"

	"cloakroom"
)

// Code says what became of a command.
type Code uint8

// The codes.
const (
	Done      Code = 0
	Malformed Code = 1 // the command can't be read
	Invalid   Code = 2 // it breaks a rule; Detail says which
	Conflict  Code = 3 // the state is not the expected one, or a name, credential or identity is taken
	NotFound  Code = 4 // what it names is not there
	Exhausted Code = 5 // no number or no place is left
	Already   Code = 6 // what it asks for is so: a repeat, or somebody else was first
	Denied    Code = 7 // who asks may not
	Used      Code = 8 // the join token was used before
	Expired   Code = 9 // the join token has expired
)

// Result is what a command came to. Nothing changed unless Code is [Done].
type Result struct {
	Code          Code
	Epoch         uint64 // of the view after the command
	SchemaEpoch   uint32
	SealingNumber cloakroom.SealingNumber // of NextSealing
	Domain        cloakroom.Domain        // of PutDomain
	Detail        string                  // for the operator: names of fields, principals and groups, nothing else
}

// Err returns nil for Done and Already, otherwise an error that wraps [cloakroom.ErrMalformed],
// [cloakroom.ErrSchema], [cloakroom.ErrConflict], [cloakroom.ErrNotFound] or [cloakroom.ErrDenied].
func (r *Result) Err() error {
	var kind error
	switch r.Code {
	case Done, Already:
		return nil
	case Malformed:
		kind = cloakroom.ErrMalformed
	case Invalid:
		kind = cloakroom.ErrSchema
	case NotFound:
		kind = cloakroom.ErrNotFound
	case Denied:
		kind = cloakroom.ErrDenied
	default:
		kind = cloakroom.ErrConflict
	}
	return fmt.Errorf("change directory: %w", cloakroom.Because(kind, r.Detail))
}

// ResultFormat is the number of the encoding of a result, which travels to
// whoever asked another node to carry out the command. Big-endian:
//
//	offset  bytes  what
//	0       1      format, 1
//	1       1      code
//	2       8      epoch
//	10      4      schema epoch
//	14      4      sealing number
//	18      2      domain
//	20      …      detail, to the end
const ResultFormat = 1

// resultHeader is where the detail starts.
const resultHeader = 20

// MaxResultBytes bounds an encoded result.
const MaxResultBytes = resultHeader + maxDetail

// maxDetail bounds what an operator reads; a schema with a fault in every field
// of a hostile list would say more than anybody wants.
const maxDetail = 16 << 10

// Append appends the encoding of r to dst. A longer detail is cut off.
func (r *Result) Append(dst []byte) []byte {
	dst = append(dst, ResultFormat, byte(r.Code))
	dst = binary.BigEndian.AppendUint64(dst, r.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, r.SchemaEpoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.SealingNumber))
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Domain))
	return append(dst, r.Detail[:min(len(r.Detail), maxDetail)]...)
}

// DecodeResult reads what Append wrote. It returns an error that wraps
// [cloakroom.ErrMalformed] for anything else.
func DecodeResult(data []byte) (Result, error) {
	if len(data) < resultHeader || len(data) > MaxResultBytes || data[0] != ResultFormat || Code(data[1]) > Expired {
		return Result{}, fmt.Errorf("decode directory result: %w", cloakroom.ErrMalformed)
	}
	return Result{
		Code:          Code(data[1]),
		Epoch:         binary.BigEndian.Uint64(data[2:]),
		SchemaEpoch:   binary.BigEndian.Uint32(data[10:]),
		SealingNumber: cloakroom.SealingNumber(binary.BigEndian.Uint32(data[14:])),
		Domain:        cloakroom.Domain(binary.BigEndian.Uint16(data[18:])),
		Detail:        string(data[resultHeader:]),
	}, nil
}
