package cluster

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/confirm"
	"cloakroom/cluster/state"
)

// Part is one shard's part of a read.
type Part struct {
	Shard cloakroom.ShardID
	// Index is the write to wait for, of that generation of the shard. 0: none;
	// one of another generation is ignored.
	Index      uint64
	Generation uint32
	Tokens     []cloakroom.Token // all of this shard
	Spans      []command.Span    // as many as tokens, filled by the read
	// Err says why the shard did not answer, [cloakroom.ErrUnavailable] if it
	// can't in time; its spans are empty then.
	Err error
}

// Read appends the records of tokens, all of one shard, to dst, one span for
// each in the order asked. It is [Cluster.ReadParts] for one part; an index of
// another shard is ignored.
func (c *Cluster) Read(ctx context.Context, shard cloakroom.ShardID, level cloakroom.Level, index cloakroom.Index, tokens []cloakroom.Token, dst *command.Records) error {
	before := len(dst.Spans)
	parts := [1]Part{{Shard: shard, Tokens: tokens, Spans: dst.Extend(len(tokens))}}
	if index.Shard == shard {
		parts[0].Index, parts[0].Generation = index.Index, index.Generation
	}
	c.ReadParts(ctx, level, parts[:], dst)
	if parts[0].Err != nil {
		dst.Spans = dst.Spans[:before]
	}
	return parts[0].Err
}

// ReadParts reads from many shards at once. Parts come in ascending order of
// their shards, each shard once, and each succeeds or fails by itself. One that
// names an index waits until that write is applied where it is read.
//
// At [cloakroom.Linearizable] what was acknowledged before the call is seen,
// whichever node acknowledged it: the leader of each shard answers, after a
// confirm round that starts after the request has come. At [cloakroom.Lease]
// the replica of this node answers from its own state while it has a lease,
// which may lack what was acknowledged within the length of a lease; what was
// settled ([Cluster.Settle]) it has. What has no lease here is read from the
// leader.
//
// It returns when it looked at [Config.Uptime] last, for [Cluster.Stale]; 0 if it
// did not.
func (c *Cluster) ReadParts(ctx context.Context, level cloakroom.Level, parts []Part, dst *command.Records) (looked time.Duration) {
	r := c.reads.get()
	r.begin(c, c.ready.Load(), level, parts, dst)
	if c.net == nil {
		r.alone(ctx)
	} else {
		r.everywhere(ctx)
	}
	looked = r.looked
	c.reads.put(r)
	return looked
}

// partSet is a set of positions in the parts of a read. There is one part for
// each shard at most, and 64 shards.
type partSet uint64

// each yields the positions in ascending order.
func (s partSet) each(yield func(int) bool) {
	for ; s != 0; s &= s - 1 {
		if !yield(bits.TrailingZeros64(uint64(s))) {
			return
		}
	}
}

// reading is one call of ReadParts on its way. It is used again.
type reading struct {
	c     *Cluster
	level cloakroom.Level
	parts []Part
	dst   *command.Records

	limit int // bytes of dst.Buf: who asks for more reads on by itself; 0: none

	open   partSet       // without an answer yet
	looked time.Duration // at the clock, the last time; 0: not yet
	shards [cloakroom.MaxShards]*shard
	done   [cloakroom.MaxShards]int // tokens of a part that are answered

	// Of the parts read here.
	votes   [cloakroom.MaxShards]vote
	members [cloakroom.MaxShards]*member
	terms   [cloakroom.MaxShards]uint64
	untils  [cloakroom.MaxShards]time.Duration // of the lease tried last; 0: none was
	wants   []confirm.Want
	sure    []bool
	shares  []state.Share

	// Of the parts read elsewhere.
	asks      []*ask // one for each node asked
	spare     []*ask // all that were ever made
	hints     [cloakroom.MaxShards]string
	redirects int
}

// readings lends them out.
type readings struct{ pool sync.Pool }

func (p *readings) get() *reading {
	if r, _ := p.pool.Get().(*reading); r != nil {
		return r
	}
	return &reading{}
}

func (p *readings) put(r *reading) {
	r.release()
	p.pool.Put(r)
}

