package confirm

import (
	"errors"
	"slices"
	"time"
)

// errNoAnswer stands for every way an ask can fail.
var errNoAnswer = errors.New("confirm: no answer")

// Reading is what a node last said of itself.
type Reading struct {
	Node        string
	Offset      time.Duration // of its wall clock from what this node's shows now, to half a round trip
	Age         time.Duration // since it said so
	Free, Limit int64         // its record memory, bytes
}

// reading is a Reading as it is kept: what the node's clock showed at a moment
// of this node's. Not as the offset between the two: when this node's wall
// clock is set wrong, an offset from before would carry the other clock along,
// and while a third is silent that makes a majority that agrees on the wrong
// time. What has passed since is measured by monotonic readings, which a wall
// clock that is set does not touch.
type reading struct {
	at          time.Time // by this node's clock
	said        time.Time
	free, limit int64
}

// read makes a reading of an answer that was on its way between sent and got.
func read(sent, got time.Time, answer *Answer) reading {
	return reading{got, answer.Now.Add(got.Sub(sent) / 2).Round(0), answer.Free, answer.Limit}
}

// seen returns what a reading comes to at a moment of this node's clock.
func (r *reading) seen(now time.Time) (offset, age time.Duration) {
	age = now.Sub(r.at)
	return r.said.Add(age).Sub(now.Round(0)), age
}

// Clocks returns the last answer of every node that ever gave one, by name.
// Nodes answer when they are asked about a group; who wants fresh readings
// confirms first.
func (r *Rounds) Clocks() []Reading {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Reading
	for _, l := range r.lanes {
		if l.heard {
			offset, age := l.seen(now)
			all = append(all, Reading{l.node, offset, age, l.free, l.limit})
		}
	}
	slices.SortFunc(all, func(a, b Reading) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return all
}

// Heard returns how long ago a node last answered, and false if it never did.
func (r *Rounds) Heard(node string) (time.Duration, bool) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lanes[node]; l != nil && l.heard {
		return now.Sub(l.at), true
	}
	return 0, false
}

// Agreement is how far apart the clocks of a majority may be.
const Agreement = 10 * time.Second

// Median returns shard time: the median of the leader's clock and those of the
// other voters it heard, of two in the middle the earlier. It returns false
// unless the clocks of a majority of all configured voters, which need not
// hold the leader's own, were heard and agree within [Agreement].
//
// The clocks of that majority stand next to each other in order, and are more
// than half, so the median is one of them: no minority can move it further
// than [Agreement].
func Median(self time.Time, others []time.Time, configured int) (time.Time, bool) {
	clocks := make([]time.Time, 0, 1+len(others))
	clocks = append(clocks, self.Round(0)) // wall clocks are compared, not monotonic ones
	for _, t := range others {
		clocks = append(clocks, t.Round(0))
	}
	slices.SortFunc(clocks, time.Time.Compare)
	majority := max(configured, len(clocks))/2 + 1
	for i := 0; i+majority <= len(clocks); i++ {
		if clocks[i+majority-1].Sub(clocks[i]) <= Agreement {
			return clocks[(len(clocks)-1)/2], true
		}
	}
	return time.Time{}, false
}
