package directory

import (
	"fmt"
	"testing"
)

// token is the command that makes the nth join token, valid until 10 s.
func token(n byte) *Command {
	return &Command{PutJoinToken: &PutJoinToken{At: 5000, Token: JoinToken{Hash: Digest{n}, Expires: 10_000, By: "operator"}}}
}

// use is the command by which a node joins with the nth token at 6 s.
func use(n byte, name string) *Command {
	return &Command{UseJoinToken: &UseJoinToken{Hash: Digest{n}, At: 6000,
		Node: NodeInfo{Name: name, Address: name + ".test:7100", Key: Digest{name[1]}}}}
}

func admit(name string, at int64) *Command {
	return &Command{AdmitNode: &AdmitNode{Name: name, Key: Digest{name[1]}, At: at}}
}

func removal(name string, dead bool) *Command {
	return &Command{RemoveNode: &RemoveNode{Name: name, Dead: dead}}
}

func (l *feeder) node(name string) NodeInfo {
	n, _ := l.Load().Node(name)
	return n
}

func TestAJoinTokenRegistersOneNodeOnce(t *testing.T) {
	l := newFeeder(t)
	l.want(NotFound, use(1, "n2"))
	l.want(Done, token(1))
	l.want(Already, token(1))
	l.want(Done, use(1, "n2"))
	l.want(Already, use(1, "n2")) // the answer was lost
	l.want(Already, token(1))
	l.want(Used, use(1, "n3"))
	if n := l.node("n2"); n.State != Pending || n.Joined() || n.Life != "" {
		t.Fatalf("got %+v, want it pending", n)
	}
	l.want(Conflict, join("n2", 1)) // not before it is admitted
	l.want(Done, admit("n2", 7000))
	l.want(Already, admit("n2", 7000))
	l.want(Done, join("n2", 1))
	l.want(Already, join("n2", 1))
	if n := l.node("n2"); !n.Joined() || n.Key != (Digest{'2'}) || n.Admitted != 0 {
		t.Fatalf("got %+v, want a member with its key, whose admission is used up", n)
	}
	if n, ok := l.Load().NodeWithKey(Digest{'2'}); !ok || n.Name != "n2" {
		t.Errorf("by key: got %+v, %v", n, ok)
	}
	if n, ok := l.Load().NodeWithKey(Digest{}); ok {
		t.Errorf("no key: got %+v", n)
	}
}

func TestJoinTokensAreRefused(t *testing.T) {
	tests := map[string]struct {
		want   Code
		change func(*UseJoinToken)
	}{
		"too late":         {Expired, func(u *UseJoinToken) { u.At = 10_000 }},
		"just in time":     {Done, func(u *UseJoinToken) { u.At = 9999 }},
		"no time":          {NotFound, func(u *UseJoinToken) { u.At = 0 }},
		"unknown":          {NotFound, func(u *UseJoinToken) { u.Hash = Digest{7} }},
		"name of a member": {Conflict, func(u *UseJoinToken) { u.Node.Name = "n1" }},
		"key of another":   {Conflict, func(u *UseJoinToken) { u.Node.Key = Digest{'3'} }},
		"no key":           {Invalid, func(u *UseJoinToken) { u.Node.Key = Digest{} }},
		"no address":       {Invalid, func(u *UseJoinToken) { u.Node.Address = "" }},
		"a life":           {Invalid, func(u *UseJoinToken) { u.Node.Life = life("n2", 1) }},
		"a boot":           {Invalid, func(u *UseJoinToken) { u.Node.Boot = 1 }},
		"a state":          {Invalid, func(u *UseJoinToken) { u.Node.State = Draining }},
		"an admission":     {Invalid, func(u *UseJoinToken) { u.Node.Admitted = 1 }},
		"bad API":          {Invalid, func(u *UseJoinToken) { u.Node.API = "here" }},
		"pending's name":   {Done, func(u *UseJoinToken) { u.Node.Name = "n3" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newFeeder(t)
			l.want(Done, token(1))
			l.want(Done, token(2))
			l.want(Done, use(2, "n3"))
			cmd := use(1, "n2")
			tt.change(cmd.UseJoinToken)
			l.want(tt.want, cmd)
			if token, _ := l.Load().JoinToken(Digest{1}); (token.UsedBy != "") != (tt.want == Done) {
				t.Errorf("token after it: %+v", token)
			}
		})
	}
	for name, change := range map[string]func(*PutJoinToken){
		"over": func(p *PutJoinToken) { p.At = p.Token.Expires }, "no time": func(p *PutJoinToken) { p.At = 0 },
		"no hash": func(p *PutJoinToken) { p.Token.Hash = Digest{} }, "used": func(p *PutJoinToken) { p.Token.UsedBy = "n1" },
		"by nobody": func(p *PutJoinToken) { p.Token.By = "" },
	} {
		t.Run(name, func(t *testing.T) {
			cmd := token(1)
			change(cmd.PutJoinToken)
			newFeeder(t).want(Invalid, cmd)
		})
	}
}

