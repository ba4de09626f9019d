package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"cloakroom"
)

// Frames of a connection that carries calls. Integers are big-endian.
//
//	offset  size  content
//	0       4     length of what follows, 10 to 10 + MaxMessage
//	4       4     id of the call; 0 for ping and pong
//	8       1     kind
//	9       1     request: method; failure: outcome; else 0
//	10      4     request: milliseconds the caller waits, at least 1; else 0
//	14      …     request and reply: body; else empty
//
// From the dialler: request, ping, void. From the other side: reply, failure,
// pong. A void is a request that its caller took back before it was written:
// id, method, time and body mean nothing.
const (
	frameHead  = 14
	lengthSize = 4
	minFrame   = frameHead - lengthSize
)

type frameKind uint8

const (
	request frameKind = 1 + iota
	reply
	failure
	ping
	pong
	void
)

const kindOffset = 8

type frame struct {
	id     uint32
	kind   frameKind
	detail uint8 // method or outcome
	millis uint32
	size   int // bytes of body that follow
}

// outcome says in a failure what was done. The numbers travel.
type outcome uint8

const (
	outcomeUnknown outcome = 1
	firstSentinel  outcome = 2 // nothing was done, and this is why
)

// sentinels are the errors that keep their meaning on the way, in the order of
// their numbers.
var sentinels = [...]error{
	cloakroom.ErrUnavailable,
	cloakroom.ErrOverloaded,
	cloakroom.ErrMalformed,
	cloakroom.ErrDenied,
	cloakroom.ErrStarting,
}

// outcomeOf turns an error of Handle into what travels.
func outcomeOf(err error) outcome {
	if errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		return outcomeUnknown
	}
	for i, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return firstSentinel + outcome(i)
		}
	}
	return outcomeUnknown
}

func (o outcome) known() bool {
	return o >= outcomeUnknown && int(o) < int(firstSentinel)+len(sentinels)
}

func (o outcome) err() error {
	if o < firstSentinel {
		return cloakroom.ErrOutcomeUnknown
	}
	return sentinels[o-firstSentinel]
}

func (f *frame) append(dst, body []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(minFrame+len(body)))
	dst = binary.BigEndian.AppendUint32(dst, f.id)
	dst = append(dst, byte(f.kind), f.detail)
	dst = binary.BigEndian.AppendUint32(dst, f.millis)
	return append(dst, body...)
}

var errFrame = errors.New("malformed frame")

// parseFrame reads a head of frameHead bytes. fromDialler says which side sent it.
func parseFrame(head []byte, fromDialler bool) (f frame, err error) {
	length := binary.BigEndian.Uint32(head)
	f = frame{
		id:     binary.BigEndian.Uint32(head[4:]),
		kind:   frameKind(head[kindOffset]),
		detail: head[9],
		millis: binary.BigEndian.Uint32(head[10:]),
	}
	if length < minFrame || length > minFrame+MaxMessage {
		return f, errFrame
	}
	f.size = int(length) - minFrame
	if f.kind.fromDialler() != fromDialler || !f.sound() {
		return f, errFrame
	}
	return f, nil
}

func (k frameKind) fromDialler() bool { return k == request || k == ping || k == void }

// sound says whether the fields fit the kind.
func (f *frame) sound() bool {
	switch f.kind {
	case request:
		return f.millis > 0 && f.millis <= uint32(MaxCall/time.Millisecond)
	case reply:
		return f.millis == 0 && f.detail == 0
	case failure:
		return f.millis == 0 && outcome(f.detail).known() && f.size == 0
	case ping, pong:
		return *f == frame{kind: f.kind}
	case void:
		return true
	}
	return false
}

// readFrame reads a head.
func readFrame(r *bufio.Reader, fromDialler bool) (frame, error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		return frame{}, err
	}
	f, err := parseFrame(head, fromDialler)
	if err == nil {
		_, err = r.Discard(frameHead)
	}
	return f, err
}

// readBody appends n bytes to dst. What a head claims is believed a piece at a
// time, so that a claim alone takes no memory.
func readBody(r io.Reader, dst []byte, n int) ([]byte, error) {
	const piece = 256 << 10
	for n > 0 {
		some := min(n, max(piece, len(dst)))
		from := len(dst)
		if cap(dst)-from < some {
			dst = append(make([]byte, 0, from+some), dst...)
		}
		dst = dst[:from+some]
		if _, err := io.ReadFull(r, dst[from:]); err != nil {
			return dst, err
		}
		n -= some
	}
	return dst, nil
}
