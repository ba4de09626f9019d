package directory

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloakroom"
)

func join(name string, n int) *Command {
	put := &PutNode{Node: node(name, n)}
	if n > 1 {
		put.Replaces = life(name, n-1)
	}
	return &Command{PutNode: put}
}

func (l *feeder) add(g GroupID, r ReplicaInfo) *Command {
	return &Command{AddReplica: &AddReplica{Group: g, Seen: l.Load().Epoch, Replica: r}}
}

func set(g GroupID, id string, state ReplicaState) *Command {
	return &Command{SetReplica: &SetReplica{Group: g, ID: id, State: state}}
}

func drop(g GroupID, id string) *Command {
	return &Command{DropReplica: &DropReplica{Group: g, ID: id}}
}

// states lists the replicas of g, as in "r0 voter".
func (l *feeder) states(g GroupID) string {
	group, _ := l.Load().Group(g)
	var out []string
	for _, r := range group.Replicas {
		out = append(out, r.ID+" "+string(r.State))
	}
	return strings.Join(out, ", ")
}

func (l *feeder) wantStates(g GroupID, want string) {
	l.t.Helper()
	if got := l.states(g); got != want {
		l.t.Fatalf("%s: got %s, want %s", g, got, want)
	}
}

func TestReplicaMovesFromPreparingToGone(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, join("n2", 1))
	l.want(Done, l.add(1, preparing("x", "n2", 1)))
	l.wantStates(1, "r1 voter, r-x preparing")
	l.want(Conflict, drop(1, "r-x"))
	l.want(Invalid, set(1, "r-x", Preparing))
	l.want(Done, set(1, "r-x", Voter))
	l.want(Invalid, set(1, "r-x", "gone"))
	l.want(Done, set(1, "r1", Leaving))
	l.want(Conflict, set(1, "r1", Voter))
	l.wantStates(1, "r1 leaving, r-x voter")
	l.want(Done, drop(1, "r1"))
	l.wantStates(1, "r-x voter")
	if _, _, ok := l.Load().Replica("r1"); ok {
		t.Error("a dropped replica is found")
	}
	if g, r, ok := l.Load().ReplicaAt("at-x"); !ok || g != 1 || r.ID != "r-x" || r.Node != "n2" {
		t.Errorf("at-x: got %s %+v, %v", g, r, ok)
	}
}

func TestTheLastVoterStays(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, join("n2", 1))
	for g := range l.Load().Groups() {
		got := l.want(Conflict, set(g, fmt.Sprintf("r%d", g), Leaving))
		if !errors.Is(got.Err(), cloakroom.ErrConflict) || !strings.Contains(got.Detail, g.String()) {
			t.Errorf("got %v", got.Err())
		}
	}
	l.want(Done, l.add(0, preparing("x", "n2", 1)))
	l.want(Conflict, set(0, "r0", Leaving)) // one that prepares is no voter
}

// A node that lost its memory takes its old replicas with it, but a group whose
// only voter it was keeps the record of it: the group is lost, not empty.
func TestNewLifeMakesOldReplicasLeave(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, join("n2", 1))
	l.want(Done, join("n3", 1))
	for _, r := range []ReplicaInfo{preparing("two", "n2", 1), preparing("three", "n3", 1)} {
		l.want(Done, l.add(0, r))
		l.want(Done, set(0, r.ID, Voter))
		l.want(Done, l.add(1, r.as("1")))
		l.want(Done, l.add(2, r.as("2")))
	}
	l.want(Done, set(1, "r-two1", Voter))
	l.want(Done, join("n1", 2))
	l.wantStates(0, "r0 leaving, r-two voter, r-three voter")
	l.wantStates(1, "r1 leaving, r-two1 voter, r-three1 preparing")
	l.wantStates(2, "r2 voter, r-two2 preparing, r-three2 preparing")
	if _, r, _ := l.Load().Replica("r2"); l.Load().Lives(&r) {
		t.Error("a replica of a life that is over is said to live")
	}
	// The group's leader had promoted one before it died, and says so late.
	l.want(Done, set(2, "r-two2", Voter))
	l.wantStates(2, "r2 leaving, r-two2 voter, r-three2 preparing")
	l.want(Done, join("n3", 2))
	l.wantStates(2, "r2 leaving, r-two2 voter, r-three2 leaving")
	l.wantStates(3, "r3 voter")
}

// as returns r under another identity.
func (r ReplicaInfo) as(suffix string) ReplicaInfo {
	r.ID, r.Address = r.ID+suffix, r.Address+suffix
	return r
}

// The command that added a replica may still be on its way when the replica is
// gone again. Arriving then, it must not give the identity to an empty log.
func TestAnIdentityThatWentDoesNotComeAgain(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, join("n2", 1))
	late := l.add(1, preparing("x", "n2", 1))
	l.want(Done, late)
	l.want(Done, set(1, "r-x", Leaving))
	l.want(Done, drop(1, "r-x"))
	l.want(Conflict, late)
	l.want(Done, l.add(1, preparing("y", "n2", 1)))
	l.want(Already, drop(1, "r-x"))
}

