package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/bell"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// views is the newest view of the directory that this node has seen. A
// replica of the directory that is made anew and catches up goes through older
// ones; they are not shown.
type views struct {
	now     atomic.Pointer[Shown] // never nil
	changed bell.Bell

	mu sync.Mutex // publish and extend: two lives of the directory may overlap
}

// newViews returns an empty view. until is how long any may be gone by without
// a lease: for ever, or not at all.
func newViews(until time.Duration) *views {
	v := &views{}
	none := &Shown{View: directory.New().Load()}
	none.until.Extend(until)
	v.now.Store(none)
	return v
}

// publish shows a view if it is newer.
func (v *views) publish(view *directory.View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.now.Load(); view.Epoch > old.Epoch {
		shown := &Shown{View: view}
		shown.until.Extend(old.Until()) // a lease of a view is one of all newer
		v.now.Store(shown)
		v.changed.Ring()
	}
}

// await waits until a view is fine.
func (v *views) await(ctx context.Context, fine func(*directory.View) bool) error {
	for {
		ring := v.changed.Wait()
		if fine(v.now.Load().View) {
			return nil
		}
		select {
		case <-ring:
		case <-ctx.Done():
			return fmt.Errorf("wait for the directory: %w", ctx.Err())
		}
	}
}

// publish shows a view of the directory.
func (c *Cluster) publish(view *directory.View) { c.views.publish(view) }

// Directory returns the newest view of the directory. It is immutable.
func (c *Cluster) Directory() *directory.View { return c.views.now.Load().View }

// News returns a channel that is closed when a newer view is shown.
func (c *Cluster) News() <-chan struct{} { return c.views.changed.Wait() }

// ShardOf returns the shard that owns slot.
func (c *Cluster) ShardOf(slot cloakroom.Slot) cloakroom.ShardID {
	return c.Directory().ShardOf(slot)
}

// directoryMachine fits the directory to a replica.
type directoryMachine struct {
	*directory.Machine
	publish func(*directory.View)
	open    func(dst, sealed []byte) ([]byte, error)
	opened  []byte       // reused; Apply has one caller at a time
	broken  *atomic.Bool // for tests
}

func (m *directoryMachine) Apply(index uint64, data []byte) (any, error) {
	if m.broken.Load() {
		return nil, errors.New("broken on purpose")
	}
	opened, err := m.open(m.opened[:0], data)
	if err != nil {
		return nil, fmt.Errorf("open command: %w", err)
	}
	m.opened = opened
	result := m.Machine.Apply(index, opened)
	m.publish(m.Load())
	return result, nil
}

func (m *directoryMachine) Snapshot() (replica.View, error) { return m.Machine.Snapshot(), nil }

func (m *directoryMachine) Restore(r io.Reader) error {
	if err := m.Machine.Restore(r); err != nil {
		return err
	}
	m.publish(m.Load())
	return nil
}
