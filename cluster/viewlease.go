package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/bell"
	"cloakroom/cluster/confirm"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/lease"
	"cloakroom/cluster/wire"
)

// viewLeases is how many read leases the lease of a view is long: 30 s where
// those are of 3. Like theirs its length is fixed when the cluster is founded.
const viewLeases = 10

const (
	// viewSteps is how many times in its length the lease of a view is renewed,
	viewSteps = 6
	// viewRetries how many times after an ask that came to nothing.
	viewRetries = 60
)

// viewLength returns how long the lease of a view is.
func (c *Cluster) viewLength() time.Duration { return viewLeases * c.leaseLength() }

// Shown is a view of the directory and until when it may be gone by. The view
// is immutable; Until changes as its lease is renewed, and no more once a newer
// view is shown: what was decided by a view is held to the leases of that view.
type Shown struct {
	*directory.View
	until lease.Holder
}

// Until returns until when, by [Config.Uptime], requests may be decided by the
// view: from that moment on a newer one may be in force elsewhere, and whoever
// was told so must not meet the older. A node that is alone has no such moment.
func (s *Shown) Until() time.Duration { return s.until.Until() }

// Stale reports whether a request may not be decided by a view any more. looked
// is a look at [Config.Uptime] from after the request came, as [Cluster.ReadParts]
// returns it; 0: there was none, so the clock is looked at here.
func (c *Cluster) Stale(s *Shown, looked time.Duration) bool {
	until := s.Until()
	if until == forEver {
		return false
	}
	if looked == 0 {
		looked = c.uptime()
	}
	if looked < until {
		return false
	}
	c.viewing.wanted.Ring()
	return true
}

// Shown returns the newest view of the directory with its lease. It is the same
// pointer until a newer view is shown.
func (c *Cluster) Shown() *Shown { return c.views.now.Load() }

// extend notes that a view that has epoch may be gone by until then.
func (v *views) extend(epoch uint64, until time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if shown := v.now.Load(); shown.Epoch >= epoch {
		shown.until.Extend(until)
	}
}

// viewing is what a node does for the lease of its view.
type viewing struct {
	wanted bell.Bell     // rings when somebody met a view that was over
	failed atomic.Uint64 // asks that came to nothing
}

