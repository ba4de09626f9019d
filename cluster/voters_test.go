package cluster

import (
	"testing"

	"cloakroom/cluster/confirm"
	"cloakroom/cluster/replica"
)

// A newer leader may put another configuration at an index where one stood:
// voters that were remembered for the old one count no more.
func TestVotersAreNotKnownByTheIndexOfTheirConfiguration(t *testing.T) {
	c := open(t, nil)
	m := c.group(1).member.Load()
	other := []replica.Member{{Identity: replica.Identity{ID: "other"}, Voter: true}}
	m.voters.Store(&electorate{latest: first(other), epoch: c.Directory().Epoch,
		voters: []confirm.Voter{{Replica: "other", Node: "n9"}}})
	for range 2 { // made, then remembered
		if got, ok := c.votersOf(m); !ok || len(got) != 1 || got[0].Replica != m.self.ID {
			t.Errorf("voters %v, want this node's replica", got)
		}
	}
}
