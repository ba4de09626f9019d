// Package history records what clients were told by a store while it ran, and
// decides afterwards whether a store that keeps its promises can have said so.
//
// A subject is a register: absent at first, then at one version after the
// other, each of which one write alone can have given it, and erased for good
// at last. Two models stand for the two levels of reading: [Register] for
// linearizable reads, [Lease] for reads under a lease. Porcupine looks for an
// order of the operations that explains what was seen.
//
// A History is safe for concurrent use. Nothing here knows a node, a network or
// a value: simulations and real nodes use it alike.
package history

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// State is what a subject was made or seen to be: one of those below, or the
// version that one write gave it.
type State uint64

const (
	// Absent is what every subject is at first, and never again.
	Absent State = 0
	// Gone is seen, never written: absent or erased, the answer does not tell.
	Gone State = math.MaxUint64 - 1
	// Erased is for good.
	Erased State = math.MaxUint64
)

func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Gone:
		return "gone"
	case Erased:
		return "erased"
	}
	return fmt.Sprintf("v%d", uint64(s))
}

// Verb is what an operation does.
type Verb uint8

const (
	// Write gives a subject a state; an erasure is a write of Erased.
	Write Verb = 1 + iota
	// Read is a linearizable read, or another answer that came out of the log.
	Read
	// LeaseRead is a read under a lease.
	LeaseRead
)

// Never is the Return of an operation without an answer: it may have taken
// place, or take place later, or not at all. A write of which it is known that
// it did not take place has no operation.
const Never time.Duration = math.MaxInt64

// Operation is one thing a client did to a subject. Call and Return are
// moments by the clock of the history: before the request was sent, after its
// answer came.
type Operation struct {
	Subject int
	Verb    Verb
	State   State // written or seen
	Call    time.Duration
	Return  time.Duration

	// Index of a write is its index in the log of the subject's shard, of a read
	// that which it was told to wait for. 0: none. All those of a subject are of
	// one generation.
	Index uint64
	// Swap makes a write one that was to take place only upon From.
	Swap bool
	From State
	// Barrier says that a write acknowledged that what it replaced is served no
	// more: the removal of a field, say. It has an Index. Erasures need no word.
	Barrier bool
	// Note is for people: who asked whom, and what was the answer.
	Note string
}

func (o Operation) String() string {
	verb := map[Verb]string{Write: "wrote", Read: "read", LeaseRead: "read by lease"}[o.Verb]
	text := fmt.Sprintf("%v..", o.Call)
	if o.Return != Never {
		text += o.Return.String()
	}
	text += fmt.Sprintf(" %s %v", verb, o.State)
	if o.Swap {
		text += fmt.Sprintf(" upon %v", o.From)
	}
	if o.Index != 0 {
		text += fmt.Sprintf(" index %d", o.Index)
	}
	if o.Note != "" {
		text += " (" + o.Note + ")"
	}
	return text
}

// History collects the operations of all clients of a run.
type History struct {
	clock func() time.Duration

	mu   sync.Mutex // what follows
	last time.Duration
	ops  []Operation
}

// New returns an empty history. The clock tells the time since any fixed
// moment; it never goes back, and may stand still.
func New(clock func() time.Duration) *History { return &History{clock: clock} }

// Now returns the next moment. No two are equal, even while the clock stands
// still, as a simulation's does: the order of what happened counts.
func (h *History) Now() time.Duration {
	now := h.clock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, now)
	return h.last
}

// Add notes an operation.
func (h *History) Add(op Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Operations returns what was noted so far.
func (h *History) Operations() []Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Operation(nil), h.ops...)
}

// Check checks what was noted so far: see [Check].
func (h *History) Check(b Bounds) []Fault { return Check(h.Operations(), b) }