// renewView asks for a lease of this node's view, a few times in its length,
// until the cluster closes. One that is over though the last ask went well is
// that of a machine that slept: it asks at once.
func (c *Cluster) renewView() {
	for {
		ring, wait := c.viewing.wanted.Wait(), c.viewLength()/viewSteps
		if !c.askView() {
			c.viewing.failed.Add(1)
			ring, wait = nil, c.viewLength()/viewRetries
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-timer.C:
		case <-ring:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// askView asks once for a lease, and waits until the view is as new as it
// wants.
func (c *Cluster) askView() bool {
	ctx, cancel := context.WithTimeout(c.ctx, max(min(c.viewLength()/viewSteps, attemptTime), time.Millisecond))
	defer cancel()
	e := &viewAsk{c: c}
	if err := c.carry(ctx, &c.desk.group, e); err != nil {
		return false
	}
	if c.views.await(ctx, func(v *directory.View) bool { return v.Epoch >= e.reply.Epoch }) != nil {
		return false
	}
	c.views.extend(e.reply.Epoch, e.start+lease.Usable(e.reply.Length))
	return true
}

// viewAsk is the errand of askView.
type viewAsk struct {
	c *Cluster
	// The lease counts from here: before the question leaves, and before the
	// term in it is looked at. See leaseAsk.
	start   time.Duration
	request wire.ViewLeaseRequest
	reply   wire.ViewLeaseReply
}

// begin notes the time, then the vote of this node.
func (e *viewAsk) begin() {
	e.start = e.c.uptime()
	e.request = wire.ViewLeaseRequest{}
	if m := e.c.desk.member.Load(); m != nil && m.serves() {
		e.request = wire.ViewLeaseRequest{Term: m.replica.Term(), Replica: m.id}
	}
}

func (e *viewAsk) here(ctx context.Context) error {
	e.begin()
	e.reply = e.c.grantView(ctx, e.c.cfg.Node, e.c.life, &e.request)
	return e.outcome()
}

func (e *viewAsk) there(ctx context.Context, node string) (string, error) {
	e.begin()
	if err := e.c.net.ask(ctx, node, wire.ViewLease, e.request.Append(nil), &e.reply); err != nil {
		return "", fmt.Errorf("%w: %v", errMoved, err)
	}
	return e.c.nodeOf(e.reply.Hint), e.outcome()
}

// outcome is errMoved for whatever is no lease: asking again does no harm.
func (e *viewAsk) outcome() error {
	if e.reply.Code != wire.OK {
		return fmt.Errorf("%w: %v", errMoved, e.reply.Code.Err())
	}
	return nil
}

// serveViewLease grants a lease to another node.
func (c *Cluster) serveViewLease(ctx context.Context, node, life string, body []byte) ([]byte, error) {
	var request wire.ViewLeaseRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := early(ctx)
	defer cancel()
	reply := c.grantView(ctx, node, life, &request)
	return reply.Append(nil), nil
}

// grantView grants one life of a node a lease of its view, if the directory is
// led here. It is entered in the table, with the epoch it is for, before
// anything is said of it, and said only if no newer leader had been elected
// when it was asked for. Who is not registered gets none.
func (c *Cluster) grantView(ctx context.Context, node, life string, request *wire.ViewLeaseRequest) wire.ViewLeaseReply {
	m, term := c.desk.lead()
	if m == nil {
		return wire.ViewLeaseReply{Code: wire.NotLeader, Hint: c.desk.leaderHint()}
	}
	if info, there := m.ledger.Load().Node(node); !there || info.Life != life || !info.Joined() {
		return wire.ViewLeaseReply{Code: wire.Unavailable}
	}
	if c.cfg.hazards.viewByNode {
		life = node
	}
	reply := wire.ViewLeaseReply{Code: wire.OK, Length: c.viewLength()}
	reply.Epoch = m.table.Enter(term, life, node, c.uptime(), reply.Length, func() uint64 { return m.ledger.Load().Epoch })
	if c.cfg.hazards.viewNoRound || c.assured(m, term, vote{request.Replica, request.Term}) {
		return reply
	}
	sure := make([]bool, 1)
	c.rounds.Confirm(ctx, []confirm.Want{{Group: uint32(directory.DirectoryGroup), Term: term}}, sure)
	if !sure[0] {
		return wire.ViewLeaseReply{Code: wire.Unavailable}
	}
	return reply
}

// SettleView is the barrier of a change that takes rights away: it returns nil
// once no node decides a request that comes later by a view from before epoch,
// which is in the result of the change. Normally that takes a round trip; a node
// that does not answer is waited out, for the length of a view's lease at most.
//
// [cloakroom.ErrOutcomeUnknown] says that ctx ended first: some node may still
// go by an older view. Calling it again is always right.
func (c *Cluster) SettleView(ctx context.Context, epoch uint64) error {
	if c.net == nil || c.cfg.hazards.viewUnsettled {
		return nil // the one view there is was shown before the change was acknowledged
	}
	err := c.carry(ctx, &c.desk.group, &viewSettling{c, epoch})
	if errors.Is(err, cloakroom.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, err)
	}
	if err != nil {
		return fmt.Errorf("settle directory: %w", err)
	}
	return nil
}

// viewSettling is the errand of SettleView.
type viewSettling struct {
	c     *Cluster
	epoch uint64
}

func (e *viewSettling) here(ctx context.Context) error { return e.c.settleViewHere(ctx, e.epoch) }

func (e *viewSettling) there(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	var reply wire.SettleReply
	request := wire.ViewSettleRequest{Epoch: e.epoch}
	if err := e.c.net.ask(ctx, node, wire.ViewSettle, request.Append(nil), &reply); err != nil {
		return "", fmt.Errorf("%w: %v", errMoved, err)
	}
	if reply.Code != wire.OK {
		return e.c.nodeOf(reply.Hint), fmt.Errorf("%w: %v", errMoved, reply.Code.Err())
	}
	return "", nil
}

// serveViewSettle completes a barrier for another node, if this one leads the
// directory.
func (c *Cluster) serveViewSettle(ctx context.Context, body []byte) ([]byte, error) {
	var request wire.ViewSettleRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, settleStep)
	defer cancel()
	reply := wire.SettleReply{Code: wire.OK}
	if err := c.settleViewHere(ctx, request.Epoch); err != nil {
		reply = wire.SettleReply{Code: wire.CodeOf(err), Hint: c.desk.leaderHint()}
	}
	return reply.Append(nil), nil
}

// settleViewHere is the barrier at the leader. The order is that of settleHere:
// the epoch is applied, then the lead is looked at, then the table.
func (c *Cluster) settleViewHere(ctx context.Context, epoch uint64) error {
	m, term := c.desk.lead()
	if m == nil || m.ledger.Load().Epoch < epoch || !c.desk.still(m, term) {
		return errMoved
	}
	now := c.uptime()
	young := m.table.Young(term, now, c.viewLength())
	if c.cfg.hazards.viewYoungLeader {
		young = 0
	}
	waits := m.table.Before(epoch, now, nil)
	faults := make([]error, len(waits))
	var others sync.WaitGroup
	for i := range waits {
		others.Go(func() { faults[i] = c.settleViewWith(ctx, m, &waits[i], epoch) }) // ends with ctx, or the lease
	}
	others.Wait()
	return errors.Join(append(faults, c.waitUntil(ctx, young))...)
}

// settleViewWith waits until one life of a node shows a view of that epoch, or
// its lease is over.
func (c *Cluster) settleViewWith(ctx context.Context, m *member, who *lease.Standing, epoch uint64) error {
	for {
		left := who.Over - c.uptime()
		if left <= 0 {
			return nil
		}
		if c.showsView(ctx, who, epoch, left) {
			m.table.Applied(who.Replica, epoch)
			return nil
		}
		if err := c.rest(ctx, nil, min(left, awaitRetry)); err != nil {
			return err
		}
	}
}

// showsView asks one life of a node whether its view has come to epoch, and
// gives it time to.
func (c *Cluster) showsView(ctx context.Context, who *lease.Standing, epoch uint64, left time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, min(max(left, time.Millisecond), attemptTime))
	defer cancel()
	if c.cfg.hazards.viewByNode {
		info, _ := c.Directory().Node(who.Node)
		who = &lease.Standing{Replica: info.Life, Node: who.Node, Over: who.Over}
	}
	if who.Replica == c.life {
		return c.awaitEpoch(ctx, epoch) == nil
	}
	request := wire.ViewAwaitRequest{Epoch: epoch, Life: who.Replica}
	var reply wire.AwaitReply
	err := c.net.ask(ctx, who.Node, wire.ViewAwait, request.Append(nil), &reply)
	return err == nil && reply.Code == wire.OK
}

