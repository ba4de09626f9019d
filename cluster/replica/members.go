package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"cloakroom"
)

// Member is one replica of a group.
type Member struct {
	Identity
	Voter bool // counts for elections and commits
}

// roster knows the latest configuration of the group and its index. raft tells
// the first but not the second (v1.8.0: 0 from GetConfiguration), and without
// it no change of members could name the one it is based on. So the entries are
// followed on their way into the log.
type roster struct {
	changed func() // called without mu

	mu    sync.Mutex
	known []knownMembers // ascending; the last is the latest
	sure  uint64         // index up to which entries are committed
}

type knownMembers struct {
	index   uint64
	members []Member
}

// keptConfigurations bounds what is remembered. At most one configuration of a
// log is not committed, so two would do.
const keptConfigurations = 4

// configurationsIn decodes the configurations among entries on their way into
// the log. raft panics on one it can't read, and they come from other nodes.
func configurationsIn(logs []*raft.Log) (found []knownMembers, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("store logs: configuration: %w", cloakroom.ErrMalformed)
		}
	}()
	for _, log := range logs {
		if log.Type == raft.LogConfiguration {
			found = append(found, knownMembers{log.Index, membersOf(raft.DecodeConfiguration(log.Data))})
		}
	}
	return found, nil
}

// stored notes configurations that are in the log now.
func (r *roster) stored(found []knownMembers) {
	if len(found) == 0 {
		return
	}
	r.mu.Lock()
	r.known = append(r.known, found...)
	if over := len(r.known) - keptConfigurations; over > 0 {
		r.known = slices.Delete(r.known, 0, over)
	}
	r.mu.Unlock()
	r.changed()
}

// truncated notes that a newer leader's log replaces all from index on.
func (r *roster) truncated(from uint64) {
	r.mu.Lock()
	n := len(r.known)
	for n > 0 && r.known[n-1].index >= from && r.known[n-1].index > r.sure {
		n--
	}
	gone := n < len(r.known)
	r.known = r.known[:n]
	r.mu.Unlock()
	if gone {
		r.changed()
	}
}

// committed notes that entries up to index are there to stay.
func (r *roster) committed(index uint64) {
	r.mu.Lock()
	r.sure = max(r.sure, index)
	r.mu.Unlock()
	r.changed()
}

// installed puts what a snapshot says in the place of all up to its index. raft
// may have stored entries behind it already: it goes on before this is called.
// What an abandoned log held there it deletes, which truncated sees.
func (r *roster) installed(meta *raft.SnapshotMeta) {
	r.mu.Lock()
	newer := slices.IndexFunc(r.known, func(k knownMembers) bool { return k.index > meta.Index })
	if newer < 0 {
		newer = len(r.known)
	}
	base := knownMembers{meta.ConfigurationIndex, membersOf(meta.Configuration)}
	r.known = slices.Replace(r.known, 0, newer, base)
	r.sure = max(r.sure, meta.Index)
	r.mu.Unlock()
	r.changed()
}

// latest returns the newest configuration, 0 and none if there is none.
func (r *roster) latest() (uint64, []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) == 0 {
		return 0, nil
	}
	last := r.known[len(r.known)-1]
	return last.index, last.members
}

func membersOf(config raft.Configuration) []Member {
	members := make([]Member, len(config.Servers))
	for i, s := range config.Servers {
		members[i] = Member{Identity{string(s.ID), string(s.Address)}, s.Suffrage == raft.Voter}
	}
	return members
}

func configuration(members []Member) (config raft.Configuration) {
	for _, m := range members {
		suffrage := raft.Nonvoter
		if m.Voter {
			suffrage = raft.Voter
		}
		config.Servers = append(config.Servers, raft.Server{
			Suffrage: suffrage, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)})
	}
	return config
}

// Members returns the latest configuration in this replica's log, which need
// not be committed, and its index, which a change of it must name. A replica
// that nobody has contacted yet knows none: index 0. The slice is shared and
// must not be changed.
func (r *Replica) Members() (index uint64, members []Member, err error) {
	if err := r.stopped(); err != nil {
		return 0, nil, err
	}
	index, members = r.members.latest()
	return index, members, nil
}

// AddNonvoter adds a replica that receives the log but has no say. prev is the
// index of the configuration it is based on. It returns once the change is
// committed. The errors are those of [Replica.Apply];
// [cloakroom.ErrConflict] means that the members are others by now, or that
// the group already has one of these names: nothing happened, look again.
func (r *Replica) AddNonvoter(ctx context.Context, who Identity, prev uint64) error {
	return r.change(ctx, "add", prev, func(now []Member) error {
		if who.ID == "" || who.Addr == "" {
			return fmt.Errorf("identity is incomplete: %w", cloakroom.ErrMalformed)
		}
		if slices.ContainsFunc(now, func(m Member) bool { return m.ID == who.ID || m.Addr == who.Addr }) {
			return fmt.Errorf("is a member: %w", cloakroom.ErrConflict)
		}
		return nil
	}, func() raft.IndexFuture {
		return r.raft.AddNonvoter(raft.ServerID(who.ID), raft.ServerAddress(who.Addr), prev, enqueueTimeout)
	})
}

// Promote gives a replica that was added, and has caught up
// ([Progress.CaughtUp]), its vote. raft does not wait for it to catch up: the
// caller does. Otherwise like [Replica.AddNonvoter].
func (r *Replica) Promote(ctx context.Context, who Identity, prev uint64) error {
	return r.change(ctx, "promote", prev, func(now []Member) error {
		if !slices.Contains(now, Member{Identity: who}) {
			return fmt.Errorf("is no non-voter: %w", cloakroom.ErrConflict)
		}
		return nil
	}, func() raft.IndexFuture {
		return r.raft.AddVoter(raft.ServerID(who.ID), raft.ServerAddress(who.Addr), prev, enqueueTimeout)
	})
}

// Remove takes a replica out of the group, never its last voter. A leader that
// removes itself steps down. Otherwise like [Replica.AddNonvoter].
func (r *Replica) Remove(ctx context.Context, id string, prev uint64) error {
	return r.change(ctx, "remove", prev, func(now []Member) error {
		voters := 0
		found := false
		for _, m := range now {
			found = found || m.ID == id
			if m.Voter && m.ID != id {
				voters++
			}
		}
		if !found {
			return fmt.Errorf("is no member: %w", cloakroom.ErrConflict)
		}
		if voters == 0 {
			return fmt.Errorf("is the last voter: %w", cloakroom.ErrConflict)
		}
		return nil
	}, func() raft.IndexFuture {
		return r.raft.RemoveServer(raft.ServerID(id), prev, enqueueTimeout)
	})
}

// change proposes a new configuration. What fits refuses, nothing was done for.
func (r *Replica) change(ctx context.Context, verb string, prev uint64,
	fits func([]Member) error, propose func() raft.IndexFuture) error {
	refused := func(err error) error { return fmt.Errorf("%s replica of %s: %w", verb, r.cfg.Group, err) }
	if err := r.takeTurn(ctx); err != nil {
		return refused(err)
	}
	if _, leads := r.Lead(); !leads {
		r.endTurn()
		return refused(fmt.Errorf("no leader: %w", cloakroom.ErrUnavailable))
	}
	index, now := r.members.latest()
	if prev == 0 || prev != index {
		r.endTurn()
		return refused(fmt.Errorf("members changed: %w", cloakroom.ErrConflict))
	}
	if err := fits(now); err != nil {
		r.endTurn()
		return refused(err)
	}
	err := r.await(ctx, propose)
	if err != nil {
		return refused(err)
	}
	return nil
}
