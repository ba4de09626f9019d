package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// Model is what the operations of a subject are held against.
type Model uint8

const (
	// Register explains writes and linearizable reads: each takes place at one
	// moment between its call and its return.
	Register Model = 1 + iota
	// Lease explains writes and reads by lease. Such a read may show what held at
	// most Bounds.Lease before it was called, but nothing from before a write that
	// it was told to wait for, nor from before an erasure that had been
	// acknowledged.
	Lease
)

func (m Model) String() string { return map[Model]string{Register: "register", Lease: "lease"}[m] }

// step is an operation as the sequential register sees it.
type step struct {
	write, known bool // known: its outcome
	swap         bool
	from, state  State
	index        uint64 // of a write; 0: unknown
	need         uint64 // a read must see the write of this index
	reads        int    // how many reads saw what this writes
	op           int    // which operation it stands for
}

// register is the state of the sequential object.
type register struct {
	state State
	index uint64 // the highest of its writes so far
	owed  int    // reads that saw the state and are still to come
}

// take is what a step does to the register, and whether it can have been
// answered as it was.
//
// A state does not come back, so nothing may replace it while reads of it are to
// come. It would turn out anyway, but only once the search arrives at
// the end of such a read, with everything in between to be tried in any order.
func (r register) take(s step) (register, bool) {
	switch {
	case s.write && s.known:
		fits := r.allows(s) && (s.index == 0 || s.index >= r.index)
		next, left := r.becomes(s)
		next.index = max(r.index, s.index)
		return next, fits && left
	case s.write && r.allows(s):
		return r.becomes(s)
	case s.write:
		return r, true
	case s.state == Gone:
		return r, (r.state == Absent || r.state == Erased) && r.index >= s.need
	}
	fits := r.state == s.state && r.index >= s.need
	r.owed--
	return r, fits
}

// allows reports whether a write takes place.
func (r register) allows(s step) bool {
	return (r.state != Erased || s.state == Erased) && (!s.swap || r.state == s.from)
}

// becomes returns what a write makes of the register, and whether nobody is to
// see what was there before.
func (r register) becomes(s step) (register, bool) {
	if r.state == s.state {
		return r, true
	}
	return register{s.state, r.index, s.reads}, r.owed == 0
}

// sequential returns the register, with every step told how many reads there are
// of what it writes.
func sequential(steps []porcupine.Operation) (porcupine.Model, []porcupine.Operation) {
	reads := make(map[State]int)
	for _, o := range steps {
		if s := o.Input.(step); !s.write {
			reads[s.state]++
		}
	}
	told := make([]porcupine.Operation, len(steps))
	for i, o := range steps {
		s := o.Input.(step)
		if s.write {
			s.reads = reads[s.state]
		}
		o.Input = s
		told[i] = o
	}
	return porcupine.Model{
		Init: func() any { return register{owed: reads[Absent]} },
		Step: func(state, input, _ any) (bool, any) {
			next, fits := state.(register).take(input.(step))
			return fits, next
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
	}, told
}

// search looks for an order of the steps.
func search(steps []porcupine.Operation, patience time.Duration) porcupine.CheckResult {
	model, told := sequential(steps)
	return porcupine.CheckOperationsTimeout(model, told, patience)
}
