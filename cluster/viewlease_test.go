package cluster

import (
	"fmt"
	"testing"
	"time"

	"cloakroom/cluster/directory"
)

// Without a quorum of the directory every shard goes on, and views are gone by
// until their leases are over, on every node, and no longer.
func TestADirectoryWithoutAQuorumIsGoneByForALease(t *testing.T) {
	h := newHouse(t, 3, 2, func(_ string, cfg *Config) { cfg.Settings.LeaseMillis = 1000 })
	usable := 9 * time.Second // of ten leases
	fresh := func(name string) bool { n := h.node(name); return !n.Stale(n.Shown(), 0) }
	for _, name := range h.names() {
		if !fresh(name) || h.node(name).Status().View.Valid > usable {
			t.Fatalf("%s: %+v", name, h.node(name).Status().View)
		}
	}
	// Two of three replicas of the directory fail at the next command. They
	// can't be replaced: that would take a majority.
	var spared string
	for _, name := range h.names() {
		if m, _ := h.node(name).desk.lead(); m != nil {
			spared = name
		}
	}
	for _, name := range h.names() {
		if name != spared {
			h.node(name).desk.member.Load().broken.Store(true)
		}
	}
	begin := time.Now()
	h.node("n1").ProposeDirectory(t.Context(), &directory.Command{NextSealing: &directory.NextSealing{}}) //nolint:errcheck // it may be the last, or not
	write := func(name string, serial uint64) {
		t.Helper()
		for shard := range h.node(name).Directory().Shards {
			if err := h.node(name).surely(t.Context(), h.node(name).Directory().Shards[shard].ID, serial, "value"); err != nil {
				t.Fatalf("%v after the loss, %s: %v", time.Since(begin), name, err)
			}
		}
	}
	serial := uint64(0)
	over := map[string]time.Duration{}
	h.await("every view is over", func() (bool, string) {
		for _, name := range h.names() {
			serial++
			write(name, serial)
			if _, seen := over[name]; !seen && !fresh(name) {
				over[name] = time.Since(begin)
			}
		}
		return len(over) == 3, fmt.Sprint(over)
	})
	for name, after := range over {
		// A lease is renewed six times in its length, and lasted when it began.
		if after < usable-4*time.Second || after > usable+3*time.Second {
			t.Errorf("%s went by its view for %v", name, after)
		}
	}
	t.Logf("gone by for %v, %d writes meanwhile", over, 2*serial)
}

// A barrier takes a round trip while all are there, and waits for one that is
// gone until its lease is over.
func TestTheBarrierOfViewsWaitsForWhoIsSilent(t *testing.T) {
	h := newHouse(t, 3, 1, func(_ string, cfg *Config) { cfg.Settings.LeaseMillis = 1000 })
	change := func() time.Duration {
		t.Helper()
		result, err := h.node("n1").ProposeDirectory(t.Context(), &directory.Command{NextSealing: &directory.NextSealing{}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := h.node("n1").SettleView(t.Context(), result.Epoch); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	change() // a new leader may have to wait for the grants of the one before
	if took := change(); took > 3*time.Second {
		t.Errorf("with all there: %v", took)
	}
	if leader, _ := h.node("n1").desk.lead(); leader == nil {
		t.Skip("n1 does not lead the directory: the machine is busy")
	}
	h.kill("n3")
	took := change()
	if took < time.Second || took > 11*time.Second {
		t.Errorf("with one gone: %v", took)
	}
	if took := change(); took > 3*time.Second {
		t.Errorf("once it is waited out: %v", took)
	}
}
