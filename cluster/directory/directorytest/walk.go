// Package directorytest leads directory machines through random histories, so
// that tests can ask what holds in every state that commands lead to.
package directorytest

import (
	"bytes"
	"fmt"
	"slices"

	"cloakroom"
	"cloakroom/cluster/directory"
)

// Walk is one history. It belongs to one goroutine.
type Walk struct {
	Machine *directory.Machine
	Choose  func(n int) int // 0 to n-1
	Fed     [][]byte        // every command, in order

	drawn  int      // identities and lives made up so far
	claims [][]byte // of Fed, what took an identity or a life
}

// New returns a walk over a cluster of one node with that many shards. Choose
// makes all its choices.
func New(shards, replication int, choose func(n int) int) *Walk {
	w := &Walk{Machine: directory.New(), Choose: choose}
	n1 := directory.NodeInfo{Name: "n1", Life: w.Life(), Address: "n1.test:7100"}
	group := func() directory.GroupInfo {
		r := w.replica(n1)
		r.State = directory.Voter
		return directory.GroupInfo{Generation: 1, Replicas: []directory.ReplicaInfo{r}}
	}
	init := &directory.Init{ClusterID: directory.ID{1}, Nodes: []directory.NodeInfo{n1}, Directory: group(),
		Settings: directory.Settings{Replication: replication, RecoveryMode: "none", LeaseMillis: 3000}}
	for i := range shards {
		init.Shards = append(init.Shards, directory.ShardInfo{ID: cloakroom.ShardID(i), GroupInfo: group()})
	}
	if got := w.Apply(&directory.Command{Init: init}); got.Code != directory.Done {
		panic("directorytest: init refused: " + got.Detail)
	}
	return w
}

// View returns the newest view.
func (w *Walk) View() *directory.View { return w.Machine.Load() }

// Apply encodes a command and applies it.
func (w *Walk) Apply(cmd *directory.Command) directory.Result {
	data, err := cmd.Append(nil)
	if err != nil {
		panic("directorytest: " + err.Error())
	}
	return w.Feed(data)
}

// Feed applies an encoded command.
func (w *Walk) Feed(data []byte) directory.Result {
	w.Fed = append(w.Fed, data)
	result := w.Machine.Apply(uint64(len(w.Fed)), data)
	claim := bytes.Contains(data, []byte(`"add_replica"`)) || bytes.Contains(data, []byte(`"put_node"`)) ||
		bytes.Contains(data, []byte(`"use_join_token"`)) || bytes.Contains(data, []byte(`"refound_group"`))
	if claim && result.Code == directory.Done {
		w.claims = append(w.claims, data)
	}
	return result
}

// Life makes up a life that no node had.
func (w *Walk) Life() string {
	w.drawn++
	return fmt.Sprintf("%032x", w.drawn)
}

// replica makes up a replica, preparing on n.
func (w *Walk) replica(n directory.NodeInfo) directory.ReplicaInfo {
	w.drawn++
	return directory.ReplicaInfo{ID: fmt.Sprintf("r-%d", w.drawn), Address: fmt.Sprintf("at-%d", w.drawn),
		Node: n.Name, Life: n.Life, State: directory.Preparing}
}

// Join returns the command that registers a new life of the node called name,
// as view v suggests it.
func (w *Walk) Join(v *directory.View, name string) *directory.Command {
	old, _ := v.Node(name)
	n := directory.NodeInfo{Name: name, Life: w.Life(), Address: name + ".test:7100", Boot: old.Boot}
	if old.Boot > 0 || name == "n2" || name == "n4" {
		n.Boot++ // it has a folder
	}
	return &directory.Command{PutNode: &directory.PutNode{Replaces: old.LastLife(), Node: n}}
}

// Add returns the command that adds a replica of g on a node of v, under an
// identity of its own.
func (w *Walk) Add(v *directory.View, g directory.GroupID, n directory.NodeInfo) *directory.Command {
	return &directory.Command{AddReplica: &directory.AddReplica{Group: g, Seen: v.Epoch, Replica: w.replica(n)}}
}

// Set returns the command that moves a replica to a state.
func Set(g directory.GroupID, id string, state directory.ReplicaState) *directory.Command {
	return &directory.Command{SetReplica: &directory.SetReplica{Group: g, ID: id, State: state}}
}

// Drop returns the command that forgets a replica.
func Drop(g directory.GroupID, id string) *directory.Command {
	return &directory.Command{DropReplica: &directory.DropReplica{Group: g, ID: id}}
}

// Draw returns the encoding of a command as a node may send it that knows the
// view v, which may be old: one that makes sense there, one that doesn't, or
// one that was sent before.
func (w *Walk) Draw(v *directory.View) []byte {
	switch {
	case w.Choose(8) == 0:
		return w.Fed[w.Choose(len(w.Fed))]
	case len(w.claims) > 0 && w.Choose(8) == 0:
		return w.claims[w.Choose(len(w.claims))] // long on its way
	}
	g := directory.GroupID(w.Choose(len(v.Shards) + 2)) // one more than there are
	var cmd *directory.Command
	switch w.Choose(12) {
	case 0:
		cmd = w.Join(v, fmt.Sprintf("n%d", 1+w.Choose(5)))
	case 1:
		cmd = w.confused(v)
	case 2, 3:
		cmd = w.Add(v, g, v.Nodes[w.Choose(len(v.Nodes))])
	case 4, 5:
		states := []directory.ReplicaState{directory.Voter, directory.Leaving, directory.Voter, directory.Preparing}
		cmd = Set(g, w.anyID(v, g), states[w.Choose(len(states))])
	case 6:
		cmd = Drop(w.leaving(v, g))
	case 7:
		cmd = w.Erasures(v)
	case 8, 9:
		cmd = w.membership(v)
	case 10:
		n := v.Nodes[w.Choose(len(v.Nodes))]
		r := w.replica(n)
		r.State = directory.Voter
		cmd = &directory.Command{RefoundGroup: &directory.RefoundGroup{Group: g, Seen: v.Epoch, Replica: r}}
	default:
		cmd = &directory.Command{NextSealing: &directory.NextSealing{}}
	}
	data, err := cmd.Append(nil)
	if err != nil {
		panic("directorytest: " + err.Error())
	}
	return data
}

