//go:build linux

package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Group is what `shards list` says of the directory or a shard at one node.
type Group struct {
	Shard     int
	Leader    string
	Role      string
	Majority  bool
	Tolerates int
	Members   []struct {
		Node, State string
		Alive       bool
	}
}

// Sight is what a node sees of the cluster.
type Sight struct {
	Directory Group
	Shards    []Group
}

// groups are the directory and the shards.
func (s *Sight) groups() []Group { return append([]Group{s.Directory}, s.Shards...) }

// Sight asks a node what it sees.
func (n *Node) Sight() (*Sight, error) {
	out, trouble, code := n.fleet.Try(append([]string{"shards", "list", "--json"}, n.At("operator")...)...)
	if code != 0 {
		return nil, fmt.Errorf("shards list at %s: exit code %d: %s", n.Name, code, trouble)
	}
	var s Sight
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, fmt.Errorf("shards list at %s: %w", n.Name, err)
	}
	if len(s.Shards) == 0 {
		return nil, fmt.Errorf("shards list at %s names no shard", n.Name)
	}
	return &s, nil
}

// Listed is what `nodes list` says of a node.
type Listed struct {
	Name, State, Fingerprint string
	Alive                    bool
	Replicas, Leads          int
	Drain                    *struct {
		Done, Nowhere bool
		Left          int
	}
}

// List asks a node which nodes there are.
func (n *Node) List() (map[string]Listed, error) {
	out, trouble, code := n.fleet.Try(append([]string{"nodes", "list", "--json"}, n.At("operator")...)...)
	if code != 0 {
		return nil, fmt.Errorf("nodes list at %s: exit code %d: %s", n.Name, code, trouble)
	}
	var list struct{ Nodes []Listed }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("nodes list at %s: %w", n.Name, err)
	}
	byName := map[string]Listed{}
	for _, l := range list.Nodes {
		byName[l.Name] = l
	}
	return byName, nil
}

// Settled returns nil if, as the node sees it, every group has so many voters,
// all of them alive and nobody else, and a leader.
func (n *Node) Settled(voters int) error {
	s, err := n.Sight()
	if err != nil {
		return err
	}
	var faults []string
	for i, g := range s.groups() {
		sound := 0
		for _, m := range g.Members {
			if m.State == "voter" && m.Alive {
				sound++
			}
		}
		if sound != voters || len(g.Members) != voters || g.Leader == "" || !g.Majority {
			faults = append(faults, fmt.Sprintf("group %d led by %q has %v", i, g.Leader, g.Members))
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	return nil
}

// Balanced returns nil if, as the node sees it, replicas of shards are spread
// over the nodes named as evenly as can be, leads so that none has more than
// one too many or too few, and nowhere else are any.
func (n *Node) Balanced(nodes ...string) error {
	s, err := n.Sight()
	if err != nil {
		return err
	}
	replicas, leads := map[string]int{}, map[string]int{}
	for _, g := range s.Shards {
		leads[g.Leader]++
		for _, m := range g.Members {
			replicas[m.Node]++
		}
	}
	if even(replicas, nodes, 1) && even(leads, nodes, 2) {
		return nil
	}
	return fmt.Errorf("replicas %v, leads %v", replicas, leads)
}

// even reports whether the counts of all names differ by so much at most, and
// no other name has any.
func even(counts map[string]int, names []string, by int) bool {
	least, most, all := 1<<30, 0, 0
	for _, name := range names {
		least, most, all = min(least, counts[name]), max(most, counts[name]), all+counts[name]
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	return most-least <= by && all == total
}

// AwaitSettled waits until every node that runs sees everything settled, and
// returns how long that took.
func (f *Fleet) AwaitSettled(voters int, patience time.Duration) time.Duration {
	f.t.Helper()
	return Await(f.t, patience, func() error {
		for _, name := range f.Names() {
			if err := f.Node(name).Settled(voters); err != nil {
				return fmt.Errorf("at %s: %w", name, err)
			}
		}
		return nil
	})
}
