package cluster

import (
	"time"

	"cloakroom/cluster/command"
)

// timeStep is how often shard time moves.
const timeStep = time.Second

// tick moves the time of every shard this process leads, until Close.
func (c *Cluster) tick() {
	for {
		select {
		case now := <-c.cfg.Clock.After(timeStep):
			for _, s := range *c.ready.Load() {
				s.tellTime(now)
			}
		case <-c.stop:
			return
		}
	}
}

// tellTime queues a time command and waits for nothing. It tells no time that
// is not later than the last one, and none while the last is on its way.
func (s *shard) tellTime(now time.Time) {
	ms := now.UnixMilli()
	if ms <= s.told.Load() || !s.replica.Leads() || !s.telling.CompareAndSwap(false, true) {
		return
	}
	s.told.Store(ms)
	p := newProposal([]command.Command{{Kind: command.Time, Value: uint64(ms)}})
	p.forget = func() { s.telling.Store(false) }
	if err := s.queue.push(p); err != nil {
		p.answer() // refused: the next tick tries again
	}
}
