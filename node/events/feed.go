// Package events keeps the latest changes of every shard, in the order of the
// shards' logs, and reads them out to subscribers. It owns the rings, where
// subscribers stand in them, and since when nothing is missing.
//
// It sees tokens and domains, never a pseudonym, a value or a key; it has no
// clock and no goroutine. A [Feed] is safe for concurrent use, a
// [Subscription] belongs to one goroutine.
package events

import (
	"errors"
	"sync/atomic"
	"time"

	"cloakroom"
)

// Kind says what happened to a pseudonym. The numbers travel between nodes.
type Kind uint8

const (
	// Changed: its values are others now.
	Changed Kind = 1
	// Erased: its values are gone for good.
	Erased Kind = 2
	// Expired: its values were wiped when their time was over.
	Expired Kind = 3
)

// Valid says whether k is a kind.
func (k Kind) Valid() bool { return k >= Changed && k <= Expired }

// Change is one change of one pseudonym.
type Change struct {
	Index  uint64          // of the log entry that made it
	Token  cloakroom.Token // of the pseudonym's subject record
	Domain cloakroom.Domain
	Kind   Kind
}

// Config says what a feed is made of.
type Config struct {
	// Bytes bounds the memory of all rings together; default 16 MiB. A ring
	// that is full forgets its oldest changes, and who had not read them is
	// told of a gap.
	Bytes int
	// Shards is how many rings share the bytes; default 16. A ring takes its
	// share as it fills.
	Shards int
	// Fresh says whether the replica of a shard here holds a read lease: then
	// every erasure that was acknowledged before the call is applied here.
	Fresh func(cloakroom.ShardID) bool
}

const (
	defaultBytes  = 16 << 20
	defaultShards = 16
	// minRing is the smallest ring, in changes.
	minRing = 256
)

// Feed is the rings of all shards.
type Feed struct {
	fresh func(cloakroom.ShardID) bool
	rings [cloakroom.MaxShards]ring

	subscribers atomic.Int64
	gaps        atomic.Uint64
}

// New returns a feed with empty rings.
func New(cfg Config) (*Feed, error) {
	if cfg.Bytes == 0 {
		cfg.Bytes = defaultBytes
	}
	if cfg.Shards == 0 {
		cfg.Shards = defaultShards
	}
	var faults []error
	if cfg.Bytes < 0 {
		faults = append(faults, errors.New("events: Bytes is negative"))
	}
	if cfg.Shards < 0 || cfg.Shards > cloakroom.MaxShards {
		faults = append(faults, errors.New("events: Shards is out of range"))
	}
	if cfg.Fresh == nil {
		faults = append(faults, errors.New("events: Fresh is missing"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	f := &Feed{fresh: cfg.Fresh}
	for i := range f.rings {
		f.rings[i].limit = max(cfg.Bytes/cfg.Shards/changeBytes, minRing)
	}
	return f, nil
}

// Applied takes in the changes of one log entry, all of them at once; their
// Index is not looked at. An entry that is known already changes nothing: a
// replica that starts anew applies its log once more. It copies the changes and
// waits for nobody.
func (f *Feed) Applied(shard cloakroom.ShardID, index uint64, changes []Change) {
	f.rings[shard].apply(index, changes)
}

// Restored notes that the replica here has come to index without the entries
// before it.
func (f *Feed) Restored(shard cloakroom.ShardID, index uint64) { f.rings[shard].restored(index) }

// Status is what a feed holds at one moment.
type Status struct {
	Subscribers int    // there now
	Changes     int    // in all rings
	Gaps        uint64 // how often a subscriber was told that it missed changes
}

// Status returns the counters.
func (f *Feed) Status() Status {
	s := Status{Subscribers: int(f.subscribers.Load()), Gaps: f.gaps.Load()}
	for i := range f.rings {
		s.Changes += f.rings[i].len()
	}
	return s
}

// Subscribers returns how many there are.
func (f *Feed) Subscribers() int { return int(f.subscribers.Load()) }

// Complete returns up to which moment a subscription over that many shards,
// read out after the call, has been told of every erasure that was
// acknowledged, and of every other change that was acknowledged a lease's
// length before. now is the present on a clock that never steps; false means
// that for some shard nothing can be said.
//
// A shard with a fresh replica here is complete now: its lease could only be
// had, or an erasure only be acknowledged, after the other was known here. Any
// other is complete as of when a node with such a replica was asked
// ([Feed.Mirror]).
func (f *Feed) Complete(shards int, now time.Duration) (time.Duration, bool) {
	at := now
	for i := range shards {
		if f.fresh(cloakroom.ShardID(i)) {
			continue
		}
		asked := f.rings[i].completeAt()
		if asked == 0 {
			return 0, false
		}
		at = min(at, asked)
	}
	return at, true
}

// Since appends to dst the changes of a shard after index, whole entries, at
// most limit changes unless the first entry alone has more. It returns up to
// which index they reach, and false if changes after index are missing: then
// dst is as it was and reach is where to go on.
func (f *Feed) Since(shard cloakroom.ShardID, index uint64, limit int, dst []Change) (all []Change, reach uint64, ok bool) {
	return f.rings[shard].since(index, limit, dst)
}

// Reach returns up to which index the ring of a shard holds changes.
func (f *Feed) Reach(shard cloakroom.ShardID) uint64 { return f.rings[shard].reach() }

// Mirror is what a node with a replica answered about a shard that has none
// here.
type Mirror struct {
	Changes []Change // whole entries in ascending order
	Reach   uint64   // up to which index they reach
	Gap     bool     // changes before Reach are missing
	// Asked is when the node was asked, if its replica was fresh and it told all
	// it had; 0: it did not.
	Asked time.Duration
}

// Mirror takes in what another node answered to "since [Feed.Reach]".
func (f *Feed) Mirror(shard cloakroom.ShardID, m Mirror) {
	f.rings[shard].mirror(&m)
}
