package wire

import (
	"errors"
	"fmt"

	"cloakroom"
)

// Code says what became of a request. The numbers never change; 0 is none of
// them.
type Code uint8

// The codes. All but OK and Unknown mean that nothing was done.
const (
	// OK: done, and the answer follows.
	OK Code = 1
	// NotLeader: asked the wrong replica; the hint names the leader, if known.
	NotLeader Code = 2
	// Unavailable: the group can't answer now.
	Unavailable Code = 3
	// Unknown: some or all of it may have been done, or may yet be.
	Unknown Code = 4
	// Overloaded: too much is waiting there.
	Overloaded Code = 5
	// MemoryFull: a replica of the shard has too little record memory left.
	MemoryFull Code = 6
	// Malformed: the request can't be read or breaks a rule of the format.
	Malformed Code = 7
	// Starting: the node or the group is not up yet.
	Starting Code = 8
	// TooLarge: the request is larger than the receiver takes.
	TooLarge Code = 9
	// Refused: the rules forbid it, now and later.
	Refused Code = 10
)

var codeNames = [...]string{
	OK: "ok", NotLeader: "not-leader", Unavailable: "unavailable", Unknown: "unknown-outcome",
	Overloaded: "overloaded", MemoryFull: "memory-full", Malformed: "malformed",
	Starting: "starting", TooLarge: "too-large", Refused: "refused",
}

// String returns the code's name, for logs and metrics.
func (c Code) String() string {
	if !c.valid() {
		return "invalid"
	}
	return codeNames[c]
}

func (c Code) valid() bool { return c >= OK && c <= Refused }

// ErrNotLeader is the error of [NotLeader]: nothing was done, ask another.
var ErrNotLeader = fmt.Errorf("asked a replica that does not lead: %w", cloakroom.ErrUnavailable)

// sentinels pairs codes with errors. CodeOf takes the first that matches: an
// unknown outcome wins over whatever else an error says, and ErrNotLeader over
// the ErrUnavailable it wraps.
var sentinels = [...]struct {
	err  error
	code Code
}{
	{cloakroom.ErrOutcomeUnknown, Unknown},
	{ErrNotLeader, NotLeader},
	{cloakroom.ErrOverloaded, Overloaded},
	{cloakroom.ErrMemoryFull, MemoryFull},
	{cloakroom.ErrStarting, Starting},
	{cloakroom.ErrUnavailable, Unavailable},
	{cloakroom.ErrTooLarge, TooLarge},
	{cloakroom.ErrMalformed, Malformed},
	{cloakroom.ErrConflict, Refused},
	{cloakroom.ErrDenied, Refused},
}

// CodeOf returns the code that tells of err: [OK] for nil, and [Unknown] for
// an error that wraps no sentinel with a code, since only a sentinel promises
// that nothing was done.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	return Unknown
}

// Err returns the sentinel error of the code: nil for [OK],
// [cloakroom.ErrConflict] for [Refused], [cloakroom.ErrOutcomeUnknown] for
// what is no code.
func (c Code) Err() error {
	if c == OK {
		return nil
	}
	for _, s := range sentinels {
		if s.code == c {
			return s.err
		}
	}
	return cloakroom.ErrOutcomeUnknown
}
