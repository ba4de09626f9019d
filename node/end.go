package node

import (
	"context"
	"errors"
	"time"
)

// drainWait is how long requests under way have to end: longer than the front
// door lets one take, so that no memory is unmapped under a handler.
const drainWait = 25 * time.Second

// Shut closes the front door and lets the requests under way end. The node
// goes on as a member of its cluster until Close. A second call does nothing.
func (n *Node) Shut() error {
	n.ready.Store(false)
	if n.server == nil || n.shut.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainWait)
	defer cancel()
	return errors.Join(n.server.Close(ctx), <-n.served)
}

// Leave prepares an end that nobody notices: the node says that it is not ready
// any more, gives away what it leads, and has callers go elsewhere with their
// next request. It returns when they have, after linger at the latest. Close
// comes next; until then the node answers all that comes.
func (n *Node) Leave(linger time.Duration) {
	if !n.ready.Swap(false) {
		return // nobody was told that it is
	}
	n.cluster.Leave()
	if n.server == nil {
		return
	}
	n.server.Farewell()
	late := time.NewTimer(linger)
	defer late.Stop()
	look := time.NewTicker(leaveLook)
	defer look.Stop()
	for n.server.Stats().Connections > 0 {
		select {
		case <-look.C:
		case <-late.C:
			return
		}
	}
}

// leaveLook is how often a node that leaves looks whether its callers have.
const leaveLook = 20 * time.Millisecond

// Close lets requests under way end, stops every room and wipes all memory.
func (n *Node) Close() error {
	faults := []error{n.Shut(), n.closeSide(sideWait)}
	n.cancel()
	n.running.Wait()
	n.sweeper.close()
	n.poller.close()
	if n.cluster != nil {
		faults = append(faults, n.cluster.Close())
	}
	return errors.Join(append(faults, n.wipe())...)
}

// Kill ends the node like a crash: no request under way is answered, no other
// node is told, nothing that is queued is finished. Unlike after a crash all
// its memory has been wiped when Kill returns.
func (n *Node) Kill() error {
	n.ready.Store(false)
	n.cancel()
	if n.server != nil && !n.shut.Swap(true) {
		n.server.Cut()
		<-n.served
	}
	n.closeSide(0) //nolint:errcheck // whoever waits there is on their own
	n.running.Wait()
	n.sweeper.close()
	n.poller.close()
	var faults []error
	if n.cluster != nil {
		faults = append(faults, n.cluster.Kill())
	}
	return errors.Join(append(faults, n.wipe())...)
}

// wipe closes the rooms that hold keys and values, once nobody uses them. A
// handler that does not end keeps its memory: it would fault without.
func (n *Node) wipe() error {
	if n.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainWait)
		defer cancel()
		if err := n.server.Quiesce(ctx); err != nil {
			return err
		}
	}
	n.giving.Lock()
	defer n.giving.Unlock()
	n.gate.keyed.Store(nil)
	var faults []error
	if n.audit != nil {
		faults = append(faults, n.audit.Close())
	}
	if n.credentials != nil {
		n.credentials.cache.Close()
	}
	if n.records != nil {
		n.records.Close()
	}
	n.unsealing.close()
	n.leaveKeys()
	if n.keys != nil {
		n.keys.Close()
	}
	if n.memory != nil {
		faults = append(faults, n.memory.Close())
	}
	if n.folder != nil {
		faults = append(faults, n.folder.Close())
	}
	return errors.Join(faults...)
}
