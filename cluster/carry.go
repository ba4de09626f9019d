package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// errMoved says that the group has no leader where it was sought, and that
// nothing was done: whoever gets it looks again. To callers of this room it is
// no more than [cloakroom.ErrUnavailable].
var errMoved = fmt.Errorf("no leader here: %w", wire.ErrNotLeader)

// errClosing refuses new work for good.
var errClosing = fmt.Errorf("closing: %w", cloakroom.ErrUnavailable)

// moved turns an error of m's replica after which nothing was done, because m
// does not lead any more or is handing its lead over, into errMoved.
func moved(m *member, err error) error {
	if errors.Is(err, replica.ErrTransferring) {
		return fmt.Errorf("%w: %w", errMoved, err) // it leads on if the transfer fails, and takes entries again
	}
	if !errors.Is(err, cloakroom.ErrUnavailable) || errors.Is(err, cloakroom.ErrOutcomeUnknown) || m.replica.Leads() {
		return err
	}
	return fmt.Errorf("%w: %w", errMoved, err)
}

// errand is work for the leader of a group: the same, done here or sent there.
type errand interface {
	// here does it with the local replica, which leads.
	here(ctx context.Context) error
	// there has node do it. hint names the node to ask instead, "" if the
	// answer did not say.
	there(ctx context.Context, node string) (hint string, err error)
}

// maxRedirects bounds how often a hint is followed without a pause: two nodes
// that each believe in the other must not keep a request spinning.
const maxRedirects = 3

// carry takes an errand to the leader of g. As long as nothing was done
// (errMoved) it looks for the leader again, until ctx ends. An unknown outcome
// is never tried again here.
func (c *Cluster) carry(ctx context.Context, g *group, e errand) error {
	hint, redirects := "", 0
	for try := 0; ; try++ {
		mine, its := g.news()
		node, err := "", errMoved
		if m, _ := g.lead(); m != nil {
			err = e.here(ctx)
		} else if node = c.whoLeads(g, hint, try); node != "" {
			hint, err = e.there(ctx, node)
		}
		if !errors.Is(err, errMoved) {
			if err == nil && node != "" {
				g.remember(node)
			}
			return err
		}
		if c.net == nil {
			return err // nobody else could lead
		}
		if hint != "" && hint != node && redirects < maxRedirects {
			redirects++
			continue
		}
		hint, redirects = "", 0
		if over := c.pause(ctx, mine, its, try); over != nil {
			return fmt.Errorf("%w: %w", err, over)
		}
	}
}

// whoLeads guesses the node that leads g: what the last answer said, what the
// local replica knows, who led before, and every other replica in turn.
func (c *Cluster) whoLeads(g *group, hint string, try int) string {
	if hint != "" && hint != c.cfg.Node {
		return hint
	}
	if try%2 == 0 {
		if node := c.knownLeader(g); node != "" {
			return node
		}
	}
	info, _ := c.Directory().Group(g.id)
	n := len(info.Replicas)
	for i := range n {
		r := &info.Replicas[(try/2+i)%n]
		if r.Node != c.cfg.Node && r.State != directory.Leaving {
			return r.Node
		}
	}
	return ""
}

// knownLeader returns the node of the leader as the local replica knows it,
// or as it was heard of last; "" if neither, or if it would be this one.
func (c *Cluster) knownLeader(g *group) string {
	if id, known := g.leader(); known {
		if _, r, there := c.Directory().Replica(id.ID); there && r.Node != c.cfg.Node {
			return r.Node
		}
	}
	if hint := g.hint.Load(); hint != nil && *hint != c.cfg.Node {
		return *hint
	}
	return ""
}

// The pauses between two looks for a leader grow from the first to the last.
// They end early when the local replica has news.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 64 * time.Millisecond
)

// pause waits a little before the next look. It returns why there should be
// none.
func (c *Cluster) pause(ctx context.Context, mine, its <-chan struct{}, try int) error {
	timer := time.NewTimer(min(firstPause<<min(try, 10), lastPause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-mine:
	case <-its:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return errClosing
	}
	return nil
}
