package node

import (
	"fmt"

	"cloakroom/cluster"
	"cloakroom/cluster/directory"
)

// Health is what whoever runs several nodes needs to know of one to end and
// begin them safely.
type Health struct {
	Ready  bool   // the node answers
	Life   string // new at every start
	Groups []GroupHealth
}

// GroupHealth is one Raft group as this node sees it.
type GroupHealth struct {
	Name       string  // "directory", "shard 3"
	Leads      bool    // by this node
	CatchingUp bool    // the replica here has no vote yet
	Settled    bool    // it has a leader, and a voter on as many nodes as it should
	Tolerates  int     // further nodes it can lose
	Quorum     int     // voters it needs
	Voters     []Voter // all of them, heard lately or not
}

// Voter is a node that holds a voter, in the life in which it holds it.
type Voter struct{ Node, Life string }

// Health returns how the node and its groups are.
func (n *Node) Health() Health {
	all, view := n.cluster.Status(), n.cluster.Directory()
	want := view.Wanted()
	h := Health{Ready: n.ready.Load() && all.Ready, Life: all.Life}
	h.Groups = append(h.Groups, groupHealth("directory", &all.Directory, want))
	for i := range all.Shards {
		h.Groups = append(h.Groups, groupHealth(fmt.Sprintf("shard %d", i), &all.Shards[i].GroupStatus, want))
	}
	return h
}

func groupHealth(name string, s *cluster.GroupStatus, want int) GroupHealth {
	g := GroupHealth{Name: name, Leads: s.Role == cluster.Leader, CatchingUp: s.Role == cluster.CatchingUp, Tolerates: s.Tolerates}
	voters, leaving := 0, 0
	for _, m := range s.Members {
		switch m.State {
		case directory.Leaving:
			leaving++
		case directory.Voter:
			voters++
			g.Voters = append(g.Voters, Voter{m.Node, m.Life})
		}
	}
	g.Quorum = (voters+leaving)/2 + 1 // one that leaves counts until it is gone
	g.Settled = s.Leader != "" && voters == want && leaving == 0
	return g
}