// awaitEpoch waits until the view shown here has come to epoch.
func (c *Cluster) awaitEpoch(ctx context.Context, epoch uint64) error {
	return c.views.await(ctx, func(v *directory.View) bool { return v.Epoch >= epoch })
}

// serveViewAwait answers once the view shown here has come to an epoch.
func (c *Cluster) serveViewAwait(ctx context.Context, body []byte) ([]byte, error) {
	var request wire.ViewAwaitRequest
	if err := request.Decode(body); err != nil {
		return nil, err
	}
	ctx, cancel := early(ctx)
	defer cancel()
	reply := wire.AwaitReply{Code: wire.Unavailable}
	if request.Life == c.life && c.awaitEpoch(ctx, request.Epoch) == nil {
		reply.Code = wire.OK
	}
	return reply.Append(nil), nil
}

// viewStatus returns the lease of the view here, and how many views are leased
// by the replica of the directory here.
func (c *Cluster) viewStatus() (l LeaseStatus) {
	if c.net == nil {
		return LeaseStatus{Valid: lease.Usable(c.viewLength())}
	}
	now := c.uptime()
	l.Valid = max(c.Shown().Until()-now, 0)
	if m, _ := c.desk.lead(); m != nil {
		l.Granted = m.table.Len(now)
	}
	return l
}

// forEver is until when the view of a node that is alone may be gone by.
const forEver = time.Duration(math.MaxInt64)

// awaitView waits until this node may go by its view.
func (c *Cluster) awaitView(ctx context.Context) error {
	for c.net != nil && c.Shown().Until() <= c.uptime() {
		if err := c.rest(ctx, nil, firstLook); err != nil {
			return fmt.Errorf("wait for a lease of the directory: %w", err)
		}
	}
	return nil
}

// firstLook is how often a node that starts looks whether its view has a lease.
const firstLook = 10 * time.Millisecond
