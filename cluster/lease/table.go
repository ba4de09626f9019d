package lease

import (
	"slices"
	"sync"
	"time"
)

// Table is what a replica that leads granted to the replicas of its group:
// voters, learners, those that are members no more, and itself. The zero value
// is empty.
type Table struct {
	mu       sync.Mutex
	term     uint64        // the newest led that was noted here
	since    time.Duration // when it was noted: not before it began
	founded  bool          // there was no leader before that term
	replicas []replica     // who was granted something that lasts
}

// replica is one that asked, by its identity.
type replica struct {
	id, node string
	applied  uint64  // it said that it has applied
	grants   []grant // that last, oldest first
}

// grant is one lease as it stands in the table.
type grant struct {
	index uint64        // that the holder applies before it uses the lease
	over  time.Duration // when its length has passed
}

// maxGrants bounds what is remembered of one replica. One that asks six times
// in the length of a lease stays below it.
const maxGrants = 8

// Lead notes that the replica leads in term, at a moment after it was elected.
func (t *Table) Lead(term uint64, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lead(term, now)
}

func (t *Table) lead(term uint64, now time.Duration) {
	if term > t.term {
		t.term, t.since, t.founded = term, now, false
	}
}

// Found notes that the replica leads in term, and that nobody ever led the
// group before.
func (t *Table) Found(term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.term == 0 {
		t.term, t.founded = term, true
	}
}

// Young returns until when leases of earlier leaders may be in use, of which
// this table knows nothing. It is in the past for a leader that is not young.
func (t *Table) Young(term uint64, now, length time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lead(term, now)
	if t.founded && t.term == term {
		return 0
	}
	return t.since + length
}

// Enter notes a lease of that length for a replica on a node, and returns its
// index: what index returns under the table's lock. Whoever looks at the table
// later sees the entry; whoever looked before had applied no more than that.
func (t *Table) Enter(term uint64, id, node string, now, length time.Duration, index func() uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lead(term, now)
	t.prune(now)
	at := slices.IndexFunc(t.replicas, func(r replica) bool { return r.id == id })
	if at < 0 {
		at = len(t.replicas)
		t.replicas = append(t.replicas, replica{id: id})
	}
	r := &t.replicas[at]
	r.node = node
	g := grant{index: index(), over: now + length}
	r.add(g)
	return g.index
}

// add appends a grant. Two of the same index are one that lasts as long as the
// later, and so are the last two when there are too many: as little as the
// earlier, as long as the later.
func (r *replica) add(g grant) {
	n := len(r.grants)
	if n == 0 || r.grants[n-1].index < g.index && n < maxGrants {
		r.grants = append(r.grants, g)
		return
	}
	last := &r.grants[n-1]
	last.index, last.over = min(last.index, g.index), max(last.over, g.over)
}

// prune forgets what is over.
func (t *Table) prune(now time.Duration) {
	for i := range t.replicas {
		r := &t.replicas[i]
		r.grants = slices.DeleteFunc(r.grants, func(g grant) bool { return g.over <= now })
	}
	t.replicas = slices.DeleteFunc(t.replicas, func(r replica) bool { return len(r.grants) == 0 })
}

// Applied notes that a replica has applied an index. It never goes back.
func (t *Table) Applied(id string, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.replicas {
		if r := &t.replicas[i]; r.id == id {
			r.applied = max(r.applied, index)
		}
	}
}

// Standing is a replica that may answer reads from a state before an index.
type Standing struct {
	Replica, Node string
	Over          time.Duration // until when, at the latest
}

// Before appends to dst who may at that moment answer from a state before
// index, which is applied here already: grants made later include it.
func (t *Table) Before(index uint64, now time.Duration, dst []Standing) []Standing {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.replicas {
		r := &t.replicas[i]
		if r.applied >= index {
			continue
		}
		over := time.Duration(0)
		for _, g := range r.grants {
			if g.index < index {
				over = max(over, g.over)
			}
		}
		if over > now {
			dst = append(dst, Standing{r.id, r.node, over})
		}
	}
	return dst
}

// Len returns how many replicas hold a lease that this table granted.
func (t *Table) Len(now time.Duration) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(now)
	return len(t.replicas)
}
