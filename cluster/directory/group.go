package directory

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"cloakroom"
)

// GroupID numbers the Raft groups of a cluster: 0 is the directory, 1+n is
// shard n.
type GroupID uint32

// DirectoryGroup is the group of the directory itself.
const DirectoryGroup GroupID = 0

// ShardGroup returns the group of a shard.
func ShardGroup(id cloakroom.ShardID) GroupID { return GroupID(id) + 1 }

// Shard returns the shard of group g; the directory is none.
func (g GroupID) Shard() (cloakroom.ShardID, bool) {
	if g == DirectoryGroup || g > math.MaxUint16+1 {
		return 0, false
	}
	return cloakroom.ShardID(g - 1), true
}

// String returns "directory" or "shard 3".
func (g GroupID) String() string {
	if g == DirectoryGroup {
		return "directory"
	}
	return "shard " + strconv.FormatUint(uint64(g)-1, 10)
}

// MaxReplicas bounds the replicas of one group, leaving ones included: a node
// that restarts again and again leaves one behind each time until the group
// has a leader to remove it.
const MaxReplicas = 16

// GroupInfo says where one group lives. Every group of an initialised cluster
// has a voter.
type GroupInfo struct {
	Generation uint32 `json:"generation"` // from 1; a restore begins a new one
	// Changed is the epoch that last changed the replicas; see [AddReplica].
	Changed  uint64        `json:"changed,omitempty"`
	Replicas []ReplicaInfo `json:"replicas"` // in the order they were added
}

// ShardInfo says where one shard lives.
type ShardInfo struct {
	ID cloakroom.ShardID `json:"id"`
	GroupInfo
}

// ReplicaState is how far the life of a replica has come. It only moves
// forward.
type ReplicaState string

// The states of a replica.
const (
	Preparing ReplicaState = "preparing" // to be started, joined as a non-voter, and caught up
	Voter     ReplicaState = "voter"     // counts towards the quorum
	Leaving   ReplicaState = "leaving"   // to be removed from its group, then dropped here
)

// ReplicaInfo names one replica of a group. The identity is the identity of
// its log: a log that is lost takes both names with it.
type ReplicaInfo struct {
	ID      string       `json:"id"`      // Raft server ID
	Address string       `json:"address"` // virtual address, unique per replica
	Node    string       `json:"node"`
	Life    string       `json:"life"` // of the node, which keeps the log
	State   ReplicaState `json:"state"`
	// Durable: its log is on its node's disk and outlives the life in which the
	// replica was made. The directory's own replicas only.
	Durable bool `json:"durable,omitempty"`
}

// place is where a replica stands in a view.
type place struct {
	group GroupID
	at    int
}

// Groups yields every group, the directory first.
func (v *View) Groups() iter.Seq[GroupID] {
	return func(yield func(GroupID) bool) {
		for g := range GroupID(len(v.Shards) + 1) {
			if !yield(g) {
				return
			}
		}
	}
}

// Group returns what is known of group g. It does not allocate.
func (v *View) Group(g GroupID) (GroupInfo, bool) {
	if g == DirectoryGroup {
		return v.Directory, v.Epoch > 0
	}
	if uint64(g) > uint64(len(v.Shards)) {
		return GroupInfo{}, false
	}
	return v.Shards[g-1].GroupInfo, true
}

// Replica returns the replica of that Raft server ID. It does not allocate.
func (v *View) Replica(id string) (GroupID, ReplicaInfo, bool) { return v.look(v.byReplica, id) }

// ReplicaAt returns the replica of that virtual address. It does not allocate.
func (v *View) ReplicaAt(addr string) (GroupID, ReplicaInfo, bool) { return v.look(v.byAddress, addr) }

func (v *View) look(table map[string]place, key string) (GroupID, ReplicaInfo, bool) {
	p, there := table[key]
	if !there {
		return 0, ReplicaInfo{}, false
	}
	group, _ := v.Group(p.group)
	return p.group, group.Replicas[p.at], true
}

// indexReplicas fills the look-up tables of replicas anew.
func (v *View) indexReplicas() {
	v.byReplica, v.byAddress = make(map[string]place), make(map[string]place)
	for g := range v.Groups() {
		group, _ := v.Group(g)
		for at, r := range group.Replicas {
			v.byReplica[r.ID], v.byAddress[r.Address] = place{g, at}, place{g, at}
		}
	}
}

// setReplicas replaces the replicas of group g, which must exist.
func (v *View) setReplicas(g GroupID, replicas []ReplicaInfo) {
	group := &v.Directory
	if g != DirectoryGroup {
		v.Shards = slices.Clone(v.Shards)
		group = &v.Shards[g-1].GroupInfo
	}
	group.Replicas, group.Changed = replicas, v.Epoch
	v.indexReplicas()
}

// voters counts the voters among replicas.
func voters(replicas []ReplicaInfo) int {
	n := 0
	for i := range replicas {
		if replicas[i].State == Voter {
			n++
		}
	}
	return n
}

// groupsFault returns what is wrong with the groups of v, or "". It is the
// list of invariants: whatever commands are applied, it stays empty.
func (v *View) groupsFault() string {
	if len(v.Shards) == 0 || len(v.Shards) > cloakroom.MaxShards {
		return fmt.Sprintf("shards: want 1 to %d", cloakroom.MaxShards)
	}
	for i := range v.Shards {
		if int(v.Shards[i].ID) != i {
			return "shards: want ids 0 to n-1"
		}
	}
	seen := make(map[string]bool)
	for g := range v.Groups() {
		group, _ := v.Group(g)
		if fault := v.groupFault(g, &group); fault != "" {
			return g.String() + ": " + fault
		}
		for _, r := range group.Replicas {
			if seen["id "+r.ID] || seen["at "+r.Address] {
				return "replicas: identities must be unique"
			}
			seen["id "+r.ID], seen["at "+r.Address] = true, true
		}
	}
	return ""
}

// groupFault returns what is wrong with one group of v, or "".
func (v *View) groupFault(id GroupID, g *GroupInfo) string {
	n := voters(g.Replicas)
	switch {
	case g.Generation == 0:
		return "the generation is missing"
	case g.Changed > v.Epoch:
		return "it changed after the view"
	case n == 0:
		return "no voter"
	case len(g.Replicas) > MaxReplicas:
		return fmt.Sprintf("more than %d replicas", MaxReplicas)
	}
	held := make(map[string]bool, len(g.Replicas)) // by node
	for i := range g.Replicas {
		r := &g.Replicas[i]
		if fault := r.fault(id); fault != "" {
			return fault
		}
		if _, there := v.Node(r.Node); !there {
			return "a replica on an unknown node"
		}
		if r.State == Leaving {
			continue
		}
		if held[r.Node] {
			return "two replicas on one node"
		}
		held[r.Node] = true
		if !v.Lives(r) && (r.State != Voter || n > 1) {
			return "a replica of a life that is over"
		}
	}
	return ""
}

// fault returns what is wrong with r by itself, or "".
func (r *ReplicaInfo) fault(g GroupID) string {
	switch {
	case !validName(r.ID) || !validName(r.Address):
		return "malformed identity of a replica"
	case !validName(r.Node) || !validLife(r.Life):
		return "malformed node or life of a replica"
	case r.State != Preparing && r.State != Voter && r.State != Leaving:
		return "unknown state of a replica"
	case r.Durable && g != DirectoryGroup:
		return "logs of shards do not outlive a life"
	}
	return ""
}
