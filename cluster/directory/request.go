package directory

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

const (
	// MaxRequests bounds the requests that wait for an approval.
	MaxRequests = 256
	// MaxRequestSeconds is how long a request may wait at most.
	MaxRequestSeconds = 30 * 24 * 3600
)

// Request is a principal that somebody asked for. It is in force once it was
// approved, by its [View.RequestHash]: what was seen is what is approved.
type Request struct {
	Name    string `json:"name"`
	Grant   Grant  `json:"grant"`
	By      string `json:"by"`      // the principal that asked
	At      int64  `json:"at"`      // unix seconds, by the clock of the node that was asked
	Expires int64  `json:"expires"` // unix seconds: the first at which it can't be approved any more
}

// ApprovePrincipal puts a request into force. It must be approved by somebody
// else than who asked if [View.NeedsSecond] says so.
type ApprovePrincipal struct {
	Name       string `json:"name"`
	Hash       Digest `json:"hash"` // of the request
	By         string `json:"by"`   // the principal that approves
	At         int64  `json:"at"`   // unix seconds
	Credential Digest `json:"credential"`
}

// SuspendPrincipal shuts a principal out until it is resumed.
type SuspendPrincipal struct {
	Name      string `json:"name"`
	By        string `json:"by,omitempty"` // the principal that asked; none: the cluster itself
	Suspended bool   `json:"suspended"`
}

// needsSecond lists what nobody hands out alone: what leads to values, to the
// keys, or to more rights.
var needsSecond = [...]Action{Resolve, Read, SchemaWrite, Access, Operate, Custody, Audit}

// NeedsSecond reports whether a principal with grant g must be approved by
// somebody else than who asked for it. In a cluster of a single person none is.
func (v *View) NeedsSecond(g *Grant) bool {
	return !v.Settings.SinglePerson && slices.ContainsFunc(needsSecond[:], g.has)
}

// has reports whether the grant allows a.
func (g *Grant) has(a Action) bool { return slices.Contains(g.Actions, a) }

// parted returns which two duties g mixes that no one holds together, or "".
// Who runs the nodes, who hands out rights, who holds the keys and who looks at
// what the others did are four, and none of them sees values.
func (g *Grant) parted() string {
	duty := ""
	for _, a := range []Action{Operate, Access, Custody, Audit, Resolve, Read} {
		switch {
		case !g.has(a):
		case duty == "" || duty == string(Resolve):
			duty = string(a)
		default:
			return fmt.Sprintf("%s and %s are never one principal's", duty, a)
		}
	}
	return ""
}

// RequestHash returns what an approval of r names: the hash of all it says, in
// this cluster.
func (v *View) RequestHash(r *Request) Digest {
	text, err := json.Marshal(r)
	if err != nil {
		panic("directory: a request that can't be written: " + err.Error())
	}
	hash := sha256.New()
	hash.Write([]byte("cloakroom/request/1\x00"))
	hash.Write(v.ClusterID[:])
	hash.Write(text)
	return Digest(hash.Sum(nil))
}

// RequestNamed returns the request that waits for a principal of that name, or
// nil.
func (v *View) RequestNamed(name string) *Request {
	if i, ok := v.requestAt(name); ok {
		return v.Requests[i]
	}
	return nil
}

// requestAt returns where name stands, or would stand, in Requests.
func (v *View) requestAt(name string) (int, bool) {
	i := sort.Search(len(v.Requests), func(i int) bool { return v.Requests[i].Name >= name })
	return i, i < len(v.Requests) && v.Requests[i].Name == name
}

// Accessor reports whether name may ask for principals at that moment, in unix
// seconds.
func (v *View) Accessor(name string, at int64) bool { return v.holds(name, Access, at) }

// Approver reports whether name may approve what others ask for at that
// moment, in unix seconds. Where only one is left with the action access, the
// others' tokens lost or stolen, one with the action custody stands in.
func (v *View) Approver(name string, at int64) bool {
	return v.holds(name, Access, at) || v.holds(name, Custody, at) && v.accessors("") < 2
}

// holds reports whether name is a live principal that has an action.
func (v *View) holds(name string, a Action, at int64) bool {
	p := v.PrincipalNamed(name)
	return p != nil && p.Live() && p.Grant.has(a) && (p.Grant.Expires == 0 || at < p.Grant.Expires)
}

func denied(detail string) Result { return Result{Code: Denied, Detail: detail} }

// requestPrincipal lets a request wait. It takes the place of none but its own
// twin and those that are over.
func requestPrincipal(next *View, ask *Request) Result {
	r := *ask
	r.Grant = r.Grant.normal()
	if fault := r.fault(next); fault != "" {
		return invalid("principal: " + fault)
	}
	if !next.Accessor(r.By, r.At) {
		return denied("who asks may not hand out rights")
	}
	if p := next.PrincipalNamed(r.Name); p != nil {
		return conflict("there is, or was, a principal of that name; choose another")
	}
	waiting := slices.DeleteFunc(slices.Clone(next.Requests), func(w *Request) bool { return w.Expires <= r.At })
	next.Requests = waiting
	at, there := next.requestAt(r.Name)
	switch {
	case there && next.RequestHash(waiting[at]) == next.RequestHash(&r):
		return already()
	case there:
		return conflict("another request for that name waits; have it approved, or revoke it")
	case len(waiting) >= MaxRequests:
		return Result{Code: Exhausted, Detail: fmt.Sprintf("more than %d requests wait", MaxRequests)}
	}
	next.Requests = slices.Insert(waiting, at, &r)
	return Result{}
}