func TestASinglePersonAdmitsByTheToken(t *testing.T) {
	l := &feeder{Machine: New(), t: t}
	cmd := initCommand(1)
	cmd.Init.Settings.SinglePerson = true
	l.want(Done, cmd)
	l.want(Done, token(1))
	l.want(Done, use(1, "n2"))
	if n := l.node("n2"); !n.Joined() || n.Admitted != 6000 {
		t.Fatalf("got %+v, want a member that may have the keys", n)
	}
	l.want(Done, join("n2", 1))
}

func TestJoinTokensAreForgottenLongAfterTheirEnd(t *testing.T) {
	l := newFeeder(t)
	for i := range MaxJoinTokens {
		cmd := token(0)
		cmd.PutJoinToken.Token.Hash = Digest{1, byte(i), byte(i >> 8)}
		l.want(Done, cmd)
	}
	l.want(Exhausted, token(9))
	late := token(9)
	late.PutJoinToken.At = 10_000 + tokenMemory
	late.PutJoinToken.Token.Expires = late.PutJoinToken.At + 1
	l.want(Exhausted, late)
	late.PutJoinToken.At++
	late.PutJoinToken.Token.Expires++
	l.want(Done, late)
	if got := len(l.Load().JoinTokens); got != 1 {
		t.Errorf("got %d tokens, want 1", got)
	}
}

func TestAdmissionsAreRefused(t *testing.T) {
	l := newFeeder(t)
	l.want(NotFound, admit("n2", 7000))
	l.want(Done, token(1))
	l.want(Done, use(1, "n2"))
	wrong := admit("n2", 7000)
	wrong.AdmitNode.Key = Digest{'x'}
	l.want(Conflict, wrong)
	l.want(Invalid, admit("n2", 0))
	l.want(Done, admit("n2", 7000))
	l.want(Done, join("n2", 1))
	l.want(Done, admit("n2", 8000)) // of the next life, after a long outage
	if n := l.node("n2"); n.State != Member || n.Admitted != 8000 {
		t.Fatalf("got %+v", n)
	}
	l.want(Already, join("n2", 1))
	l.want(Done, join("n2", 2))
	if n := l.node("n2"); n.Admitted != 0 {
		t.Errorf("got %+v: an admission is good for one life", n)
	}
	l.want(Done, removal("n2", false))
	l.want(Conflict, admit("n2", 9000))
}

func TestDrainingIsRememberedAndUndone(t *testing.T) {
	l := newFeeder(t)
	drain := func(leadersOnly, cancel bool) *Command {
		return &Command{DrainNode: &DrainNode{Name: "n2", LeadersOnly: leadersOnly, Cancel: cancel}}
	}
	l.want(NotFound, drain(false, false))
	l.want(Done, join("n2", 1))
	l.want(Already, drain(false, true))
	l.want(Invalid, drain(true, true))
	l.want(Done, drain(true, false))
	if n := l.node("n2"); !n.Joined() || n.Emptying() || n.State.String() != "draining" {
		t.Fatalf("got %+v", n)
	}
	l.want(Done, drain(false, false))
	l.want(Already, drain(false, false))
	l.want(Done, join("n2", 2)) // a restart is no end of it
	if n := l.node("n2"); !n.Emptying() {
		t.Fatalf("got %+v, want it draining", n)
	}
	l.want(Done, drain(false, true))
	if n := l.node("n2"); n.State != Member {
		t.Fatalf("got %+v", n)
	}
	l.want(Done, token(1))
	l.want(Done, use(1, "n3"))
	l.want(Conflict, &Command{DrainNode: &DrainNode{Name: "n3"}})
	l.want(Done, removal("n3", false))
	l.want(Conflict, &Command{DrainNode: &DrainNode{Name: "n3"}})
}

