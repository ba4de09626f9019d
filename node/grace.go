package node

import (
	"sync"
	"time"

	"cloakroom"
)

// grace remembers how late it was in each shard when, by a clock that nobody
// sets. Shard time hides what has expired, but it follows the clocks of a
// majority, and a majority can be set wrong together: a jump forward would wipe
// at once what then can't be brought back. So nothing is wiped before this
// process has seen it expired for an hour of its own. A process that starts
// anew counts anew.
//
// grace is safe for concurrent use.
type grace struct {
	mu   sync.Mutex
	seen [cloakroom.MaxShards][]sighting // in the order of time
}

// sighting is what a shard's clock showed at a moment.
type sighting struct {
	at   time.Duration // since the machine was started
	time uint32        // of the shard, unix seconds
}

// graceStep is how far apart sightings are kept, so that an hour is 60 of them.
const graceStep = time.Minute

// note remembers that a shard's clock shows time now.
func (g *grace) note(shard cloakroom.ShardID, now time.Duration, time uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.seen[shard]
	if len(list) > 0 && now < list[len(list)-1].at+graceStep {
		return
	}
	for len(list) > 1 && now-list[1].at >= sweepGrace {
		list = list[1:] // what follows is old enough too
	}
	g.seen[shard] = append(list, sighting{now, time})
}

// before returns up to which expiry, in unix seconds by shard time, subjects
// may be wiped now: what this process has seen expired for [sweepGrace], and
// what expired as long ago by shard time. 0: none.
func (g *grace) before(shard cloakroom.ShardID, now time.Duration, time uint32) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := uint32(0)
	for _, s := range g.seen[shard] {
		if now-s.at >= sweepGrace {
			seen = s.time
		}
	}
	const hour = uint32(sweepGrace / 1e9)
	return min(seen, time-min(time, hour))
}
