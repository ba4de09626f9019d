package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/bell"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/wire"
)

// Settle is the barrier of an erasure: it returns nil once no replica answers
// a read that starts later from a state before at, which is the index that
// [Cluster.Propose] returned for the write. Normally that takes a round trip;
// a replica that does not answer is waited out, for the length of a lease at
// most.
//
// [cloakroom.ErrOutcomeUnknown] says that ctx ended first: some replica may
// still answer from before. Calling it again is always right.
// [cloakroom.ErrMalformed] is for an index that is none of this shard.
func (c *Cluster) Settle(ctx context.Context, at cloakroom.Index) error {
	s, err := c.shard(at.Shard)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if at.Index == 0 || at.Generation != s.generation.Load() {
		return fmt.Errorf("settle shard %d: no index of this generation: %w", at.Shard, cloakroom.ErrMalformed)
	}
	if c.net == nil || c.cfg.hazards.settleNone {
		return nil // alone: the one replica has applied what it acknowledged
	}
	err = c.carry(ctx, &s.group, &settling{c, s, at.Index})
	if errors.Is(err, cloakroom.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, err)
	}
	if err != nil {
		return fmt.Errorf("settle shard %d: %w", at.Shard, err)
	}
	return nil
}

// settling is the errand of Settle. It may be run as often as one likes, so
// whatever goes wrong is tried again.
type settling struct {
	c  *Cluster
	s  *shard
	at uint64
}

func (e *settling) here(ctx context.Context) error { return e.c.settleHere(ctx, e.s, e.at) }

func (e *settling) there(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	var reply wire.SettleReply
	request := wire.SettleRequest{Group: uint32(e.s.id), Generation: e.s.generation.Load(), Index: e.at}
	if err := e.c.net.ask(ctx, node, wire.Settle, request.Append(nil), &reply); err != nil {
		return "", fmt.Errorf("%w: %v", errMoved, err)
	}
	if reply.Code != wire.OK {
		return e.c.nodeOf(reply.Hint), fmt.Errorf("%w: %v", errMoved, reply.Code.Err())
	}
	return "", nil
}

// settleStep is how long a leader works on the barrier of another node before
// it says "not yet": a leader that falls silent is given up soon after.
const settleStep = attemptTime - 500*time.Millisecond

// serveSettle completes a barrier for another node, if this one leads.
func (c *Cluster) serveSettle(ctx context.Context, body []byte) ([]byte, error) {
	var request wire.SettleRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	s, err := c.shardOf(groupID(request.Group), request.Generation)
	if err != nil {
		return (&wire.SettleReply{Code: wire.CodeOf(err)}).Append(nil), nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleStep)
	defer cancel()
	reply := wire.SettleReply{Code: wire.OK}
	if err := c.settleHere(ctx, s, request.Index); err != nil {
		reply = wire.SettleReply{Code: wire.CodeOf(err), Hint: s.leaderHint()}
	}
	return reply.Append(nil), nil
}

// settleHere is the barrier at the leader: everybody who may hold a lease from
// before at applies it, or is waited out.
func (c *Cluster) settleHere(ctx context.Context, s *shard, at uint64) error {
	m, term := s.lead()
	if m == nil || m.replica.AppliedIndex() < at || !s.still(m, term) {
		// What was acknowledged is applied wherever it can be led: at was
		// acknowledged by a newer leader, or by nobody. The lead is looked at
		// again because at may have come from a newer leader in between, whose
		// grants are not in this table.
		return errMoved
	}
	now, length := c.uptime(), c.leaseLength()
	young := m.table.Young(term, now, length)
	if c.cfg.hazards.settleYoungLeader {
		young = 0
	}
	waits := c.cfg.hazards.waitedFor(m, m.table.Before(at, now, nil))
	faults := make([]error, len(waits))
	var others sync.WaitGroup
	for i := range waits {
		if i+1 < len(waits) {
			others.Go(func() { faults[i] = c.settleWith(ctx, s, m, &waits[i], at) }) // ends with ctx, or the lease
		} else {
			faults[i] = c.settleWith(ctx, s, m, &waits[i], at)
		}
	}
	others.Wait()
	return errors.Join(append(faults, c.waitUntil(ctx, young))...)
}

