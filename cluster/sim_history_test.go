package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"cloakroom"
)

// simState is what a subject was seen to be: absent, erased, or at a version
// that one write alone can have given it.
type simState uint64

const (
	simAbsent simState = 0
	simErased simState = math.MaxUint64
)

func (s simState) String() string {
	switch s {
	case simAbsent:
		return "absent"
	case simErased:
		return "erased"
	}
	return fmt.Sprintf("v%d", uint64(s))
}

// simOp is one thing a client did to a subject: it wrote a state, or saw one.
// call and ret are moments, in nanoseconds since the run began; no two are the
// same.
type simOp struct {
	subject   int
	state     simState
	write     bool
	call, ret int64
	note      string
}

// never is when an operation ended that got no answer.
const never = math.MaxInt64

func (o simOp) String() string {
	verb := "saw"
	if o.write {
		verb = "wrote"
	}
	return fmt.Sprintf("[%s,%s] %s %v (%s)", moment(o.call), moment(o.ret), verb, o.state, o.note)
}

// moment tells a moment in seconds.
func moment(m int64) string {
	if m == never {
		return "…"
	}
	return fmt.Sprintf("%.9f", float64(m)/1e9)
}

// simHistory collects what all clients of a run did.
type simHistory struct {
	begin time.Time

	mu       sync.Mutex
	last     int64 // moment
	ops      []simOp
	looks    []simLook
	acked    []simAck
	settled  map[int]int64 // subject → moment at which its erasure was first acknowledged
	erasures []simErasure
	void     map[simVersion]string // writes that did not happen, as their callers were told
}

// simVersion is a version of a subject.
type simVersion struct {
	subject int
	state   simState
}

func newSimHistory() *simHistory {
	return &simHistory{begin: time.Now(), settled: make(map[int]int64), void: make(map[simVersion]string)}
}

// now returns the next moment. While the bubble's clock stands still it goes on
// by a nanosecond: the order of what happens counts.
func (h *simHistory) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, int64(time.Since(h.begin)))
	return h.last
}

// add notes an operation that began at call. Without an answer a write may
// still happen at any time, or never.
func (h *simHistory) add(op simOp, answered bool) {
	op.ret = never
	if answered {
		op.ret = h.now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// refused notes that a write was said not to have happened.
func (h *simHistory) refused(subject int, state simState, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.void[simVersion{subject, state}] = why
}

// check returns what no order of the operations can explain in which each
// takes place at once, between its call and its return (Herlihy and Wing,
// "Linearizability", 1990).
func (h *simHistory) check() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	bySubject := make(map[int][]simOp)
	for _, op := range h.ops {
		bySubject[op.subject] = append(bySubject[op.subject], op)
	}
	var faults []string
	for _, subject := range slices.Sorted(maps.Keys(bySubject)) {
		ops := bySubject[subject]
		for _, op := range ops {
			if why, void := h.void[simVersion{subject, op.state}]; void && !op.write {
				faults = append(faults, fmt.Sprintf("subject %d: %v, which was refused: %s", subject, op, why))
			}
		}
		if fault := disorder(ops); fault != "" {
			faults = append(faults, fmt.Sprintf("subject %d: %s\n%s", subject, fault, tellOps(ops)))
		}
	}
	return append(faults, h.checkLooks(bySubject)...)
}

func tellOps(ops []simOp) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b simOp) int { return cmp.Compare(a.call, b.call) })
	var text strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&text, "    %v\n", op)
	}
	return text.String()
}

// zone is the time in which a state must have held: from the first end to the
// last beginning of the operations that wrote or saw it. If the first end is
// the later of the two, the state may have held for one moment anywhere in
// between.
type zone struct {
	state       simState
	first, last int64 // first end, last beginning
	written     int64 // earliest beginning of a write of it; never: not written
	needed      bool  // somebody saw it, or was told that it was written
}

// forward reports whether the state held all through the zone.
func (z *zone) forward() bool { return z.first < z.last }

func (z *zone) span() (from, to int64) { return min(z.first, z.last), max(z.first, z.last) }

// disorder decides for the history of one register in which every state has
// one write, after Gibbons and Korach, "Testing shared memories", 1997: there
// is an order unless something was seen before it was written, two forward
// zones overlap, or a backward zone lies within a forward one. It returns what
// it found, "" if the history is fine.
//
// A subject is absent before everything. Erased is for good: it has as many
// writes as there were erasures, and its zone has no end.
func disorder(ops []simOp) string {
	zones, _ := zonesOf(ops)
	for i := range zones {
		a := &zones[i]
		if a.first < a.written {
			return fmt.Sprintf("%v was seen before anybody wrote it", a.state)
		}
		for j := range zones[:i] {
			if clash(a, &zones[j]) {
				return fmt.Sprintf("%v and %v are in each other's way", zones[j].state, a.state)
			}
		}
	}
	return ""
}

// clash reports whether no order has room for both zones.
func clash(a, b *zone) bool {
	aFrom, aTo := a.span()
	bFrom, bTo := b.span()
	switch {
	case a.forward() && b.forward():
		return aFrom < bTo && bFrom < aTo
	case a.forward():
		return bFrom > aFrom && bTo < aTo
	case b.forward():
		return aFrom > bFrom && aTo < bTo
	}
	return false
}

// zonesOf returns the zones of all states that must have held, and of all that
// may have.
func zonesOf(ops []simOp) (zones []zone, all map[simState]*zone) {
	byState := make(map[simState]*zone)
	for _, op := range ops {
		z := byState[op.state]
		if z == nil {
			z = &zone{state: op.state, first: never, last: -1, written: never}
			byState[op.state] = z
		}
		if op.write {
			z.written = min(z.written, op.call)
		}
		if op.ret != never {
			z.needed = true
			z.first, z.last = min(z.first, op.ret), max(z.last, op.call)
		} else if op.write {
			z.last = max(z.last, op.call)
		}
	}
	if z := byState[simAbsent]; z != nil {
		z.written, z.first = -1, -1
	}
	if z := byState[simErased]; z != nil {
		z.last = never
	}
	for _, z := range byState {
		if z.needed {
			zones = append(zones, *z)
		}
	}
	slices.SortFunc(zones, func(a, b zone) int { return cmp.Compare(a.state, b.state) })
	return zones, byState
}

// simVersionOf makes the version that stands for a state.
func simVersionOf(s simState) (v cloakroom.Version) {
	for i := range v {
		v[i] = byte(s >> (56 - 8*i))
	}
	return v
}

func simStateOf(v cloakroom.Version) (s simState) {
	for _, b := range v {
		s = s<<8 | simState(b)
	}
	return s
}
