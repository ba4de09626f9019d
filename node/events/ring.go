package events

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// changeBytes is what one change takes in a ring; a test holds it to that.
const changeBytes = 32

// ring holds the latest changes of one shard. Changes have sequence numbers,
// counted here: begin is that of the oldest one held, end that of the next.
// Whoever stands before begin has a gap.
//
// The lock is held for one entry's copy, or for a few hundred changes read, so
// that applying never waits for a subscriber.
type ring struct {
	limit      int // changes held at most
	mu         sync.Mutex
	changes    []Change // once limit are held, each takes the place of the oldest
	oldest     int      // where the one numbered begin stands
	begin, end uint64
	floor      uint64        // every change of a later entry, up to last, is held
	last       uint64        // newest entry known
	fed        bool          // a replica here applied or restored something
	asked      time.Duration // another node answered for all that was acknowledged before; 0: never
}

// apply takes in one entry of the log, unless it is known.
func (r *ring) apply(index uint64, changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fed = true
	if index > r.last {
		r.append(index, changes)
	}
}

// append puts one entry in. An entry that is larger than the ring is a gap.
func (r *ring) append(index uint64, changes []Change) {
	if len(changes) > r.limit {
		r.skipTo(index)
		return
	}
	for i := range changes {
		c := changes[i]
		c.Index = index
		if len(r.changes) < r.limit {
			r.grow()
			r.changes = append(r.changes, c)
		} else {
			r.floor = r.changes[r.oldest].Index // the rest of that entry is no longer whole
			r.changes[r.oldest] = c
			r.begin++
			if r.oldest++; r.oldest == r.limit {
				r.oldest = 0
			}
		}
		r.end++
	}
	r.last = index
}

// grow makes room for one change more, never for more than limit.
func (r *ring) grow() {
	if n := len(r.changes); n == cap(r.changes) {
		r.changes = append(make([]Change, 0, min(max(2*n, minRing), r.limit)), r.changes...)
	}
}

// restored notes that the shard's state jumped to index. What the ring holds
// up to there, or beyond, is as good as before.
func (r *ring) restored(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fed = true
	if index > r.last {
		r.skipTo(index)
	}
}

// skipTo forgets everything: what lies before index is not known. The number
// that is left out puts every reader before begin.
func (r *ring) skipTo(index uint64) {
	r.changes, r.oldest = r.changes[:0], 0
	r.end++
	r.begin = r.end
	r.floor, r.last = index, index
}

// mirror takes in what another node answered.
func (r *ring) mirror(m *Mirror) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case m.Gap && m.Reach > r.last:
		r.skipTo(m.Reach)
	case !m.Gap:
		for rest := m.Changes; len(rest) > 0; {
			index := rest[0].Index
			n := slices.IndexFunc(rest, func(c Change) bool { return c.Index != index })
			if n < 0 {
				n = len(rest)
			}
			if index > r.last {
				r.append(index, rest[:n])
			}
			rest = rest[n:]
		}
		r.last = max(r.last, m.Reach)
	}
	r.asked = max(r.asked, m.Asked)
}

// at returns the change with that number, which is held.
func (r *ring) at(number uint64) *Change {
	i := r.oldest + int(number-r.begin)
	if i >= len(r.changes) {
		i -= len(r.changes)
	}
	return &r.changes[i]
}

// after returns the number of the first change after index, end if there is
// none. The entry of index itself is held, or index is at least floor.
func (r *ring) after(index uint64) uint64 {
	held := int(r.end - r.begin)
	return r.begin + uint64(sort.Search(held, func(i int) bool { return r.at(r.begin+uint64(i)).Index > index }))
}

// seek returns the number of the first change after index, and false if
// changes after it are missing. A ring that knows nothing yet begins there.
func (r *ring) seek(index uint64) (number uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fed && r.last == 0 {
		r.floor, r.last = index, index
	}
	if index < r.floor {
		return 0, false
	}
	return r.after(index), true
}

// present returns where who wants to know of later changes only begins.
func (r *ring) present() (number, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end, r.last
}

// read copies changes from number on to dst. It returns how many, whether
// these are all there are, and the newest entry known; false if changes from
// number on are missing.
func (r *ring) read(number uint64, dst []Change) (n int, all bool, last uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number < r.begin {
		return 0, false, 0, false
	}
	for ; n < len(dst) && number < r.end; n++ {
		dst[n] = *r.at(number)
		number++
	}
	return n, number == r.end, r.last, true
}

// since is [Feed.Since].
func (r *ring) since(index uint64, limit int, dst []Change) (all []Change, reach uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index < r.floor {
		return dst, r.last, false
	}
	from := r.after(index)
	n := int(r.end - from)
	reach = max(r.last, index)
	if n > limit {
		n, reach = r.whole(from, limit)
	}
	for i := range n {
		dst = append(dst, *r.at(from + uint64(i)))
	}
	return dst, reach, true
}

// whole cuts limit changes off behind the last entry that fits, or the first
// one. It returns how many are left and the index of their last entry. More
// than limit changes follow from.
func (r *ring) whole(from uint64, limit int) (n int, reach uint64) {
	cut := r.at(from + uint64(limit)).Index // the first one left out
	first := r.at(from).Index
	if cut != first {
		n = sort.Search(limit, func(i int) bool { return r.at(from+uint64(i)).Index >= cut })
		return n, r.at(from + uint64(n) - 1).Index
	}
	return int(r.after(first) - from), first
}

func (r *ring) reach() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *ring) completeAt() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *ring) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.end - r.begin)
}
