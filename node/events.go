package node

import (
	"context"
	"time"

	"cloakroom"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/events"
	"cloakroom/node/policy"
	"cloakroom/securemem"
)

const (
	// eventStep is how often a stream looks for changes: what was applied here
	// is on its way within half a second, a second at the latest.
	eventStep = 500 * time.Millisecond
	// eventPulse is how long a stream is silent at most.
	eventPulse = time.Second
	// eventBatch bounds the pseudonyms in one event.
	eventBatch = 256
	// eventAuditWait bounds the writing of a stream's last audit entry.
	eventAuditWait = 5 * time.Second
)

// eventStream is one subscription, for the goroutine of its connection.
type eventStream struct {
	node   *Node
	caller *caller
	entry  audit.Entry
	print  print
	sub    *events.Subscription
	begun  time.Duration // on the node's clock
	spoken time.Duration

	greeted bool
	gap     bool // a reset is due
	more    bool // there is something to say at once
	told    int
	failed  error // why this side ended it, nil if it did not

	batch  []events.Change
	marks  []uint64
	cursor []byte // sealed
}

// Events opens a stream of changes in the domains of the caller's grant.
func (n *Node) Events(ctx context.Context, req *api.Request, at []byte) (api.EventStream, error) {
	c := req.Caller.(*caller)
	entry, err := n.operate(ctx, req, c, policy.Events)
	if err != nil {
		return nil, err
	}
	s := &eventStream{
		node: n, caller: c, entry: entry, print: printOf(c), begun: n.cfg.Uptime(),
		more: true, batch: make([]events.Change, eventBatch),
	}
	marks, err := n.resumeAt(s, at)
	if err != nil {
		return nil, n.refused(ctx, entry, err)
	}
	if err := n.intent(ctx, entry); err != nil {
		return nil, err
	}
	resumed := false
	s.sub, resumed = n.feed.Subscribe(len(c.rules.view.Shards), marks)
	s.gap = !resumed
	return s, nil
}

// resumeAt returns the marks of a sealed cursor, nil if the subscriber has to
// begin anew: it has none, or one from before a restore, or was told of
// changes under other rules.
func (n *Node) resumeAt(s *eventStream, sealed []byte) ([]uint64, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	c, err := n.openCursor(sealed)
	if err != nil {
		return nil, err
	}
	if c.print != s.print || len(c.marks) != len(s.caller.rules.view.Shards) {
		return nil, nil
	}
	marks := make([]uint64, len(c.marks))
	for i, m := range c.marks {
		if m.generation != n.cluster.Generation(cloakroom.ShardID(i)) {
			return nil, nil
		}
		marks[i] = m.index
	}
	return marks, nil
}

// Next implements api.EventStream.
func (s *eventStream) Next(ctx context.Context, reply *api.EventReply) error {
	if !s.greeted {
		s.greeted = true
		reply.Hello(s.node.leaseTime())
		return nil
	}
	for {
		if err := s.pause(ctx); err != nil {
			return err
		}
		said, err := false, s.recheck()
		if err == nil {
			said, err = s.say(ctx, reply)
		}
		if ctx.Err() == nil {
			s.failed = err
		}
		if said || err != nil {
			return err
		}
	}
}

// pause waits for the next look, unless there is something to say already.
func (s *eventStream) pause(ctx context.Context) error {
	if s.more || s.gap {
		return ctx.Err()
	}
	timer := time.NewTimer(eventStep)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// recheck ends a stream whose caller was revoked or lost the right, and has it
// begin anew when it may see something else than before.
func (s *eventStream) recheck() error {
	if rules := s.node.rulesNow(); rules != s.caller.rules {
		c, known := rules.callers[s.caller.credential]
		if !known {
			return cloakroom.ErrUnauthenticated
		}
		s.caller = c
		if now := printOf(c); now != s.print {
			s.print, s.gap = now, true
			s.sub.Skip()
		}
	}
	_, err := policy.Decide(&s.caller.grant, &policy.Request{Action: policy.Events}, s.node.now().Unix())
	if err == nil {
		err = s.node.current(s.caller.rules, 0)
	}
	return err
}

// say writes what there is to say; false: nothing yet.
func (s *eventStream) say(ctx context.Context, reply *api.EventReply) (said bool, err error) {
	now := s.node.cfg.Uptime()
	// First up to when all is known here, then what is known: the other way
	// round an erasure between the two would be taken for told.
	at, complete := s.node.feed.Complete(len(s.caller.rules.view.Shards), now)
	at -= s.begun
	complete = complete && at >= 0
	n, ok := 0, true
	if !s.gap {
		n, s.more, ok = s.sub.Read(s.batch, s.caller.grant.Domains.Has)
	}
	switch {
	case s.gap || !ok:
		s.gap, s.more = false, true
		reply.Reset(s.seal())
		now = 0 // and at once how far it is known that nothing else is missing
	case n > 0:
		if s.more || !complete {
			at = -1
		}
		err = s.write(ctx, reply, s.batch[:n], at)
	case now-s.spoken < eventPulse && s.spoken > 0:
		return false, nil
	case complete:
		reply.Alive(at)
	default:
		reply.Quiet()
	}
	s.spoken = now
	return true, err
}

// write names the changed pseudonyms. They appear in guarded memory only.
func (s *eventStream) write(ctx context.Context, reply *api.EventReply, changes []events.Change, at time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, eventPoolWait)
	defer cancel()
	if err := reply.Begin(ctx, s.node.memory.Pool(), s.seal(), len(changes)); err != nil {
		return err
	}
	s.told += len(changes)
	securemem.Do(func() { err = s.node.writeChanges(reply, changes) })
	reply.End(at)
	return err
}

// eventPoolWait is how long a stream waits for guarded memory.
const eventPoolWait = 10 * time.Second

// writeChanges writes the erased first, as an event lists them.
func (n *Node) writeChanges(reply *api.EventReply, changes []events.Change) error {
	for i := range changes {
		if changes[i].Kind == events.Changed {
			continue
		}
		id, err := n.records.IDOf(cloakroom.SubjectField, changes[i].Token)
		if err != nil {
			return err
		}
		reply.Erased(id)
	}
	for i := range changes {
		if changes[i].Kind != events.Changed {
			continue
		}
		id, err := n.records.IDOf(cloakroom.SubjectField, changes[i].Token)
		if err != nil {
			return err
		}
		reply.Changed(id)
	}
	return nil
}

// seal returns the cursor of where the stream stands.
func (s *eventStream) seal() []byte {
	s.marks = s.sub.Marks(s.marks[:0])
	c := cursor{print: s.print, marks: make([]mark, len(s.marks))}
	for i, index := range s.marks {
		c.marks[i] = mark{s.node.cluster.Generation(cloakroom.ShardID(i)), index}
	}
	s.cursor = s.node.sealCursor(s.cursor[:0], &c)
	return s.cursor
}

// Close implements api.EventStream. It records how many changes were told of,
// and why no more were.
func (s *eventStream) Close() {
	s.sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), eventAuditWait)
	defer cancel()
	s.entry.Outcome, s.entry.Found = outcomeOf(s.failed), s.told
	if err := s.node.audit.Write(ctx, &s.entry); err != nil {
		s.node.cfg.Logger.Warn("the end of a stream could not be recorded", "error", err)
	}
}

// leaseTime is how old an answer to a resolve can be on any node: a node alone
// always answers from the present.
func (n *Node) leaseTime() time.Duration {
	if n.cfg.Network == nil {
		return 0
	}
	return time.Duration(n.cluster.Directory().Settings.LeaseMillis) * time.Millisecond
}
