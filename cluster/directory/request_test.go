package directory

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloakroom"
)

// asked is when requests of tests are made, unix seconds.
const asked = 1_800_000_000

func accessor(name string, credential byte) *Principal {
	return &Principal{Name: name, Credential: Digest{credential}, Grant: Grant{Actions: []Action{Access}, Form: FormMasked}}
}

// request is one for a principal with those actions.
func request(name, by string, actions ...Action) *Request {
	return &Request{Name: name, By: by, At: asked, Expires: asked + 3600,
		Grant: Grant{Actions: actions, Form: FormMasked, Expires: asked + 7200}}
}

// approval approves what waits under a name, as it stands now.
func (l *feeder) approval(name, by string, credential byte) *Command {
	cmd := &ApprovePrincipal{Name: name, By: by, At: asked + 10, Credential: Digest{credential}}
	if r := l.Load().RequestNamed(name); r != nil {
		cmd.Hash = l.Load().RequestHash(r)
	}
	return &Command{ApprovePrincipal: cmd}
}

func ask(r *Request) *Command { return &Command{RequestPrincipal: r} }

func suspend(name, by string, is bool) *Command {
	return &Command{SuspendPrincipal: &SuspendPrincipal{Name: name, By: by, Suspended: is}}
}

func revoke(name, by string) *Command {
	return &Command{RevokePrincipal: &RevokePrincipal{Name: name, By: by}}
}

// two is a cluster with two access principals, an operator and a custodian.
func two(t testing.TB) *feeder {
	l := newFeeder(t)
	l.want(Done, &Command{PutPrincipal: accessor("access-1", 1)})
	l.want(Done, &Command{PutPrincipal: accessor("access-2", 2)})
	for i, a := range []Action{Operate, Custody} {
		l.want(Done, &Command{PutPrincipal: &Principal{Name: string(a), Credential: Digest{byte(3 + i)},
			Grant: Grant{Actions: []Action{a}, Form: FormMasked}}})
	}
	return l
}

func TestAReaderNeedsASecondOnesApproval(t *testing.T) {
	l := two(t)
	l.want(Done, ask(request("renderer", "access-1", Resolve)))
	l.want(Already, ask(request("renderer", "access-1", Resolve)))
	l.want(Conflict, ask(request("renderer", "access-2", Resolve)))
	if l.Load().Principal(&Digest{9}) != nil {
		t.Fatal("a request is in force before it was approved")
	}
	own := l.want(Denied, l.approval("renderer", "access-1", 9))
	if !errors.Is(own.Err(), cloakroom.ErrDenied) || !strings.Contains(own.Detail, "another one") {
		t.Errorf("own approval: %v", own.Err())
	}
	l.want(Denied, l.approval("renderer", "operate", 9))
	l.want(Denied, l.approval("renderer", "custody", 9)) // two are there: nobody stands in
	l.want(Denied, l.approval("renderer", "nobody", 9))
	l.want(NotFound, l.approval("other", "access-2", 9))
	wrong := l.approval("renderer", "access-2", 9)
	wrong.ApprovePrincipal.Hash[0] ^= 1
	l.want(Conflict, wrong)
	taken := l.approval("renderer", "access-2", 1)
	l.want(Conflict, taken)
	right := l.approval("renderer", "access-2", 9)
	l.want(Done, right)
	l.want(Already, right) // the answer was lost on its way
	p := l.Load().Principal(&Digest{9})
	if p == nil || p.Name != "renderer" || len(p.Grant.Actions) != 1 || p.Grant.Expires != asked+7200 {
		t.Fatalf("got %+v", p)
	}
	if l.Load().RequestNamed("renderer") != nil {
		t.Error("the request still waits")
	}
	l.want(Conflict, ask(request("renderer", "access-1", Resolve)))
}

// What was seen is what is approved: between look and approval the request is
// taken back and another put in its place.
func TestAnApprovalIsOfTheRequestThatWasSeen(t *testing.T) {
	l := two(t)
	l.want(Done, ask(request("renderer", "access-1", Resolve)))
	seen := l.approval("renderer", "access-2", 9)
	l.want(Done, revoke("renderer", "access-1"))
	wider := request("renderer", "access-1", Resolve)
	wider.Grant.AllFields = true
	l.want(Done, ask(wider))
	l.want(Conflict, seen)
}

func TestWhoNeedsASecondOne(t *testing.T) {
	alone := map[Action]bool{Deposit: true, Update: true, Erase: true, SchemaRead: true, Status: true, Metrics: true, Events: true}
	for i, a := range Actions() {
		l := two(t)
		l.want(Done, ask(request("new", "access-1", a)))
		want := Denied
		if alone[a] {
			want = Done
		}
		l.want(want, l.approval("new", "access-1", byte(100+i)))
	}
	l := newFeeder(t)
	single := *l.Load()
	single.Settings.SinglePerson = true
	for _, a := range Actions() {
		if single.NeedsSecond(&Grant{Actions: []Action{a}}) {
			t.Errorf("%s needs a second one in a cluster of a single person", a)
		}
	}
}