// Two processes started under one name: one of them is told.
func TestTwoNodesWithOneName(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, join("n2", 1))
	first, second := join("n2", 2), join("n2", 2)
	second.PutNode.Node.Life = life("n2", 99)
	l.want(Done, first)
	l.want(Already, first) // the answer was lost on the way
	l.want(Conflict, second)
	late := join("n2", 1)
	l.want(Conflict, late) // the life before it, long on its way
	late.PutNode.Replaces = life("n2", 2)
	l.want(Done, l.add(1, preparing("x", "n2", 2)))
	l.want(Done, join("n2", 3))
	late.PutNode.Node.Life, late.PutNode.Replaces = life("n2", 2), life("n2", 3)
	l.want(Conflict, late) // its replica is there still
	if n, ok := l.Load().Node("n2"); !ok || n != node("n2", 3) {
		t.Errorf("n2: got %+v, %v", n, ok)
	}
}

func TestNodesAreRefused(t *testing.T) {
	tests := map[string]struct {
		want   Code
		change func(*PutNode)
	}{
		"no name":          {Invalid, func(p *PutNode) { p.Node.Name = "" }},
		"bad name":         {Invalid, func(p *PutNode) { p.Node.Name = "Node 2" }},
		"no life":          {Invalid, func(p *PutNode) { p.Node.Life = "" }},
		"upper case life":  {Invalid, func(p *PutNode) { p.Node.Life = strings.Repeat("A", 32) }},
		"long life":        {Invalid, func(p *PutNode) { p.Node.Life += "00" }},
		"no address":       {Invalid, func(p *PutNode) { p.Node.Address = "" }},
		"no port":          {Invalid, func(p *PutNode) { p.Node.Address = "n2.test" }},
		"port 0":           {Invalid, func(p *PutNode) { p.Node.Address = "n2.test:0" }},
		"port 070":         {Invalid, func(p *PutNode) { p.Node.Address = "n2.test:070" }},
		"port 65536":       {Invalid, func(p *PutNode) { p.Node.Address = "n2.test:65536" }},
		"no host":          {Invalid, func(p *PutNode) { p.Node.Address = ":7100" }},
		"a space":          {Invalid, func(p *PutNode) { p.Node.Address = "n 2:7100" }},
		"a new line":       {Invalid, func(p *PutNode) { p.Node.Address = "n2\n:7100" }},
		"bare IPv6":        {Invalid, func(p *PutNode) { p.Node.Address = "fd00::1:7100" }},
		"open bracket":     {Invalid, func(p *PutNode) { p.Node.Address = "[fd00::1:7100" }},
		"empty brackets":   {Invalid, func(p *PutNode) { p.Node.Address = "[]:7100" }},
		"long address":     {Invalid, func(p *PutNode) { p.Node.Address = strings.Repeat("a", 257) + ":7100" }},
		"bad zone":         {Invalid, func(p *PutNode) { p.Node.Zone = "Zone A" }},
		"another's life":   {Conflict, func(p *PutNode) { p.Node.Life = life("n1", 1) }},
		"replaces nothing": {Conflict, func(p *PutNode) { p.Replaces = life("n2", 7) }},
		"moved in a life":  {Conflict, func(p *PutNode) { p.Node, p.Replaces = node("n1", 1), life("n1", 1); p.Node.Address = "b:1" }},
		"IPv4":             {Done, func(p *PutNode) { p.Node.Address = "127.0.0.1:65535" }},
		"IPv6":             {Done, func(p *PutNode) { p.Node.Address = "[fe80::1%eth0]:1" }},
		"zone":             {Done, func(p *PutNode) { p.Node.Zone = "cellar" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := join("n2", 1)
			tt.change(cmd.PutNode)
			newFeeder(t).want(tt.want, cmd)
		})
	}
}

func TestANodeWithoutAddressStaysAlone(t *testing.T) {
	l := &feeder{Machine: New(), t: t}
	cmd := initCommand(1)
	cmd.Init.Nodes[0].Address = ""
	l.want(Done, cmd)
	l.want(Conflict, join("n2", 1))
	l.want(Done, join("n1", 2))
	l.want(Done, join("n2", 1))
}