// membership returns a command about who takes part: of five names and five
// tokens, so that they meet.
func (w *Walk) membership(v *directory.View) *directory.Command {
	name := fmt.Sprintf("n%d", 1+w.Choose(5))
	key := directory.Digest{name[1], byte(w.Choose(2))}
	hash, at := directory.Digest{byte(1 + w.Choose(20))}, int64(1000+50*w.Choose(20))
	switch w.Choose(10) {
	case 0, 1:
		return &directory.Command{PutJoinToken: &directory.PutJoinToken{At: at,
			Token: directory.JoinToken{Hash: hash, Expires: at + 500, By: "operator"}}}
	case 2, 3, 4:
		return &directory.Command{UseJoinToken: &directory.UseJoinToken{Hash: w.anyToken(v, hash), At: at,
			Node: directory.NodeInfo{Name: name, Address: name + ".test:7100", Key: key}}}
	case 5, 6:
		if keyed := slices.IndexFunc(v.Nodes, func(n directory.NodeInfo) bool { return n.Key != directory.Digest{} }); keyed >= 0 {
			name, key = v.Nodes[keyed].Name, v.Nodes[keyed].Key
		}
		return &directory.Command{AdmitNode: &directory.AdmitNode{Name: name, Key: key, At: at}}
	case 7, 8:
		return &directory.Command{DrainNode: &directory.DrainNode{Name: name, LeadersOnly: w.Choose(3) == 0, Cancel: w.Choose(3) == 0}}
	default:
		return &directory.Command{RemoveNode: &directory.RemoveNode{Name: name, Dead: w.Choose(2) == 0}}
	}
}

// anyToken returns the hash of a token of v, mostly, or the other one.
func (w *Walk) anyToken(v *directory.View, other directory.Digest) directory.Digest {
	if len(v.JoinTokens) == 0 || w.Choose(8) == 0 {
		return other
	}
	return v.JoinTokens[w.Choose(len(v.JoinTokens))].Hash
}

// Erasures returns a command that records a few erasures, of few subjects so
// that they meet, each of fields that v declares or of the whole subject.
func (w *Walk) Erasures(v *directory.View) *directory.Command {
	cmd := &directory.RecordErasures{Entries: make([]directory.Erasure, 1+w.Choose(4))}
	for i := range cmd.Entries {
		e := &cmd.Entries[i]
		*e = directory.Erasure{Subject: cloakroom.Token{byte(1 + w.Choose(6))}, Shard: cloakroom.ShardID(w.Choose(len(v.Shards))),
			Generation: 1, Index: uint64(1 + w.Choose(30)), At: int64(w.Choose(1000))}
		for _, f := range v.Schema.Fields {
			if w.Choose(2) == 0 {
				e.Fields = append(e.Fields, f.Number)
			}
		}
	}
	return &directory.Command{RecordErasures: cmd}
}

// confused returns a command of somebody who mixes things up.
func (w *Walk) confused(v *directory.View) *directory.Command {
	some, other := v.Nodes[w.Choose(len(v.Nodes))], v.Nodes[w.Choose(len(v.Nodes))]
	g := directory.GroupID(w.Choose(len(v.Shards) + 1))
	switch w.Choose(4) {
	case 0: // moves within a life
		return &directory.Command{PutNode: &directory.PutNode{Replaces: some.Life,
			Node: directory.NodeInfo{Name: some.Name, Life: some.Life, Address: "b.test:1"}}}
	case 1: // means to replace another's life
		cmd := w.Join(v, some.Name)
		cmd.PutNode.Replaces = other.Life
		return cmd
	case 2: // on a node that nobody knows, or in a life that is not its
		return w.Add(v, g, directory.NodeInfo{Name: fmt.Sprintf("n%d", 1+w.Choose(7)), Life: other.Life})
	default: // under an identity that is taken in part
		cmd := w.Add(v, g, some)
		if _, r, ok := v.Replica(w.anyID(v, g)); ok {
			cmd.AddReplica.Replica.Address = r.Address
		}
		return cmd
	}
}

// leaving returns a replica that is leaving, some replica of g if none is.
func (w *Walk) leaving(v *directory.View, g directory.GroupID) (directory.GroupID, string) {
	for h := range v.Groups() {
		group, _ := v.Group(h)
		for _, r := range group.Replicas {
			if r.State == directory.Leaving && w.Choose(2) == 0 {
				return h, r.ID
			}
		}
	}
	return g, w.anyID(v, g)
}

// anyID returns the server ID of some replica of g, or one that nobody has.
func (w *Walk) anyID(v *directory.View, g directory.GroupID) string {
	group, _ := v.Group(g)
	if len(group.Replicas) == 0 || w.Choose(10) == 0 {
		return "r-nobody"
	}
	return group.Replicas[w.Choose(len(group.Replicas))].ID
}
