package cluster

import (
	"sync"
	"time"

	"cloakroom/cluster/confirm"
)

// steady is how long a clock that was set must keep its pace before shard time
// follows it. Whoever set it wrong has that long to set it right.
const steady = time.Hour

// pace holds shard time to the pace of this node's monotonic clock where one
// wall clock decides alone: no other clock outvotes it when it is set wrong,
// and shard time never goes back. A moment is a time of Config.Clock with its
// monotonic reading; without one, wall time stands in and no step is seen.
type pace struct {
	mu   sync.Mutex
	told time.Time // moment of the last time told; zero: none since this process began
	time time.Time // what was told

	since time.Time     // first moment of a step that lasts; zero: there is none
	step  time.Duration // how far from the pace it was then
}

// note remembers a time that was told.
func (p *pace) note(at, moment time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told, p.time, p.since = moment, at.Round(0), time.Time{}
}

// keeps reports whether at is a time to tell: no further on than time went by
// since the last one, within [confirm.Agreement], or a step that has lasted.
func (p *pace) keeps(at, moment time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told.IsZero() {
		return true
	}
	ahead := at.Round(0).Sub(p.time) - moment.Sub(p.told)
	if ahead <= confirm.Agreement {
		p.since = time.Time{}
		return true
	}
	if p.since.IsZero() || (ahead-p.step).Abs() > confirm.Agreement {
		p.since, p.step = moment, ahead
	}
	return moment.Sub(p.since) >= steady
}