// begin takes a call in. A part that names no shard of the table is answered
// at once.
func (r *reading) begin(c *Cluster, table *[]*shard, level cloakroom.Level, parts []Part, dst *command.Records) {
	r.c, r.level, r.parts, r.dst, r.open, r.redirects, r.limit, r.looked = c, level, parts, dst, 0, 0, 0, 0
	for i := range parts {
		p := &parts[i]
		switch {
		case table == nil:
			p.Err = cloakroom.ErrStarting
		case int(p.Shard) >= len(*table):
			p.Err = fmt.Errorf("no shard %d: %w", p.Shard, cloakroom.ErrMalformed)
		case level > cloakroom.Linearizable:
			p.Err = fmt.Errorf("read shard %d: unknown level: %w", p.Shard, cloakroom.ErrMalformed)
		default:
			p.Err = nil
			r.shards[i], r.done[i], r.votes[i], r.untils[i] = (*table)[p.Shard], 0, vote{}, 0
			r.open |= 1 << i
		}
	}
}

// release forgets what belongs to others.
func (r *reading) release() {
	r.c, r.parts, r.dst = nil, nil, nil
	clear(r.members[:])
	clear(r.votes[:])
	clear(r.shares)
	r.shares, r.asks = r.shares[:0], r.asks[:0]
}

// alone reads every part from the one replica there is. Those that wait for
// their index come after all others.
func (r *reading) alone(ctx context.Context) {
	r.here(ctx, r.open)
	for i := range r.open.each {
		m, _ := r.shards[i].lead()
		if m == nil || m.replica.AwaitApplied(ctx, r.awaited(i)) != nil {
			break
		}
		r.here(ctx, 1<<i)
	}
	r.giveUp(nil)
}

// leased reads those of the parts in set whose replica here has a lease, and
// takes them off r.open. It waits for nothing.
func (r *reading) leased(set partSet) {
	c := r.c
	c.reading.RLock()
	defer c.reading.RUnlock()
	// Whoever is a group's member now keeps its state until we are done.
	for i := range set.each {
		m := r.shards[i].member.Load()
		if m == nil {
			set &^= 1 << i
			continue
		}
		until := m.lease.Until() // before the copy: see lease.Holder
		if until == r.untils[i] || m.replica.AppliedIndex() < r.awaited(i) {
			set &^= 1 << i // none; over when it was tried before; or too early
			continue
		}
		r.members[i], r.untils[i] = m, until
	}
	if set == 0 {
		return
	}
	now, before := time.Duration(0), len(r.dst.Buf)
	if c.cfg.hazards.leaseNoRecheck {
		now = c.uptime()
	}
	r.copyOut(set)
	if !c.cfg.hazards.leaseNoRecheck {
		now = c.uptime() // once for all parts
	}
	r.looked = now
	for i := range set.each {
		// A replica parked meanwhile may have stopped half way through an entry.
		if now >= r.untils[i] || !r.members[i].replica.InService() {
			r.forget(i)
			set &^= 1 << i
		}
	}
	if set == 0 {
		r.dst.Buf = r.dst.Buf[:before]
	}
	r.open &^= set
}

// forget drops what was copied for part i. What another node answered stays.
func (r *reading) forget(i int) {
	p := &r.parts[i]
	p.Spans = p.Spans[:len(p.Tokens)] // copyOut may have cut it
	clear(p.Spans[r.done[i]:])
}

// here reads those of the parts in set that this node leads, and takes them
// off r.open.
func (r *reading) here(ctx context.Context, set partSet) {
	set = r.confirmed(ctx, r.led(set))
	if set == 0 {
		return
	}
	c := r.c
	c.reading.RLock()
	defer c.reading.RUnlock()
	// Whoever is still a group's member now keeps its state until we are done.
	for i := range set.each {
		if !r.shards[i].still(r.members[i], r.terms[i]) {
			set &^= 1 << i
		}
	}
	r.copyOut(set)
	for i := range set.each {
		// A replica parked meanwhile may have stopped half way through an entry.
		if !r.shards[i].still(r.members[i], r.terms[i]) {
			r.forget(i)
			set &^= 1 << i
		}
	}
	r.open &^= set
}