func TestReplicasAreRefused(t *testing.T) {
	tests := map[string]struct {
		want   Code
		change func(*AddReplica)
	}{
		"no id":             {Invalid, func(a *AddReplica) { a.Replica.ID = "" }},
		"bad address":       {Invalid, func(a *AddReplica) { a.Replica.Address = "10.0.0.1:7" }},
		"no life":           {Invalid, func(a *AddReplica) { a.Replica.Life = "" }},
		"no node":           {Invalid, func(a *AddReplica) { a.Replica.Node = "" }},
		"a voter at once":   {Invalid, func(a *AddReplica) { a.Replica.State = Voter }},
		"no such group":     {NotFound, func(a *AddReplica) { a.Group = 5 }},
		"largest group":     {NotFound, func(a *AddReplica) { a.Group = 1<<32 - 1 }},
		"unknown node":      {NotFound, func(a *AddReplica) { a.Replica.Node = "n9" }},
		"another life":      {Conflict, func(a *AddReplica) { a.Replica.Life = life("n2", 2) }},
		"id taken":          {Conflict, func(a *AddReplica) { a.Replica.ID = "r3" }},
		"address taken":     {Conflict, func(a *AddReplica) { a.Replica.Address = "a3" }},
		"second on a node":  {Conflict, func(a *AddReplica) { a.Replica = preparing("x", "n1", 1) }},
		"group changed":     {Conflict, func(a *AddReplica) { a.Seen = 0 }},
		"seen what will be": {Done, func(a *AddReplica) { a.Seen = 1 << 60 }},
		"fine":              {Done, func(*AddReplica) {}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newFeeder(t)
			l.want(Done, join("n2", 1))
			cmd := l.add(4, preparing("x", "n2", 1))
			tt.change(cmd.AddReplica)
			l.want(tt.want, cmd)
			if tt.want == Done {
				l.want(Already, cmd)
				other := *cmd.AddReplica
				other.Group = 3
				l.want(Conflict, &Command{AddReplica: &other})
				l.want(NotFound, set(3, "r-x", Voter))
				l.want(NotFound, drop(3, "r-x"))
			}
		})
	}
	l := newFeeder(t)
	l.want(NotFound, set(5, "r1", Voter))
	l.want(NotFound, drop(5, "r1"))
	l.want(Already, drop(1, "r-gone"))
}

// A node that dies again and again while a group has no leader leaves its
// replicas behind; they are bounded, and so are the nodes.
func TestPlacesRunOut(t *testing.T) {
	l := newFeeder(t)
	for i := 1; i < MaxReplicas; i++ {
		l.want(Done, join("n2", i))
		l.want(Done, l.add(1, preparing(fmt.Sprint(i), "n2", i)))
	}
	l.want(Done, join("n2", MaxReplicas))
	l.want(Exhausted, l.add(1, preparing("x", "n2", MaxReplicas)))
	l.want(Done, drop(1, "r-1"))
	l.want(Done, l.add(1, preparing("x", "n2", MaxReplicas)))
	for i := 3; i <= MaxNodes; i++ {
		l.want(Done, join(fmt.Sprintf("n%d", i), 1))
	}
	l.want(Exhausted, join("n65", 1))
	l.want(Done, join("n64", 2))
}

func TestCommandsShareWhatTheyDoNotTouch(t *testing.T) {
	l := newFeeder(t)
	history(l)
	before := l.Load()
	l.want(Done, join("n3", 1))
	after := l.Load()
	for name, pair := range map[string][2]any{
		"principals": {before.byCredential, after.byCredential},
		"domains":    {before.byDomain, after.byDomain},
		"replicas":   {before.byReplica, after.byReplica},
	} {
		if reflect.ValueOf(pair[0]).Pointer() != reflect.ValueOf(pair[1]).Pointer() {
			t.Errorf("%s: indexed anew", name)
		}
	}
}

func TestReplicasAreFoundWithoutAllocating(t *testing.T) {
	l := newFeeder(t)
	history(l)
	var v *View
	got := testing.AllocsPerRun(100, func() {
		v = l.Load()
		_, r, ok := v.Replica("r2")
		_, at, there := v.ReplicaAt("a2")
		n, known := v.Node(r.Node)
		group, found := v.Group(2)
		if !ok || !there || !known || !found || at != r || n.Name != "n1" || group.Generation != 1 || !v.Lives(&r) {
			t.Fatal("not found")
		}
	})
	if got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func TestGroupsHaveNumbersAndNames(t *testing.T) {
	l := newFeeder(t)
	if got, want := slices.Collect(l.Load().Groups()), []GroupID{0, 1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("groups: got %v, want %v", got, want)
	}
	for shard, want := range map[cloakroom.ShardID]string{0: "shard 0", 63: "shard 63", 1<<16 - 1: "shard 65535"} {
		g := ShardGroup(shard)
		if back, ok := g.Shard(); !ok || back != shard || g.String() != want {
			t.Errorf("shard %d: got %d, %v, %q", shard, back, ok, g)
		}
	}
	for _, g := range []GroupID{DirectoryGroup, 1<<16 + 1, 1<<32 - 1} {
		if shard, ok := g.Shard(); ok {
			t.Errorf("group %d is shard %d", g, shard)
		}
	}
	if got := DirectoryGroup.String(); got != "directory" {
		t.Errorf("got %s", got)
	}
	if _, ok := New().Load().Group(DirectoryGroup); ok {
		t.Error("an empty directory has a group")
	}
}
