package node

import (
	"context"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// The sweep wipes subjects an hour after their expiry. Reads hide them from
// the moment on; the hour is for clocks that were wrong (grace.go).
const (
	sweepEvery = 10 * time.Second
	sweepGrace = time.Hour
	sweepBatch = 256 // subjects of one shard in one entry

	// sweepPatience is how long one entry, and what is read for it, may take: a
	// shard that lost its majority must not keep the sweep from all others.
	sweepPatience = 5 * time.Second
)

// sweeper is the goroutine that does it. close stops it and waits.
type sweeper struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (n *Node) startSweeper() *sweeper {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sweeper{cancel: cancel}
	s.done.Go(func() { n.sweep(ctx) }) // close stops it
	return s
}

func (s *sweeper) close() {
	if s == nil {
		return
	}
	s.cancel()
	s.done.Wait()
}

func (n *Node) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// What requests left is collected even when nothing is going on:
		// securemem.Do wipes what it allocated no earlier than that.
		debug.FreeOSMemory()
		for _, shard := range n.cluster.Directory().Shards {
			if err := n.sweepShard(ctx, shard.ID); err != nil && ctx.Err() == nil {
				n.cfg.Logger.Warn("sweep failed", "shard", shard.ID, "error", err)
			}
		}
	}
}

// sweepShard wipes all subjects of a shard that this node leads whose grace is
// over, in entries that leave room for others' between them, and some fields
// (scrub.go). Of other shards that are here it notes the time only, for when it
// leads them.
func (n *Node) sweepShard(ctx context.Context, shard cloakroom.ShardID) error {
	time := uint32(min(n.cluster.ShardTime(shard)/1000, math.MaxUint32))
	if time == 0 {
		return nil // no replica, or none that knows
	}
	now := n.cfg.Uptime()
	n.grace.note(shard, now, time)
	before := n.grace.before(shard, now, time)
	if before == 0 {
		return nil
	}
	var after cloakroom.Token
	for {
		next, err := n.sweepSome(ctx, shard, after, before)
		if err != nil {
			return err
		}
		if next == (cloakroom.Token{}) {
			return n.scrubShard(ctx, shard, before)
		}
		after = next
	}
}

// sweepSome wipes the next subjects of a shard that expired before, and returns
// the last token it looked at, zero when there is none left.
func (n *Node) sweepSome(ctx context.Context, shard cloakroom.ShardID, after cloakroom.Token, before uint32) (cloakroom.Token, error) {
	if !n.cluster.Leads(shard) {
		return cloakroom.Token{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	tokens, err := n.cluster.Expired(shard, after, before, sweepBatch)
	if err != nil || len(tokens) == 0 {
		return cloakroom.Token{}, err
	}
	var records command.Records
	if err := n.cluster.Read(ctx, shard, cloakroom.Lease, cloakroom.Index{}, tokens, &records); err != nil {
		return after, err
	}
	rules := n.rulesNow()
	commands := make([]command.Command, 0, len(tokens))
	for i, token := range tokens {
		subject, err := command.DecodeSubject(records.At(i))
		if err != nil || subject.Erased {
			continue // erased since
		}
		c, err := n.expire(rules, token, subject)
		if err != nil {
			return after, err
		}
		commands = append(commands, c)
	}
	if _, _, err := n.cluster.Propose(ctx, shard, commands); err != nil {
		return after, err
	}
	return tokens[len(tokens)-1], nil
}

// expire is the command that wipes a subject if it still has this expiry.
func (n *Node) expire(rules *rules, token cloakroom.Token, subject command.SubjectRecord) (command.Command, error) {
	var d draft
	var err error
	if d.id, err = n.records.IDOf(cloakroom.SubjectField, token); err != nil {
		return command.Command{}, err
	}
	if err := n.listAll(rules, &d, command.Expire); err != nil {
		return command.Command{}, err
	}
	d.command.Expiry = subject.Expiry
	return d.command, nil
}
