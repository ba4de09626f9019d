package cluster

import (
	"sync"
	"sync/atomic"
	"time"

	"cloakroom/cluster/command"
	"cloakroom/cluster/confirm"
)

// timeStep is how often shard time moves, and how often everything that has
// no bell is looked at.
const timeStep = time.Second

// tick rings once a second, moves the time of every shard this node leads, and
// finds out who is there, until the cluster closes.
func (c *Cluster) tick() {
	var listening sync.WaitGroup
	defer listening.Wait()
	var busy atomic.Bool // a silent node must not hold up the next tick
	listen := func() {
		if c.net != nil && busy.CompareAndSwap(false, true) {
			listening.Go(func() { // ends with c.ctx
				c.listen(c.ctx)
				busy.Store(false)
			})
		}
	}
	for {
		listen()
		select {
		case now := <-c.cfg.Clock.After(timeStep):
			c.ticked.Add(1)
			c.ticks.Ring()
			c.moveTime(now)
		case <-c.ctx.Done():
			return
		}
	}
}

// moveTime moves the time of every shard this node leads.
func (c *Cluster) moveTime(now time.Time) {
	shards := c.shards.Load()
	if shards == nil {
		return
	}
	var clocks []confirm.Reading
	if c.net != nil {
		now, clocks = c.cfg.Clock.Now(), c.rounds.Clocks()
	}
	skewed := false
	for _, s := range *shards {
		m, _ := s.lead()
		if m == nil {
			continue
		}
		at, voters, heard, agreed := c.shardTime(m, now, clocks)
		if !agreed || voters == 1 && !s.pace.keeps(at, now) {
			skewed = skewed || heard > voters/2 // a new leader may have heard nobody yet
			continue
		}
		c.tellTime(s, at, now)
	}
	if c.skewed.Swap(skewed) != skewed {
		if skewed {
			c.cfg.Logger.Error("clocks disagree, or the only one was set: nothing expires until they agree, or it has kept its pace for an hour")
		} else {
			c.cfg.Logger.Info("clocks agree again")
		}
	}
}

// fresh is how old a reading of a clock may be. A node is asked every second.
const fresh = 3 * timeStep

// shardTime returns the median of the clocks of a shard's voters, how many
// voters there are and were heard, and false if no majority of them agrees. m
// leads the shard.
func (c *Cluster) shardTime(m *member, now time.Time, clocks []confirm.Reading) (at time.Time, voters, heard int, agreed bool) {
	if c.net == nil {
		return now, 1, 1, true
	}
	_, members, err := m.replica.Members()
	if err != nil {
		return time.Time{}, 0, 0, false
	}
	var others []time.Time
	for i := range members {
		if !members[i].Voter {
			continue
		}
		voters++
		node := c.nodeOf(members[i].ID)
		for _, reading := range clocks {
			if node != c.cfg.Node && reading.Node == node && reading.Age >= 0 && reading.Age < fresh {
				others = append(others, now.Add(reading.Offset))
			}
		}
	}
	at, agreed = confirm.Median(now, others, voters)
	return at, voters, 1 + len(others), agreed
}

// tellTime queues a time command and waits for nothing. It tells no time that
// is not later than the last one, and none while the last is on its way.
// moment is this node's clock.
func (c *Cluster) tellTime(s *shard, at, moment time.Time) {
	ms := at.UnixMilli()
	if ms <= s.told.Load() || !s.telling.CompareAndSwap(false, true) {
		return
	}
	s.told.Store(ms)
	s.pace.note(at, moment)
	p := c.newProposal([]command.Command{{Kind: command.Time, Value: uint64(ms)}})
	p.forget = func() { s.telling.Store(false) }
	if err := s.queue.push(p); err != nil {
		p.answer() // refused: the next tick tries again
	}
}
