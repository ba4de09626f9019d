// Package lease is the bookkeeping of read leases, on both sides: a [Table] at
// the leader of a group, which remembers what it granted, and a [Holder] at
// each replica, which knows until when it may answer reads. DESIGN.md of
// package cluster has the protocol and the argument for each rule.
//
// All times are those of one node's clock, which is never set: the time since
// the machine was started. The room looks at no clock and sends nothing; it
// sees identities of replicas, names of nodes and indexes, no token and no
// record. Its types are safe for concurrent use.
package lease

import (
	"sync/atomic"
	"time"
)

// Usable is how much of a lease of that length its holder uses. The rest is
// for clocks: as long as the granter's goes less than a ninth faster than the
// holder's, the lease is over here before its length has passed there.
func Usable(length time.Duration) time.Duration { return length - length/10 }

// Holder is until when one replica may answer reads from its own state. The
// zero value may not.
type Holder struct{ until atomic.Int64 }

// Extend notes that the replica may answer until then. The index of the grant
// is applied when it is called. An earlier moment than is noted changes
// nothing: grants may come in any order.
func (h *Holder) Extend(until time.Duration) {
	for {
		now := h.until.Load()
		if int64(until) <= now || h.until.CompareAndSwap(now, int64(until)) {
			return
		}
	}
}

// Until returns until when the replica may answer. A read takes it before it
// copies anything out, and looks at the clock after: an index applied between
// copy and grant would not be in what it copied.
func (h *Holder) Until() time.Duration { return time.Duration(h.until.Load()) }
