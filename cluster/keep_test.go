package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer/peertest"
)

// A view that is behind may still want a replica that has lived here and is
// gone. Its log is gone too: under its old name an empty one would grant votes
// that were given away before.
func TestNoReplicaLivesTwice(t *testing.T) {
	h := newHouse(t, 2, 1, nil)
	c := h.node("n2").Cluster
	g := c.group(1)
	first := g.member.Load().self
	again := &group{id: 1}
	again.generation.Store(1)
	if _, err := c.startMember(again, first, false); !errors.Is(err, cloakroom.ErrConflict) {
		t.Errorf("it was started again: %v", err)
	}
	if want, _ := c.wanted(g, nil); want != nil {
		t.Errorf("the view wants %s back", want.ID)
	}
	if want, listed := c.wanted(g, g.member.Load()); want == nil || !listed {
		t.Error("the one that lives is not wanted")
	}
}

// A replica that fails soon after each start is replaced more and more slowly.
func TestFailuresInARowWait(t *testing.T) {
	c := &Cluster{}
	k := &keeping{c: c}
	var waits []int64
	for range 9 {
		k.since = c.ticked.Load()
		for k.early() {
			c.ticked.Add(1)
		}
		waits = append(waits, c.ticked.Load()-k.since)
		k.replaced()
	}
	for i, w := range waits {
		if want := min(int64(1)<<i-1, maxWait); w != want {
			t.Errorf("failure %d: waited %d ticks, want %d", i, w, want)
		}
		if w >= soon {
			break
		}
	}
	k.since = c.ticked.Load()
	c.ticked.Add(soon)
	if k.replaced(); k.strikes != 0 || k.early() {
		t.Errorf("after a long life: %d strikes", k.strikes)
	}
}

// A joiner that is refused, or finds nobody, leaves nothing behind.
func TestJoinersThatDontGetIn(t *testing.T) {
	h := newHouse(t, 1, 1, nil)
	try := func(what string, want error, change func(*Config)) {
		t.Helper()
		h.change = func(_ string, cfg *Config) { change(cfg) }
		if _, err := h.open("n2"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	h.patience = 1500 * time.Millisecond
	try("nobody there", context.DeadlineExceeded, func(cfg *Config) { cfg.Network.Seeds = []string{"127.0.0.1:1"} })
	try("another cluster", context.DeadlineExceeded, func(cfg *Config) {
		other := peertest.NewCA(t, [16]byte{8})
		cfg.ClusterID, cfg.Network.Certificate, cfg.Network.Roots = directory.ID{8}, other.Node("n2"), other.Roots()
	})
	try("another CA", context.DeadlineExceeded, func(cfg *Config) {
		other := peertest.NewCA(t, [16]byte(h.id))
		cfg.Network.Certificate, cfg.Network.Roots = other.Node("n2"), other.Roots()
	})
	if nodes := h.node("n1").Directory().Nodes; len(nodes) != 1 {
		t.Errorf("nodes: %v", nodes)
	}
	try("another generation", cloakroom.ErrConflict, func(cfg *Config) { cfg.Generation = 2 })
}
