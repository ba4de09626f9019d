package events

import "cloakroom"

// Subscription reads the changes of all shards from where it stands on.
type Subscription struct {
	feed  *Feed
	at    []position // by shard
	first int        // shard to begin with: a busy one must not starve the others
	batch [128]Change
}

// position is how far a subscription has read one shard.
type position struct {
	number  uint64 // of the next change in the ring
	told    uint64 // every change of the entries up to this one was read
	current uint64 // entry of the change read last
}

// Subscribe returns a subscription that goes on behind marks, one index for
// each shard, as [Subscription.Marks] gave them on any node. It says false if
// changes since then are missing, or marks is nil: then the subscription begins
// with the present. Close it.
func (f *Feed) Subscribe(shards int, marks []uint64) (s *Subscription, resumed bool) {
	s = &Subscription{feed: f, at: make([]position, shards)}
	f.subscribers.Add(1)
	if len(marks) != shards || !s.resume(marks) {
		s.Skip()
		return s, false
	}
	return s, true
}

func (s *Subscription) resume(marks []uint64) bool {
	for i, mark := range marks {
		number, ok := s.feed.rings[i].seek(mark)
		if !ok {
			return false
		}
		s.at[i] = position{number: number, told: mark, current: mark}
	}
	return true
}

// Skip goes on with the present: what was not read is not told any more.
func (s *Subscription) Skip() {
	for i := range s.at {
		number, last := s.feed.rings[i].present()
		s.at[i] = position{number: number, told: last, current: last}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() { s.feed.subscribers.Add(-1) }

// Read fills dst with the next changes of the wanted domains. more says that
// there are others; otherwise all shards were read to their end during the
// call. It says false if changes are missing: none is told, and the
// subscription has skipped to the present.
func (s *Subscription) Read(dst []Change, wanted func(cloakroom.Domain) bool) (n int, more, ok bool) {
	for range s.at {
		shard := s.first
		var all bool
		if n, all, ok = s.readShard(shard, dst, n, wanted); !ok {
			s.feed.gaps.Add(1)
			s.Skip()
			return 0, false, false
		}
		if !all {
			return n, true, true
		}
		s.first = (shard + 1) % len(s.at)
	}
	return n, false, true
}

// readShard fills dst from n on with changes of one shard. all says that its
// end was reached.
func (s *Subscription) readShard(shard int, dst []Change, n int, wanted func(cloakroom.Domain) bool) (filled int, all, ok bool) {
	p := &s.at[shard]
	for {
		got, all, last, ok := s.feed.rings[shard].read(p.number, s.batch[:])
		if !ok {
			return n, false, false
		}
		for i := range s.batch[:got] {
			c := &s.batch[i]
			if n == len(dst) {
				return n, false, true
			}
			if p.pass(c) && wanted(c.Domain) {
				dst[n] = *c
				n++
			}
		}
		if all {
			p.told, p.current = max(p.told, last), max(p.current, last)
			return n, true, true
		}
	}
}

// pass steps over a change. It says false if the change was told before the
// subscription began: a node that lags applies it only now.
func (p *position) pass(c *Change) bool {
	p.number++
	if c.Index > p.current {
		p.told, p.current = p.current, c.Index
	}
	return c.Index > p.told
}

// Marks appends, for each shard, up to which entry everything was read.
func (s *Subscription) Marks(dst []uint64) []uint64 {
	for i := range s.at {
		dst = append(dst, s.at[i].told)
	}
	return dst
}
