package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/placement"
)

// desk is the directory group and the one goroutine that changes it while
// this node leads it, one command per entry: changes are rare, and each wants
// the view of the one before.
type desk struct {
	group
	clerk sync.WaitGroup
	seal  func(dst, data []byte) ([]byte, error)

	mu      sync.RWMutex // closed and sends to changes
	closed  bool
	changes chan *change

	// Of the placement; see plan.
	missing      placement.Step // of the directory, zero if none is missing
	missingSince int64          // tick
	term         uint64         // in which it was last led from here
	since        int64          // the tick at which that began
}

// maxChanges bounds the changes that wait.
const maxChanges = 256

// change is one command on its way.
type change struct {
	data   []byte
	claim  atomic.Bool // set by whoever comes first: the clerk, or a caller who leaves
	result directory.Result
	err    error
	done   chan struct{}
}

// newDesk makes the desk and starts its clerk.
func newDesk(generation uint32, seal func(dst, data []byte) ([]byte, error)) *desk {
	d := &desk{seal: seal, changes: make(chan *change, maxChanges)}
	d.id = directory.DirectoryGroup
	d.generation.Store(generation)
	d.clerk.Go(d.serve) // stopped by close
	return d
}

// serve carries out changes until the desk is closed and none is left.
func (d *desk) serve() {
	for c := range d.changes {
		if !c.claim.CompareAndSwap(false, true) {
			continue // its caller has left
		}
		c.err = d.carryOut(c)
		close(c.done)
	}
}

func (d *desk) carryOut(c *change) error {
	m, _ := d.lead()
	if m == nil {
		return errMoved
	}
	if m.replica.Full() && !pressing(c.data) {
		return errDiskFull
	}
	if err := m.replica.AwaitRoom(context.Background()); err != nil {
		return moved(m, err)
	}
	sealed, err := d.seal(nil, c.data)
	if err != nil {
		return fmt.Errorf("seal command: %w", err)
	}
	_, answer, err := m.replica.Apply(sealed)
	if err != nil {
		return moved(m, err)
	}
	c.result = answer.(directory.Result)
	if len(d.changes) == 0 {
		m.replica.Nudge() // the others' views wait for it
	}
	return nil
}

// errDiskFull refuses a change while the disk has too little room for the log.
var errDiskFull = fmt.Errorf("the disk of the node that leads the directory is nearly full: %w", cloakroom.ErrUnavailable)

// pressing reports whether a command is carried out all the same: room is kept
// for erasures, for taking rights away, and for what heals the cluster or
// empties the very node.
func pressing(data []byte) bool {
	var cmd directory.Command
	if directory.Decode(data, &cmd) != nil {
		return false
	}
	switch {
	case cmd.RecordErasures != nil, cmd.RevokePrincipal != nil, cmd.SuspendPrincipal != nil,
		cmd.PutNode != nil, cmd.AdmitNode != nil, cmd.DrainNode != nil, cmd.RemoveNode != nil,
		cmd.AddReplica != nil, cmd.SetReplica != nil, cmd.DropReplica != nil, cmd.RefoundGroup != nil:
		return true
	}
	return false
}

// propose carries out one encoded command here. errMoved says that this node
// does not lead the directory.
func (d *desk) propose(ctx context.Context, data []byte) (directory.Result, error) {
	c := &change{data: data, done: make(chan struct{})}
	if err := d.push(c); err != nil {
		return directory.Result{}, err
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		if c.claim.CompareAndSwap(false, true) {
			return directory.Result{}, fmt.Errorf("%w: %w", cloakroom.ErrOverloaded, ctx.Err())
		}
		return directory.Result{}, fmt.Errorf("%w: %w", cloakroom.ErrOutcomeUnknown, ctx.Err())
	}
}

func (d *desk) push(c *change) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return errClosing
	}
	select {
	case d.changes <- c:
		return nil
	default:
		return fmt.Errorf("%d changes wait: %w", maxChanges, cloakroom.ErrOverloaded)
	}
}

// close finishes what waits and lets nothing more in.
func (d *desk) close() {
	d.mu.Lock()
	d.closed = true
	close(d.changes)
	d.mu.Unlock()
	d.clerk.Wait()
}