func TestOnlyAnEmptyNodeIsRemovedUnlessItIsDead(t *testing.T) {
	l := newFeeder(t)
	l.want(NotFound, removal("n2", true))
	l.want(Conflict, removal("n1", true)) // the last
	l.want(Done, join("n2", 1))
	l.want(Done, join("n3", 1))
	l.want(Done, l.add(0, preparing("d", "n2", 1)))
	l.want(Done, l.add(1, preparing("x", "n2", 1)))
	l.want(Conflict, removal("n2", false))
	l.want(Done, set(1, "r-x", Leaving))
	l.want(Conflict, removal("n2", false)) // its group still counts on it
	l.want(Done, drop(1, "r-x"))
	l.want(Done, removal("n2", false)) // its view of the directory goes with it
	l.want(Already, removal("n2", false))
	l.wantStates(0, "r0 voter, r-d leaving")
	if n := l.node("n2"); n.Life != "" || n.Last != life("n2", 1) || n.Removed != l.Load().Epoch {
		t.Fatalf("got %+v", n)
	}
	l.want(Conflict, join("n2", 2))
	l.want(Done, l.add(1, preparing("y", "n3", 1)))
	l.want(Done, set(1, "r-y", Voter))
	l.want(Done, l.add(2, preparing("z", "n3", 1)))
	l.want(Done, set(2, "r-z", Voter))
	l.want(Done, set(2, "r2", Leaving))
	l.want(Done, removal("n3", true))
	l.wantStates(1, "r1 voter, r-y leaving")
	l.wantStates(2, "r2 leaving, r-z voter") // the last voter: the group is lost, and looks it
	l.want(Conflict, removal("n1", true))
}

// The life that a node had when it was removed must not come back with a
// command that was long on its way, though the name does.
func TestARemovedNodeComesBackByANewToken(t *testing.T) {
	l := newFeeder(t)
	l.want(Done, token(1))
	l.want(Done, token(2))
	l.want(Done, use(1, "n2"))
	l.want(Done, admit("n2", 7000))
	late := join("n2", 1)
	l.want(Done, late)
	l.want(Done, removal("n2", true))
	l.want(Conflict, late)
	l.want(Used, use(1, "n2"))
	l.want(Done, use(2, "n2"))
	l.want(Done, admit("n2", 8000))
	l.want(Conflict, late)
	next := join("n2", 2)
	l.want(Done, next)
	l.want(Conflict, late)
	if n := l.node("n2"); n.Last != "" || n.Life != life("n2", 2) {
		t.Errorf("got %+v", n)
	}
}

func TestKeysAndBootNumbersOfANodeHold(t *testing.T) {
	l := newFeeder(t)
	first := join("n2", 1)
	first.PutNode.Node.Boot, first.PutNode.Node.Key = 4, Digest{'2'}
	l.want(Done, first)
	for boot, want := range map[uint64]Code{0: Conflict, 3: Conflict, 4: Conflict} {
		copied := join("n2", 2)
		copied.PutNode.Node.Boot = boot
		l.want(want, copied)
	}
	next := join("n2", 2)
	next.PutNode.Node.Boot, next.PutNode.Node.Key = 5, Digest{'x'}
	l.want(Conflict, next)
	next.PutNode.Node.Key = Digest{} // not said: the registered one
	l.want(Done, next)
	l.want(Already, next)
	if n := l.node("n2"); n.Key != (Digest{'2'}) || n.Boot != 5 {
		t.Errorf("got %+v", n)
	}
	state := join("n2", 3)
	state.PutNode.Node.State = Draining
	l.want(Invalid, state)
}

func TestRemovedNodesTakeNoPlaceAndAreForgottenInOrder(t *testing.T) {
	l := newFeeder(t)
	for i := range MaxNodes + MaxRemoved + 5 {
		name := fmt.Sprintf("m%d", i)
		l.want(Done, join(name, 1))
		l.want(Done, removal(name, true))
	}
	if got := len(l.Load().Nodes); got != MaxRemoved+1 {
		t.Fatalf("got %d nodes, want %d", got, MaxRemoved+1)
	}
	if l.node("m68").Name != "" || l.node("m69").State != Removed {
		t.Errorf("the wrong ones were forgotten: %+v %+v", l.node("m68"), l.node("m69"))
	}
	again := join("m0", 2)
	again.PutNode.Replaces = ""
	l.want(Done, again)
}
