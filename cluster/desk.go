package cluster

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// desk is the directory group and the one goroutine that changes it, one
// command per entry: changes are rare, and each wants the view of the one
// before.
type desk struct {
	machine *directory.Machine
	self    replica.Identity
	replica *replica.Replica
	clerk   sync.WaitGroup

	mu      sync.RWMutex // closed and sends to changes
	closed  bool
	changes chan *change
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

// directoryMachine fits the directory to a replica.
type directoryMachine struct{ *directory.Machine }

func (m directoryMachine) Apply(index uint64, data []byte) (any, error) {
	return m.Machine.Apply(index, data), nil
}
func (m directoryMachine) Snapshot() (replica.View, error) { return m.Machine.Snapshot(), nil }
func (m directoryMachine) Restore(r io.Reader) error       { return m.Machine.Restore(r) }

// openDesk starts the directory group.
func openDesk(cfg *Config, self replica.Identity) (*desk, error) {
	d := &desk{machine: directory.New(), self: self, changes: make(chan *change, maxChanges)}
	var err error
	d.replica, err = replica.New(replica.Config{
		Group: "directory", Generation: cfg.Generation,
		Identity: self, Found: true,
		Machine: directoryMachine{d.machine}, Logger: cfg.Logger,
		MapLog: cfg.MapLog, UnmapLog: cfg.UnmapLog, LogBudget: cfg.DirectoryLogBudget,
	})
	if err != nil {
		return nil, err
	}
	d.clerk.Go(d.serve) // stopped by close
	return d, nil
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
	if err := d.replica.AwaitRoom(context.Background()); err != nil {
		return err
	}
	_, answer, err := d.replica.Apply(c.data)
	if err != nil {
		return err
	}
	c.result = answer.(directory.Result)
	return nil
}

// propose carries out one command.
func (d *desk) propose(ctx context.Context, cmd *directory.Command) (directory.Result, error) {
	data, err := cmd.Append(nil)
	if err != nil {
		return directory.Result{}, err
	}
	c := &change{data: data, done: make(chan struct{})}
	if err := d.push(c); err != nil {
		return directory.Result{}, err
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		if c.claim.CompareAndSwap(false, true) {
			return directory.Result{}, fmt.Errorf("change directory: %w: %w", cloakroom.ErrOverloaded, ctx.Err())
		}
		return directory.Result{}, fmt.Errorf("change directory: %w: %w", cloakroom.ErrOutcomeUnknown, ctx.Err())
	}
}

func (d *desk) push(c *change) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return fmt.Errorf("change directory: closing: %w", cloakroom.ErrUnavailable)
	}
	select {
	case d.changes <- c:
		return nil
	default:
		return fmt.Errorf("change directory: %d changes wait: %w", maxChanges, cloakroom.ErrOverloaded)
	}
}

// close finishes what waits and stops the group.
func (d *desk) close() {
	d.mu.Lock()
	d.closed = true
	close(d.changes)
	d.mu.Unlock()
	d.clerk.Wait()
	d.replica.Close()
}

// ProposeDirectory carries out one command on the directory. The error is
// about the way there, as with [Cluster.Propose]; whether the directory
// accepted the command is in the result ([directory.Result.Err]).
func (c *Cluster) ProposeDirectory(ctx context.Context, cmd *directory.Command) (directory.Result, error) {
	return c.desk.propose(ctx, cmd)
}

// NextSealingNumber takes a sealing number that nobody had before. An unknown
// outcome may waste one; numbers need not be dense.
func (c *Cluster) NextSealingNumber(ctx context.Context) (cloakroom.SealingNumber, error) {
	result, err := c.desk.propose(ctx, &directory.Command{NextSealing: &directory.NextSealing{}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("take sealing number: %w", err)
	}
	return result.SealingNumber, nil
}