// led returns the parts of set that this node leads, and that have applied the
// index they wait for. A leader has applied what anybody was told: one that
// has not is deposed, or the index is made up. Nobody waits for it here.
func (r *reading) led(set partSet) partSet {
	var mine partSet
	for i := range set.each {
		s := r.shards[i]
		m, term := s.lead()
		if m == nil || m.replica.AppliedIndex() < r.awaited(i) {
			continue
		}
		r.members[i], r.terms[i] = m, term
		mine |= 1 << i
	}
	return mine
}

// awaited returns the index that part i waits for, 0 if none.
func (r *reading) awaited(i int) uint64 {
	if p := &r.parts[i]; p.Generation == r.shards[i].generation.Load() {
		return p.Index
	}
	return 0
}

// vote is what a node that asks for a part says of its own replica of the
// group: in which term it was when the request was written. It answers the
// question of a confirm round before it is asked.
type vote struct {
	replica []byte // ID; none: it says nothing
	term    uint64
}

// confirmed returns the parts of set that no newer leader can have taken over
// when the read began: by the asker's vote where that makes a majority with
// the leader's own, else by one round for all the others.
func (r *reading) confirmed(ctx context.Context, set partSet) partSet {
	if r.c.net == nil || set == 0 {
		return set // one voter: nobody else could have acknowledged anything
	}
	if h := &r.c.cfg.hazards; h.noConfirm || h.verifyLeader {
		return h.unconfirmed(r, set)
	}
	r.wants = r.wants[:0]
	var asked partSet
	for i := range set.each {
		if !r.c.assured(r.members[i], r.terms[i], r.votes[i]) {
			asked |= 1 << i
			r.wants = append(r.wants, confirm.Want{Group: uint32(r.shards[i].id), Term: r.terms[i]})
		}
	}
	if asked == 0 {
		return set
	}
	r.sure = grown(r.sure, len(r.wants))
	r.c.rounds.Confirm(ctx, r.wants, r.sure)
	n := 0
	for i := range asked.each {
		if !r.sure[n] {
			set &^= 1 << i
		}
		n++
	}
	return set
}

// assured reports whether the votes that are here already make a majority of
// m's group: its own, who leads in term, and the one that came with the
// request. The proof is that of a round (cluster/confirm): two voters that were
// in no later term after the read began, of three, meet every majority that
// could have elected a newer leader before. The leader's own term is looked at
// once more before and after the copy.
func (c *Cluster) assured(m *member, term uint64, v vote) bool {
	voters, ok := c.votersOf(m)
	if !ok || len(voters) > 3 {
		return false
	}
	yes := 0
	for j := range voters {
		switch id := voters[j].Replica; {
		case id == m.self.ID:
			yes++
		case id == string(v.replica) && v.term <= term:
			yes++
		}
	}
	return yes > len(voters)/2
}

// copyOut copies the records of the parts in set out of their machines, all at
// once where they are of the known kind: their cache misses overlap then. What
// is beyond the limit is cut off: a part has a span for each token answered.
func (r *reading) copyOut(set partSet) {
	r.shares = r.shares[:0]
	for i := range set.each {
		p, from := &r.parts[i], r.done[i]
		tokens, spans := p.Tokens[from:], p.Spans[from:]
		if m, ok := r.members[i].machine.(stateMachine); ok {
			r.shares = append(r.shares, state.Share{Machine: m.Machine, Tokens: tokens, Spans: spans})
		} else {
			r.members[i].machine.Read(tokens, spans, r.dst)
		}
	}
	answered := state.ReadShares(r.shares, r.dst, r.limit)
	if r.limit == 0 {
		return
	}
	for i := range set.each {
		if _, ok := r.members[i].machine.(stateMachine); ok {
			p, from := &r.parts[i], r.done[i]
			n := min(answered, len(p.Tokens)-from)
			p.Spans = p.Spans[:from+n]
			answered -= n
		}
	}
}

// giveUp answers what has no answer yet.
func (r *reading) giveUp(cause error) {
	for i := range r.open.each {
		p := &r.parts[i]
		clear(p.Spans)
		p.Err = fmt.Errorf("read shard %d: no answer from a leader: %w", p.Shard, cloakroom.ErrUnavailable)
		if cause != nil {
			p.Err = fmt.Errorf("%w: %w", p.Err, cause)
		}
	}
}

// grown returns s with length n, its content undefined.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