// settleWith waits until one replica has applied at, or its lease is over.
func (c *Cluster) settleWith(ctx context.Context, s *shard, m *member, who *lease.Standing, at uint64) error {
	switch {
	case who.Replica == m.self.ID, c.cfg.hazards.leaseByAddress && who.Node == c.cfg.Node:
		return nil // applied before the table was looked at
	case who.Node == c.cfg.Node:
		return c.waitUntil(ctx, who.Over) // an earlier replica of this node
	}
	l := s.lanes.join(who)
	defer s.lanes.leave(l)
	for {
		ring := l.news.Wait()
		now := c.uptime()
		if now >= who.Over {
			return nil
		}
		upTo, mine := l.claim(at)
		if upTo == 0 {
			return nil
		}
		if !mine {
			if err := c.rest(ctx, ring, who.Over-now); err != nil {
				return err
			}
			continue
		}
		err := c.await(ctx, s, who, upTo, who.Over-now)
		if err == nil {
			m.table.Applied(who.Replica, upTo)
			l.answered(upTo, true)
			continue
		}
		err = c.rest(ctx, nil, min(who.Over-now, awaitRetry))
		l.answered(upTo, false) // only now: the others would ask at once
		if err != nil {
			return err
		}
	}
}

// awaitRetry is when a replica that gave no answer is asked again.
const awaitRetry = 20 * time.Millisecond

// rest waits for a bell, and no longer than that.
func (c *Cluster) rest(ctx context.Context, ring <-chan struct{}, longest time.Duration) error {
	timer := time.NewTimer(max(longest, time.Millisecond))
	defer timer.Stop()
	select {
	case <-ring:
	case <-timer.C:
	case <-ctx.Done():
		return unsettled(ctx.Err())
	case <-c.ctx.Done():
		return errClosing
	}
	return nil
}

// unsettled says that a barrier did not come to its end in time.
func unsettled(why error) error {
	return fmt.Errorf("not settled in time: %w: %w", errMoved, why)
}

// waitUntil waits until a moment of this node's uptime.
func (c *Cluster) waitUntil(ctx context.Context, moment time.Duration) error {
	for {
		left := moment - c.uptime()
		if left <= 0 {
			return nil
		}
		if err := c.rest(ctx, nil, left); err != nil {
			return err
		}
	}
}

// await asks a replica whether it has applied an index, and gives it time to.
func (c *Cluster) await(ctx context.Context, s *shard, who *lease.Standing, at uint64, left time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, min(max(left, time.Millisecond), attemptTime))
	defer cancel()
	request := wire.AwaitRequest{Group: uint32(s.id), Generation: s.generation.Load(), Index: at, Replica: who.Replica}
	var reply wire.AwaitReply
	if err := c.net.ask(ctx, who.Node, wire.Await, request.Append(nil), &reply); err != nil {
		return err
	}
	return reply.Code.Err()
}

// serveAwait answers once a replica of this node, that very one, has applied
// an index.
func (c *Cluster) serveAwait(ctx context.Context, body []byte) ([]byte, error) {
	var request wire.AwaitRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	reply := wire.AwaitReply{Code: wire.Unavailable}
	if s, err := c.shardOf(groupID(request.Group), request.Generation); err == nil {
		ctx, cancel := early(ctx)
		defer cancel()
		m := s.member.Load()
		if m != nil && (m.self.ID == request.Replica || c.cfg.hazards.leaseByAddress) &&
			m.replica.AwaitApplied(ctx, request.Index) == nil && m.replica.InService() {
			reply.Code = wire.OK
		}
	}
	return reply.Append(nil), nil
}

// lanes are the ways to the replicas that barriers of one shard wait for: one
// ask at a time to each, for all that wait.
type lanes struct {
	mu  sync.Mutex
	all map[string]*lane // by replica; those that somebody waits at
}

// lane is the way to one replica.
type lane struct {
	replica string
	mu      *sync.Mutex // of lanes
	news    bell.Bell   // rings after every ask
	waiting int         // barriers
	busy    bool        // one of them asks
	want    uint64      // highest index that any waits for
	applied uint64      // highest index it said it has applied
}

// join has the caller wait at the lane of a replica, until leave.
func (l *lanes) join(who *lease.Standing) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]*lane)
	}
	at := l.all[who.Replica]
	if at == nil {
		at = &lane{replica: who.Replica, mu: &l.mu}
		l.all[who.Replica] = at
	}
	at.waiting++
	return at
}

func (l *lanes) leave(at *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.waiting--; at.waiting == 0 {
		delete(l.all, at.replica)
	}
}

// claim returns 0 if index is applied there. Otherwise it returns the index to
// ask for and whether the caller is the one to ask.
func (l *lane) claim(index uint64) (upTo uint64, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied >= index {
		return 0, false
	}
	l.want = max(l.want, index)
	mine = !l.busy
	l.busy = true
	return l.want, mine
}

// answered notes what became of an ask.
func (l *lane) answered(index uint64, applied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	if applied {
		l.applied = max(l.applied, index)
	}
	l.news.Ring()
}