func TestRequestsEnd(t *testing.T) {
	l := two(t)
	l.want(Done, ask(request("renderer", "access-1", Resolve)))
	late := l.approval("renderer", "access-2", 9)
	late.ApprovePrincipal.At = asked + 3600
	l.want(NotFound, late)
	// One that is over makes room for its name.
	again := request("renderer", "access-2", Resolve)
	again.At, again.Expires, again.Grant.Expires = asked+3600, asked+7200, 0
	l.want(Done, ask(again))
	if got := l.Load().Requests; len(got) != 1 || got[0].By != "access-2" {
		t.Errorf("waiting: %+v", got)
	}
	l.want(Denied, revoke("renderer", "operate"))
	l.want(Done, revoke("renderer", "access-1"))
	if len(l.Load().Requests) != 0 || l.Load().PrincipalNamed("renderer") != nil {
		t.Error("a request that was taken back is still there, or became a principal")
	}
}

// Who loses the right to ask takes what waits along.
func TestARequestEndsWithWhoAskedForIt(t *testing.T) {
	l := two(t)
	l.want(Done, &Command{PutPrincipal: accessor("access-3", 7)})
	l.want(Done, ask(request("renderer", "access-1", Resolve)))
	l.want(Done, suspend("access-1", "access-2", true))
	l.want(Denied, l.approval("renderer", "access-2", 9))
	l.want(Denied, ask(request("other", "access-1", Resolve)))
	l.want(Denied, suspend("access-2", "access-1", true))
	l.want(Denied, revoke("access-2", "access-1"))
	l.want(Done, suspend("access-1", "access-2", false))
	l.want(Done, l.approval("renderer", "access-2", 9))
}

func TestRequestsThatAreRefused(t *testing.T) {
	change := func(what func(*Request)) *Request {
		r := request("new", "access-1", Resolve)
		what(r)
		return r
	}
	tests := map[string]struct {
		r    *Request
		want Code
	}{
		"by nobody":           {request("new", "nobody", Resolve), Denied},
		"by the operator":     {request("new", "operate", Deposit), Denied},
		"of a taken name":     {request("operate", "access-1", Resolve), Conflict},
		"malformed name":      {request("New", "access-1", Resolve), Invalid},
		"no action":           {request("new", "access-1"), Invalid},
		"unknown action":      {request("new", "access-1", "rule"), Invalid},
		"unknown field":       {change(func(r *Request) { r.Grant.Fields = []cloakroom.FieldNumber{99} }), Invalid},
		"unknown domain":      {change(func(r *Request) { r.Grant.Domains = []cloakroom.Domain{9} }), Invalid},
		"for ever":            {change(func(r *Request) { r.Expires = r.At + MaxRequestSeconds + 1 }), Invalid},
		"over already":        {change(func(r *Request) { r.Expires = r.At }), Invalid},
		"without a time":      {change(func(r *Request) { r.At, r.Expires = 0, 10 }), Invalid},
		"a grant in the past": {change(func(r *Request) { r.Grant.Expires = asked }), Invalid},
		"reads and operates":  {request("new", "access-1", Resolve, Operate), Invalid},
		"reads and approves":  {request("new", "access-1", Read, Access), Invalid},
		"approves and runs":   {request("new", "access-1", Access, Operate), Invalid},
		"audits and holds":    {request("new", "access-1", Audit, Custody), Invalid},
		"reads both ways":     {request("new", "access-1", Resolve, Read), Done},
		"the auditor's":       {request("new", "access-1", Audit, SchemaRead, SchemaWrite, Erase, Status), Done},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { two(t).want(test.want, ask(test.r)) })
	}
	l := two(t)
	for i := range MaxRequests {
		l.want(Done, ask(request(fmt.Sprintf("new-%d", i), "access-1", Resolve)))
	}
	l.want(Exhausted, ask(request("new", "access-1", Resolve)))
}

func TestSuspendedUntilResumed(t *testing.T) {
	l := two(t)
	l.want(Done, suspend("operate", "access-1", true))
	l.want(Already, suspend("operate", "access-1", true))
	if l.Load().Principal(&Digest{3}) != nil {
		t.Error("a suspended principal is found")
	}
	l.want(Done, suspend("operate", "", false)) // the cluster itself
	if l.Load().Principal(&Digest{3}) == nil {
		t.Error("a resumed principal is not found")
	}
	l.want(NotFound, suspend("nobody", "access-1", true))
	l.want(Denied, suspend("custody", "operate", true))
	l.want(Done, revoke("operate", "access-1"))
	l.want(Already, revoke("operate", "access-1"))
	l.want(Conflict, suspend("operate", "access-1", false))
	l.want(Denied, revoke("custody", "operate"))
}

// Somebody who may hand out rights is always left, and where it is one alone
// a custodian stands in for the second.
func TestTheLastAccessPrincipalStays(t *testing.T) {
	l := two(t)
	l.want(Done, suspend("access-1", "access-2", true))
	l.want(Conflict, suspend("access-2", "access-2", true))
	l.want(Conflict, revoke("access-2", "access-2"))
	l.want(Done, revoke("access-1", "access-2")) // the thief's
	l.want(Done, ask(request("access-3", "access-2", Access)))
	l.want(Denied, l.approval("access-3", "access-2", 9))
	l.want(Denied, l.approval("access-3", "operate", 9))
	l.want(Done, l.approval("access-3", "custody", 9))
	l.want(Done, ask(request("renderer", "access-2", Resolve)))
	l.want(Done, l.approval("renderer", "access-3", 10))
}

func TestWhetherOnePersonMayDoEverythingIsFixed(t *testing.T) {
	l := two(t)
	s := l.Load().Settings
	s.SinglePerson = true
	l.want(Invalid, &Command{SetSettings: &s})
}
