package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// simClient does one thing after the other at random nodes, and writes down
// what it was told.
type simClient struct {
	world *simWorld
	name  string
	draw  *rand.Rand
	think time.Duration // between two operations, on average
	fat   bool          // deposits large records
	at    *simNode      // reads here and does nothing else; nil: does everything everywhere
	known map[int]simState

	patience time.Duration // for the barrier of an erasure; 0: as it comes
}

func (w *simWorld) client(i int) *simClient {
	return &simClient{world: w, name: fmt.Sprintf("c%d", i), draw: rand.New(rand.NewPCG(w.seed, 100+uint64(i))),
		think: 200 * time.Millisecond, known: make(map[int]simState)}
}

// reader returns a client that keeps reading at one node: whoever believes that
// it leads is asked soon.
func (w *simWorld) reader(n *simNode) *simClient {
	return &simClient{world: w, name: "r-" + n.name, draw: rand.New(rand.NewPCG(w.seed, hashed(n.name))),
		think: 30 * time.Millisecond, at: n, known: make(map[int]simState)}
}

// burst has everybody at work on one subject for a while, in short steps: a
// client at each node, which reads there if reads says so, and else writes.
// What goes wrong when a leader changes goes wrong within milliseconds.
func (w *simWorld) burst(subject int, lasts time.Duration, reads func(n *simNode) bool) {
	end := time.Now().Add(lasts)
	for _, n := range w.nodes {
		c := w.reader(n)
		c.name = "b-" + n.name
		w.faulting.Go(func() { // ends with lasts
			for time.Now().Before(end) {
				<-time.After(time.Duration(c.draw.Int64N(int64(16 * time.Millisecond))))
				if l := n.alive(); l != nil && l.serving.Load() != nil {
					c.hurry(l, reads(n), subject)
				}
			}
		})
	}
}

// hurry reads or writes a subject and does not wait long.
func (c *simClient) hurry(l *simLife, read bool, subject int) {
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Millisecond)
	defer cancel()
	if read {
		c.read(ctx, l, cloakroom.Linearizable, subject)
	} else {
		c.put(ctx, l, subject, false)
	}
}

// run works until stop is closed.
func (c *simClient) run(stop <-chan struct{}) {
	for {
		timer := time.NewTimer(time.Duration(c.draw.ExpFloat64() * float64(c.think)))
		select {
		case <-timer.C:
		case <-stop:
			timer.Stop()
			return
		}
		if c.at != nil {
			c.look()
		} else {
			c.step()
		}
	}
}

// look reads what is worked on, and does not wait long.
func (c *simClient) look() {
	l := c.at.alive()
	if l == nil || l.serving.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	c.read(ctx, l, cloakroom.Level(c.draw.IntN(2)), c.newest()...)
}

// pick returns a subject: one of the newest, now and then a new or an old one.
func (c *simClient) pick() int {
	newest := int(c.world.subjects.Load())
	if newest == 0 || c.draw.IntN(25) == 0 {
		newest = int(c.world.subjects.Add(1))
	}
	if c.draw.IntN(20) == 0 {
		return 1 + c.draw.IntN(newest)
	}
	return newest - c.draw.IntN(min(newest, c.world.living))
}

// newest returns all subjects that are worked on.
func (c *simClient) newest() (subjects []int) {
	n := int(c.world.subjects.Load())
	for s := max(1, n-c.world.living+1); s <= n; s++ {
		subjects = append(subjects, s)
	}
	return subjects
}

// step does one thing at a node that serves.
func (c *simClient) step() {
	var serving []*simLife
	for _, l := range c.world.lives() {
		if l.serving.Load() != nil {
			serving = append(serving, l)
		}
	}
	dice, subject := c.draw.IntN(100), c.pick()
	limit := 100*time.Millisecond + time.Duration(c.draw.ExpFloat64()*float64(time.Second))
	if len(serving) == 0 {
		return
	}
	at := serving[c.draw.IntN(len(serving))]
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	level := cloakroom.Level(c.draw.IntN(2))
	switch {
	case dice < 35:
		c.put(ctx, at, subject, false)
	case dice < 45:
		c.put(ctx, at, subject, true)
	case dice < 49:
		c.erase(ctx, at, subject)
	case dice < 65:
		c.read(ctx, at, level, subject)
	default:
		c.read(ctx, at, level, c.newest()...)
	}
}

func (w *simWorld) shardOf(subject int) cloakroom.ShardID {
	return cloakroom.ShardID(subject % w.shards)
}

// record makes the bytes of a version. They tell which one it is.
func (c *simClient) record(state simState) []byte {
	n := 60 + c.draw.IntN(300)
	if c.fat {
		n = 8 << 10
	}
	record := binary.BigEndian.AppendUint64(nil, uint64(state))
	record = append(record, simCanary...)
	return append(record, make([]byte, n)...)
}

