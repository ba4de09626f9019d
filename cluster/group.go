package cluster

import (
	"cloakroom/cluster/bell"

	"sync/atomic"

	"cloakroom/cluster/directory"
	"cloakroom/cluster/replica"
)

// group is one Raft group as this node sees it.
type group struct {
	id         directory.GroupID
	generation atomic.Uint32 // grows when the group begins anew

	member  atomic.Pointer[member] // the replica that lives here; nil: none
	changed bell.Bell              // rings when member changes
	hint    atomic.Pointer[string] // the node that led when last heard of; nil: unknown

	// Of the goroutine that tends it.
	trouble  string // told last
	troubled int64  // tick
}

// lead returns the local replica if it leads, and its term.
func (g *group) lead() (*member, uint64) {
	m := g.member.Load()
	if m == nil {
		return nil, 0
	}
	term, ok := m.replica.Lead()
	if !ok {
		return nil, 0
	}
	return m, term
}

// still reports whether m leads in that term.
func (g *group) still(m *member, term uint64) bool {
	now, ok := m.replica.Lead()
	return ok && now == term && g.member.Load() == m
}

// news returns two channels, of which one is closed when the local replica,
// or what it knows of its leader, changes. The second may be nil.
func (g *group) news() (mine, its <-chan struct{}) {
	mine = g.changed.Wait()
	if m := g.member.Load(); m != nil {
		its = m.replica.Changed()
	}
	return mine, its
}

// remember notes which node led.
func (g *group) remember(node string) {
	if now := g.hint.Load(); now == nil || *now != node {
		led := node // so that only a change allocates
		g.hint.Store(&led)
	}
}

// leader returns the identity of the leader as far as the local replica knows.
func (g *group) leader() (replica.Identity, bool) {
	m := g.member.Load()
	if m == nil {
		return replica.Identity{}, false
	}
	return m.replica.Leader()
}
