package cluster

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// A call of several entries is not told "nothing was done" by a Kill while
// one of them is in flight, nor answered before that one is.
func TestKillLeavesAnEntryInFlightToTheWriter(t *testing.T) {
	r, machine := gated(t, nil)
	many := make([]command.Command, 40)
	for i := range many {
		many[i] = put(uint64(i)+1, 16<<10)
	}
	answer := r.background(t.Context(), many...)
	<-machine.enter // the first entry
	killed := make(chan error, 1)
	go func() { killed <- r.Kill() }()
	queue := (*r.shards.Load())[0].queue
	for closed := false; !closed; runtime.Gosched() {
		queue.mu.Lock()
		closed = queue.closed
		queue.mu.Unlock()
	}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-answer:
		t.Errorf("answered with an entry in flight: %v", err)
		answer <- err
	case <-timer.C:
	}
	close(machine.gate)
	if err := <-answer; !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
	if err := <-killed; err != nil {
		t.Errorf("Kill: %v", err)
	}
	machine.mu.Lock()
	defer machine.mu.Unlock()
	if len(machine.batches) != 1 {
		t.Errorf("%d entries were applied, want the one that was in flight", len(machine.batches))
	}
}

// A leader that dies while others send it more than fits into one entry ends,
// and the process goes on.
func TestKillOfALeaderUnderImport(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	leader, other := "", ""
	h.await("a leader", func() (bool, string) {
		for _, name := range h.names() {
			if h.node(name).Leads(0) {
				leader = name
			} else {
				other = name
			}
		}
		return leader != "", "none"
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for worker := range 3 {
		clients.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				batch := make([]command.Command, 40)
				for i := range batch {
					batch[i] = subject(uint64(worker*1000+i), strings.Repeat("v", 40000))
				}
				once, done := context.WithTimeout(ctx, 5*time.Second)
				h.node(other).Propose(once, 0, batch) //nolint:errcheck // whatever comes of it
				done()
			}
		})
	}
	shard := (*h.node(leader).shards.Load())[0]
	h.await("a full queue", func() (bool, string) { return shard.queue.size() > 1<<20, "empty" })
	h.kill(leader)
	cancel()
	clients.Wait()
}