// put deposits a new version; if swap, only onto the version it saw last.
func (c *simClient) put(ctx context.Context, at *simLife, subject int, swap bool) {
	state := simState(c.world.versions.Add(1))
	cmd := command.Command{Kind: command.Put, SchemaEpoch: 1, Subject: subjectToken(subject), Version: simVersionOf(state),
		Fields: []command.Field{{Token: fieldToken(subject), Record: c.record(state)}}}
	if subject%3 == 0 { // nothing may hide these yet
		cmd.Expiry = uint32(time.Now().Add(time.Hour).Unix())
	}
	before := c.known[subject]
	if swap {
		if before == simAbsent || before == simErased {
			return
		}
		cmd.Flags, cmd.Expected = command.HasExpected, simVersionOf(before)
	}
	call := c.world.history.now()
	result, index, answered := c.propose(ctx, at, subject, state, cmd)
	op := simOp{subject: subject, call: call, note: fmt.Sprintf("%s at %v: %v", c.name, at, result.Code)}
	if !answered {
		op.state, op.write = state, true
		c.world.history.add(op, false)
		return
	}
	switch result.Code {
	case 0: // refused on the way: noted
	case command.Created, command.Replaced:
		op.state, op.write = state, true
		c.world.history.add(op, true)
		c.world.history.ack(subject, state, index)
		if swap {
			op.state, op.write = before, false
			c.world.history.add(op, true)
		}
		c.known[subject] = state
	case command.Erased:
		op.state = simErased
		c.world.history.add(op, true)
		fallthrough
	default:
		c.world.history.refused(subject, state, result.Code.String())
	}
}

// erase erases a subject, and waits until nobody answers from before. One that
// was erased before is erased again: the barrier of the first may have failed.
func (c *simClient) erase(ctx context.Context, at *simLife, subject int) {
	cmd := command.Command{Kind: command.Erase, SchemaEpoch: 1, Subject: subjectToken(subject),
		Version: simVersionOf(simState(c.world.versions.Add(1))), Fields: []command.Field{{Token: fieldToken(subject)}}}
	call := c.world.history.now()
	result, index, answered := c.propose(ctx, at, subject, simAbsent, cmd)
	op := simOp{subject: subject, state: simErased, write: true, call: call, note: fmt.Sprintf("%s at %v: %v", c.name, at, result.Code)}
	switch {
	case answered && result.Code == 0: // refused on the way: nothing was done
	case answered && result.Code == command.NotFound:
		op.state, op.write = simAbsent, false
		c.world.history.add(op, true)
	case answered && result.Code == command.AlreadyErased:
		op.write = false
		c.world.history.add(op, true)
		if c.world.hazards.settleOnce {
			c.world.history.settle(simErasure{subject: subject, call: call, index: index, note: op.note})
			return
		}
		c.settle(ctx, at, simErasure{subject: subject, call: call, index: index, note: op.note})
	default:
		c.world.history.add(op, answered)
		if answered {
			c.world.history.ack(subject, simErased, index)
			c.settle(ctx, at, simErasure{subject: subject, call: call, index: index, note: op.note})
		}
	}
}

// settle waits for the barrier of an erasure, one time in two longer than its
// caller would.
func (c *simClient) settle(ctx context.Context, at *simLife, e simErasure) {
	if c.patience == 0 && c.draw.IntN(2) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), between(c.draw, time.Second, 6*time.Second))
		defer cancel()
	}
	began := time.Now()
	err := at.serving.Load().Settle(ctx, cloakroom.Index{Shard: c.world.shardOf(e.subject), Generation: 1, Index: e.index})
	switch {
	case !c.heard(at):
	case err == nil:
		c.world.history.settle(e)
		c.world.settled.Add(1)
		c.world.settling.Add(int64(time.Since(began)))
	case !errors.Is(err, cloakroom.ErrOutcomeUnknown) && !errors.Is(err, cloakroom.ErrUnavailable):
		c.world.truth.violated("Settle at %v: neither settled nor unknown: %v", at, err)
	}
}

// propose sends one command and says at which index, and whether its outcome is
// known. A zero code says that nothing was done.
func (c *simClient) propose(ctx context.Context, at *simLife, subject int, state simState, cmd command.Command) (command.Result, uint64, bool) {
	shard := c.world.shardOf(subject)
	results, index, err := at.serving.Load().Propose(ctx, shard, []command.Command{cmd})
	if !c.heard(at) {
		return command.Result{}, 0, false
	}
	if err == nil {
		c.world.latest[shard].Store(index.Index)
		c.world.acked(subject)
		if len(results) != 1 {
			c.world.truth.violated("%d results for one command", len(results))
			return command.Result{}, 0, false
		}
		return results[0], index.Index, true
	}
	for _, nothing := range []error{cloakroom.ErrOverloaded, cloakroom.ErrMemoryFull, cloakroom.ErrStarting, cloakroom.ErrUnavailable} {
		if errors.Is(err, nothing) && !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			if state != simAbsent {
				c.world.history.refused(subject, state, err.Error())
			}
			return command.Result{}, 0, true
		}
	}
	if !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		c.world.truth.violated("Propose at %v: neither done, nor refused, nor unknown: %v", at, err)
	}
	return command.Result{}, 0, false
}

// heard reports whether an answer of a life gets out: not if it has crashed,
// and only later if it is paused.
func (c *simClient) heard(at *simLife) bool {
	for at.node.paused.Load() && !at.dead.Load() {
		<-time.After(10 * time.Millisecond)
	}
	return !at.dead.Load()
}