// fault returns what is wrong with r in view v, or "".
func (r *Request) fault(v *View) string {
	like := Principal{Name: r.Name, Credential: Digest{1}, Grant: r.Grant}
	if fault := like.fault(v); fault != "" {
		return fault
	}
	if fault := r.Grant.parted(); fault != "" {
		return fault
	}
	switch {
	case r.At <= 0 || r.Expires <= r.At || r.Expires > r.At+MaxRequestSeconds:
		return "a request waits for 1 s to 30 days"
	case r.Grant.Expires != 0 && r.Grant.Expires <= r.At:
		return "the grant is over before it begins"
	}
	return ""
}

func approvePrincipal(next *View, cmd *ApprovePrincipal) Result {
	if cmd.Credential == (Digest{}) {
		return invalid("principal: the credential is empty")
	}
	if p := next.PrincipalNamed(cmd.Name); p != nil && p.Live() && p.Credential == cmd.Credential {
		return already()
	}
	at, there := next.requestAt(cmd.Name)
	if !there || next.Requests[at].Expires <= cmd.At {
		return notFound("no request of that name waits")
	}
	r := next.Requests[at]
	switch {
	case next.RequestHash(r) != cmd.Hash:
		return conflict("the request is another one; look at what waits now")
	case !next.Approver(cmd.By, cmd.At):
		return denied("who approves may not hand out rights")
	case r.By == cmd.By && next.NeedsSecond(&r.Grant):
		return denied("nobody approves what he asked for; it takes another one with the action access")
	case r.By != cmd.By && !next.Accessor(r.By, cmd.At):
		return denied("who asked for it may not hand out rights any more")
	}
	result := putPrincipal(next, &Principal{Name: r.Name, Credential: cmd.Credential, Grant: r.Grant})
	if result.Code == Done {
		next.Requests = slices.Delete(slices.Clone(next.Requests), at, at+1)
	}
	return result
}

func suspendPrincipal(next *View, cmd *SuspendPrincipal) Result {
	at, there := next.principalAt(cmd.Name)
	switch {
	case !there:
		return notFound("no such principal")
	case cmd.By != "" && !next.liveAccessor(cmd.By):
		return denied("who asks may not hand out rights")
	case next.Principals[at].Revoked:
		return conflict("the principal was revoked")
	case next.Principals[at].Suspended == cmd.Suspended:
		return already()
	case cmd.Suspended && next.lastAccess(next.Principals[at]):
		return conflict("it is the last one with the action access: nobody could resume it")
	}
	p := *next.Principals[at]
	p.Suspended = cmd.Suspended
	next.Principals = slices.Clone(next.Principals)
	next.Principals[at] = &p
	next.indexPrincipals()
	return Result{}
}

// revokePrincipal ends a principal, or takes back the request for one.
func revokePrincipal(next *View, cmd *RevokePrincipal) Result {
	if cmd.By != "" && !next.liveAccessor(cmd.By) {
		return denied("who asks may not hand out rights")
	}
	at, there := next.principalAt(cmd.Name)
	if !there {
		if at, there = next.requestAt(cmd.Name); there {
			next.Requests = slices.Delete(slices.Clone(next.Requests), at, at+1)
			return Result{}
		}
		return notFound("no such principal")
	}
	p := *next.Principals[at]
	if p.Revoked {
		return already()
	}
	if next.lastAccess(&p) {
		return conflict("it is the last one with the action access: make another one first")
	}
	p.Revoked = true
	next.Principals = slices.Clone(next.Principals)
	next.Principals[at] = &p
	next.indexPrincipals()
	return Result{}
}

// liveAccessor is [View.Accessor] whatever the time is.
func (v *View) liveAccessor(name string) bool {
	p := v.PrincipalNamed(name)
	return p != nil && p.Live() && p.Grant.has(Access)
}

// lastAccess reports whether without p nobody would be left who may hand out
// rights.
func (v *View) lastAccess(p *Principal) bool {
	return p.Grant.has(Access) && v.accessors(p.Name) == 0
}

// accessors counts those who may hand out rights for good, but for one. What is
// over one day doesn't count.
func (v *View) accessors(except string) int {
	n := 0
	for _, p := range v.Principals {
		if p.Name != except && p.Live() && p.Grant.has(Access) && p.Grant.Expires == 0 {
			n++
		}
	}
	return n
}

// requestsFault returns what is wrong with the requests of a decoded view, or
// "".
func (v *View) requestsFault() string {
	for i, r := range v.Requests {
		if r == nil || i > 0 && r.Name <= v.Requests[i-1].Name {
			return "requests out of order"
		}
	}
	return ""
}
