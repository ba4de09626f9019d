package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// simLease is how old what a read at level lease answers may be: the lease
// term of all worlds.
const simLease = 3 * time.Second

// simLook is one subject as a read at level lease saw it.
type simLook struct {
	subject   int
	state     simState
	call, ret int64
	answered  int64  // when the node answered; a pause keeps that from its caller
	after     uint64 // the index of its shard that it waited for; 0: none
	entry     uint64 // by which the state came, as all replicas saw; 0: by none
	alone     bool   // no other node can have answered: its age counts to the answer
	note      string
}

func (l simLook) String() string {
	return fmt.Sprintf("[%s,%s] saw %v under a lease after %d (%s)", moment(l.call), moment(l.ret), l.state, l.after, l.note)
}

// simAck is an acknowledged write that had an effect.
type simAck struct {
	subject int
	state   simState
	index   uint64
}

// look notes what a lease read saw. It has just ended.
func (h *simHistory) look(l simLook) {
	l.ret = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks = append(h.looks, l)
}

// ack notes where in the log of its shard a write is.
func (h *simHistory) ack(subject int, state simState, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked = append(h.acked, simAck{subject, state, index})
}

// simErasure is one that was acknowledged after its barrier.
type simErasure struct {
	subject   int
	call, ret int64
	index     uint64
	note      string
}

// settle notes that a subject's erasure is acknowledged: no read that begins
// from now on may show a value.
func (h *simHistory) settle(e simErasure) {
	e.ret = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.erasures = append(h.erasures, e)
	if h.settled[e.subject] == 0 {
		h.settled[e.subject] = e.ret
	}
}

// checkLooks returns what the reads at level lease must not have seen, each by
// itself: two of them may see the past in any order. The caller holds mu.
func (h *simHistory) checkLooks(ops map[int][]simOp) []string {
	looks := make(map[int][]simLook)
	for _, l := range h.looks {
		looks[l.subject] = append(looks[l.subject], l)
	}
	acks := make(map[int][]simAck)
	for _, a := range h.acked {
		acks[a.subject] = append(acks[a.subject], a)
	}
	var faults []string
	for _, subject := range slices.Sorted(maps.Keys(looks)) {
		zones, all := zonesOf(ops[subject])
		for _, l := range looks[subject] {
			fault := h.misplaced(l, zones, all)
			if fault == "" {
				fault = backwards(l, acks[subject])
			}
			if fault != "" {
				faults = append(faults, fmt.Sprintf("subject %d: %v: %s\n%s", subject, l, fault, tellOps(ops[subject])))
				break // one shows it
			}
		}
	}
	return faults
}

// misplaced says why no order of a subject's operations has room for l, "" if
// one has: what it saw must have been written, and have held until a lease
// before. It may have been seen early: a replica may apply an entry before its
// leader does, and what nobody was told of yet linearizable reads need not show.
// After the erasure is acknowledged l must see that at once.
func (h *simHistory) misplaced(l simLook, zones []zone, all map[simState]*zone) string {
	if why, void := h.void[simVersion{l.subject, l.state}]; void {
		return "it was refused: " + why
	}
	if at := h.settled[l.subject]; at != 0 && at < l.call && l.state != simErased {
		return "its erasure was acknowledged at " + moment(at)
	}
	z := zone{state: l.state, first: never, last: -1, written: never}
	if known := all[l.state]; known != nil {
		z = *known
	} else if l.state == simAbsent {
		z.first, z.written = -1, -1
	}
	from := l.earliest()
	switch gone := all[simErased]; {
	case l.ret < z.written:
		return "nobody had written it yet"
	case l.state == simErased || z.last >= from:
		return "" // it adds nothing
	case gone != nil && gone.needed && gone.first < from:
		return "it was erased before"
	}
	z.last = from
	for i := range zones {
		if other := &zones[i]; other.state != z.state && clash(&z, other) {
			return fmt.Sprintf("%v is in its way", other.state)
		}
	}
	return ""
}

// earliest returns the first moment of which l may tell.
func (l simLook) earliest() int64 {
	if l.alone {
		return l.answered - int64(simLease)
	}
	return l.call - int64(simLease)
}

// backwards says which write that l waited for it did not see, "" if none.
func backwards(l simLook, acks []simAck) string {
	if l.after == 0 || l.state == simErased {
		return ""
	}
	var late simAck
	for _, a := range acks {
		if a.index <= l.after && a.index > late.index {
			late = a
		}
	}
	if late.index <= l.entry || late.state == l.state {
		return ""
	}
	return fmt.Sprintf("%v was written at %d", late.state, late.index)
}
