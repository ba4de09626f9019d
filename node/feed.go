package node

import (
	"context"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/node/events"
)

// newFeed makes the rings that the shards' states feed.
func (n *Node) newFeed() (*events.Feed, error) {
	return events.New(events.Config{
		Shards: n.cfg.Shards,
		Fresh:  func(shard cloakroom.ShardID) bool { return n.cluster.Fresh(shard) },
	})
}

// watcher hands what a shard's state tells to the ring of the shard. It is
// called by one goroutine at a time, which applies the log: it must not wait.
type watcher struct {
	feed  *events.Feed
	shard cloakroom.ShardID
	batch []events.Change // used again
}

// keptBatch is how much of it is kept from one entry to the next.
const keptBatch = 4096

// Applied implements cluster.Watcher. A pseudonym that is new is left out:
// nobody can hold anything of it, and an import would flush the rings.
func (w *watcher) Applied(index uint64, changes []cluster.Change) {
	w.batch = w.batch[:0]
	for i := range changes {
		if kind := events.Kind(changes[i].Kind); kind.Valid() {
			w.batch = append(w.batch, events.Change{Token: changes[i].Subject, Domain: changes[i].Domain, Kind: kind})
		}
	}
	if len(w.batch) > 0 {
		w.feed.Applied(w.shard, index, w.batch)
	}
	if cap(w.batch) > keptBatch {
		w.batch = nil
	}
}

// Restored implements cluster.Watcher.
func (w *watcher) Restored(index uint64) { w.feed.Restored(w.shard, index) }

// changes tells another node what changed in a shard.
func (n *Node) changes(shard cloakroom.ShardID, after uint64, limit int) (list []cluster.LoggedChange, reach uint64, gap, more bool) {
	held, reach, ok := n.feed.Since(shard, after, limit, nil)
	if !ok {
		return nil, reach, true, false
	}
	list = make([]cluster.LoggedChange, len(held))
	for i, c := range held {
		list[i] = cluster.LoggedChange{Index: c.Index, Token: c.Token, Domain: c.Domain, Kind: uint8(c.Kind)}
	}
	return list, reach, false, reach < n.feed.Reach(shard)
}

// pollEvery is how often other nodes are asked for the changes of shards that
// have no replica here, while there is a subscriber.
const pollEvery = time.Second

// pollRounds is how often at once, while they have more to tell.
const pollRounds = 64

// poller is the goroutine that asks. close stops it and waits.
type poller struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	tries  [cloakroom.MaxShards]int // in a row without an answer
}

func (n *Node) startPoller() *poller {
	ctx, cancel := context.WithCancel(context.Background())
	p := &poller{cancel: cancel}
	if n.cfg.Network != nil {
		p.done.Go(func() { n.poll(ctx, p) }) // close stops it
	}
	return p
}

func (p *poller) close() {
	if p == nil {
		return
	}
	p.cancel()
	p.done.Wait()
}

func (n *Node) poll(ctx context.Context, p *poller) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for range pollRounds {
			if n.feed.Subscribers() == 0 || !n.pollOnce(ctx, p) {
				break
			}
		}
	}
}

// pollOnce asks once for all shards about which nothing can be said here. It
// returns true if there is more to get at once.
func (n *Node) pollOnce(ctx context.Context, p *poller) (more bool) {
	var parts []cluster.ChangesPart
	try := 0
	for i := range n.cluster.Directory().Shards {
		shard := cloakroom.ShardID(i)
		if !n.cluster.Fresh(shard) {
			parts = append(parts, cluster.ChangesPart{Shard: shard, After: n.feed.Reach(shard)})
			try = max(try, p.tries[i])
		}
	}
	if len(parts) == 0 {
		return false
	}
	asked := n.cfg.Uptime()
	n.cluster.Changes(ctx, parts, try)
	for i := range parts {
		part := &parts[i]
		if part.Err != nil {
			p.tries[part.Shard]++
			continue
		}
		p.tries[part.Shard] = 0
		m, ok := mirrorOf(part, asked)
		if ok {
			n.feed.Mirror(part.Shard, m)
		}
		more = more || ok && part.More && !part.Gap
	}
	return more
}

// mirrorOf turns what another node answered into what the ring takes in. It
// says false if the answer is not one.
func mirrorOf(part *cluster.ChangesPart, asked time.Duration) (events.Mirror, bool) {
	m := events.Mirror{Gap: part.Gap, Reach: part.Reach, Changes: make([]events.Change, len(part.Changes))}
	for i, c := range part.Changes {
		m.Changes[i] = events.Change{Index: c.Index, Token: c.Token, Domain: c.Domain, Kind: events.Kind(c.Kind)}
		if !m.Changes[i].Kind.Valid() {
			return m, false
		}
	}
	if part.Complete && !part.More {
		m.Asked = asked
	}
	return m, true
}
