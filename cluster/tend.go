package cluster

import (
	"context"
	"errors"
	"time"

	"cloakroom/cluster/directory"
)

// tend looks after one group until the cluster closes: it starts and ends this
// node's replica as the directory says (keep.go), and while that replica leads
// it brings the group's members to what the directory says (drive.go). One
// goroutine for each group, so that a slow one holds up no other.
//
// It looks again whenever the directory, the replica or its leader changes,
// and once a second.
func (c *Cluster) tend(g *group) {
	ctx := c.ctx
	k := &keeping{c: c, g: g}
	for {
		mine, its := g.news()
		views, tick := c.views.changed.Wait(), c.ticks.Wait()
		k.follow()
		again := k.keep(ctx)
		again = min(again, c.drive(ctx, g))
		if g.id == directory.DirectoryGroup {
			k.review()
			again = min(again, c.refound(ctx), c.plan(ctx))
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-mine:
		case <-its:
		case <-views:
		case <-tick:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

const (
	// atOnce asks for another look without a pause: a step was taken.
	atOnce time.Duration = 0
	// catchUp is how often a replica that catches up is asked how far it is.
	catchUp = 20 * time.Millisecond
	// whenever leaves it to the bells and the tick.
	whenever = time.Hour
)

// stepTime bounds one step of looking after a group: an RPC, a commit.
const stepTime = 5 * time.Second

// step carries out one directory command on the way of a group. It returns
// what the directory says to it.
func (c *Cluster) step(ctx context.Context, cmd *directory.Command) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	result, err := c.ProposeDirectory(ctx, cmd)
	if err == nil {
		err = result.Err()
	}
	return err
}

// sayAgain is how many ticks the same trouble is not told again.
const sayAgain = 60

// trouble logs why a step was not taken; the next tick tries again. Only the
// goroutine that tends g calls it.
func (c *Cluster) trouble(g *group, what string, err error) {
	now := c.ticked.Load()
	if errors.Is(err, context.Canceled) || g.trouble == what && now-g.troubled < sayAgain {
		return
	}
	g.trouble, g.troubled = what, now
	c.cfg.Logger.Warn(what, "group", g.id.String(), "error", err)
}
