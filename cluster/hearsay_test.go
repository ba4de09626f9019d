package cluster

import (
	"fmt"
	"testing"

	"cloakroom/cluster/gossip"
)

// Nodes hear of each other through the gossip, too, and of one that died that
// nobody hears it any more.
func TestNodesSpeakOfEachOther(t *testing.T) {
	h := newHouse(t, 3, 2, func(_ string, cfg *Config) { cfg.Network.Gossip = true })
	hears := func(node string, want int) {
		t.Helper()
		h.await(fmt.Sprintf("%s hears of %d others", node, want), func() (bool, string) {
			got := h.node(node).Traffic().Spoken
			return got == want, fmt.Sprint(got)
		})
	}
	for _, node := range h.names() {
		hears(node, 2)
	}
	a := h.node("n1")
	b, _ := a.Directory().Node("n2")
	if !a.spokenOf(&b) {
		t.Error("n2 is not spoken of")
	}
	other := b
	if other.Life = a.life; a.spokenOf(&other) {
		t.Error("another life of n2 is spoken of")
	}
	if got, less := a.patience(&b, 10), a.patience(&other, 10); got != 10*reprieve || less != 10 {
		t.Errorf("one that others hear is waited for %d ticks, another %d", got, less)
	}

	h.kill("n3")
	hears("n1", 1)
	hears("n2", 1)
	h.start("n3")
	hears("n1", 2)
	hears("n3", 2)
}

// An answer to a ping counts as heard, if it is of the registered life.
func TestAnswersInTheGossipAreHeard(t *testing.T) {
	h := newHouse(t, 2, 1, nil)
	a := h.node("n1")
	b, _ := a.Directory().Node("n2")
	silent := func() {
		a.pulse.mu.Lock()
		defer a.pulse.mu.Unlock()
		a.pulse.nodes["n2"] = &vitals{life: b.Life, tick: a.ticked.Load() + 100}
	}
	heard := func() bool {
		a.pulse.mu.Lock()
		defer a.pulse.mu.Unlock()
		return a.pulse.nodes["n2"].tick <= a.ticked.Load()
	}
	silent() // as if heard in a hundred ticks: nobody asks until then
	a.heardFrom(gossip.Member{Node: "n2", Life: a.life})
	a.heardFrom(gossip.Member{Node: "nobody", Life: b.Life})
	if heard() {
		t.Error("another life was heard")
	}
	a.heardFrom(gossip.Member{Node: "n2", Life: b.Life})
	if !heard() {
		t.Error("the registered life was not heard")
	}
}
