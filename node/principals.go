package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/node/operator"
)

// rights is the node as those meet it who hand out rights. What may be done is
// decided by the directory, when it carries the command out.
type rights struct{ *Node }

// requestLife is how long a request waits for its approval.
const requestLife = 7 * 24 * time.Hour

// Ask asks for a principal. Where nobody else has to approve it, it is approved
// by who asks, at once.
func (r rights) Ask(ctx context.Context, caller string, want operator.Grant) (operator.Asked, error) {
	view := r.cluster.Directory()
	grant, err := r.grantFrom(view, &want)
	if err != nil {
		return operator.Asked{}, err
	}
	now := r.now()
	ask := directory.Request{Name: want.Name, Grant: grant, By: caller, At: now.Unix(), Expires: now.Add(requestLife).Unix()}
	if err := r.direct(ctx, &directory.Command{RequestPrincipal: &ask}); err != nil {
		return operator.Asked{}, err
	}
	view = r.cluster.Directory()
	waits := view.RequestNamed(want.Name) // the lists of its grant in their order
	if waits == nil || waits.By != caller {
		return operator.Asked{}, cloakroom.Because(cloakroom.ErrConflict, "somebody took the request back, or approved it")
	}
	hash := view.RequestHash(waits)
	if view.NeedsSecond(&waits.Grant) {
		return operator.Asked{Name: want.Name, Hash: hashText(hash), Expires: moment(waits.Expires)}, nil
	}
	token, err := r.approve(ctx, caller, want.Name, hash)
	return operator.Asked{Name: want.Name, Token: token}, err
}

// Approve puts a request into force and makes the token of its principal.
func (r rights) Approve(ctx context.Context, caller, name, hash string) (string, error) {
	var digest directory.Digest
	if digest.UnmarshalText([]byte(strings.TrimPrefix(hash, hashPrefix))) != nil {
		return "", cloakroom.Because(cloakroom.ErrMalformed, "the hash is sha256: and 64 hex digits, as the list of requests shows it")
	}
	return r.approve(ctx, caller, name, digest)
}

// approve draws a token and approves a request with its credential. The
// command can be sent again as long as nobody knows what became of it: the same
// credential finds its principal there.
func (r rights) approve(ctx context.Context, caller, name string, hash directory.Digest) (token string, err error) {
	secret, err := drawToken(r.memory)
	if err != nil {
		return "", err
	}
	defer secret.Destroy()
	cmd := &directory.ApprovePrincipal{Name: name, Hash: hash, By: caller, At: r.now().Unix()}
	secret.Use(func(b []byte) { cmd.Credential = r.credentialOf(sha256.Sum256(b)) })
	for {
		err = r.direct(ctx, &directory.Command{ApprovePrincipal: cmd})
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		return "", cloakroom.Because(err, "if it is in the list of principals now, its token is lost: revoke it and ask for another name")
	}
	if err != nil {
		return "", err
	}
	secret.Use(func(b []byte) { token = string(b) })
	return token, nil
}

// Suspend shuts a principal out, or lets it in again.
func (r rights) Suspend(ctx context.Context, caller, name string, resume bool) error {
	return r.takeAway(ctx, &directory.Command{SuspendPrincipal: &directory.SuspendPrincipal{Name: name, By: caller, Suspended: !resume}})
}

// Revoke ends a principal, or takes back the request for one.
func (r rights) Revoke(ctx context.Context, caller, name string) error {
	return r.takeAway(ctx, &directory.Command{RevokePrincipal: &directory.RevokePrincipal{Name: name, By: caller}})
}

// takeAway changes rights and waits until no node goes by what they were. It
// can be asked again: what is so already is waited for all the same.
func (r rights) takeAway(ctx context.Context, cmd *directory.Command) error {
	if err := r.direct(ctx, cmd); err != nil {
		return err
	}
	// The view here shows the change by now, whoever made it.
	if err := r.cluster.SettleView(ctx, r.cluster.Directory().Epoch); err != nil {
		if errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			return cloakroom.Because(err, "it is in force, and a node that does not answer may go by what was before for up to half a minute: ask again to be told when it does not")
		}
		return err
	}
	return nil
}

// direct has the directory carry out a command, and says to the caller what it
// said.
func (r rights) direct(ctx context.Context, cmd *directory.Command) error {
	if err := r.up(); err != nil {
		return err
	}
	result, err := r.cluster.ProposeDirectory(ctx, cmd)
	if err != nil {
		return err
	}
	switch result.Code {
	case directory.Done, directory.Already:
		return nil
	case directory.Denied:
		err = cloakroom.ErrDenied
	case directory.NotFound:
		err = cloakroom.ErrNoPrincipal
	case directory.Invalid:
		err = cloakroom.ErrSchema
	case directory.Malformed:
		return result.Err()
	default:
		err = cloakroom.ErrConflict
	}
	return cloakroom.Because(err, result.Detail)
}

// Principals lists all there are, revoked ones included, by name.
func (r rights) Principals(context.Context) ([]operator.Principal, error) {
	if err := r.up(); err != nil {
		return nil, err
	}
	view, now := r.cluster.Directory(), r.now().Unix()
	list := make([]operator.Principal, len(view.Principals))
	for i, p := range view.Principals {
		list[i] = operator.Principal{Grant: namedGrant(view, p.Name, &p.Grant), State: principalState(p, now)}
	}
	return list, nil
}

// principalStates are what a principal can be.
var principalStates = [...]string{"live", "suspended", "expired", "revoked"}

// principalState is what p is at that moment, in unix seconds.
func principalState(p *directory.Principal, now int64) string {
	switch {
	case p.Revoked:
		return "revoked"
	case p.Suspended:
		return "suspended"
	case p.Grant.Expires != 0 && p.Grant.Expires <= now:
		return "expired"
	}
	return "live"
}

// Requests lists what waits to be approved, by name.
func (r rights) Requests(context.Context) ([]operator.Request, error) {
	if err := r.up(); err != nil {
		return nil, err
	}
	view, now := r.cluster.Directory(), r.now().Unix()
	var list []operator.Request
	for _, q := range view.Requests {
		if q.Expires > now {
			list = append(list, operator.Request{Principal: namedGrant(view, q.Name, &q.Grant),
				Hash: hashText(view.RequestHash(q)), By: q.By, At: moment(q.At), Expires: moment(q.Expires)})
		}
	}
	return list, nil
}

// grantFrom turns names into the numbers of view and reports all faults: each
// names what the caller wrote only where it is one of a few fixed words or was
// found to be a well-formed name.
func (r rights) grantFrom(view *directory.View, want *operator.Grant) (directory.Grant, error) {
	g := directory.Grant{AllFields: want.AllFields, AllDomains: want.AllDomains, AllIssuers: want.AllIssuers,
		Form: directory.Form(want.Form), Purposes: want.Purposes, Issuers: want.Issuers}
	if g.Form == "" {
		g.Form = directory.FormPlain
	}
	var faults []string
	for _, name := range want.Actions {
		g.Actions = append(g.Actions, directory.Action(name))
	}
	for _, name := range want.Fields {
		if f := view.Schema.Field([]byte(name)); f != nil {
			g.Fields = append(g.Fields, f.Number)
		} else {
			faults = append(faults, "the schema has no field "+quoted(name))
		}
	}
	domains := want.Domains
	if len(domains) == 0 && !want.AllDomains {
		domains = []string{view.Domains[cloakroom.DefaultDomain].Name}
	}
	for _, name := range domains {
		if number, known := view.Domain([]byte(name)); known {
			g.Domains = append(g.Domains, number)
		} else {
			faults = append(faults, "there is no domain "+quoted(name))
		}
	}
	faults = append(faults, grantFaults(view, want)...)
	if want.Expires != "" {
		at, err := r.expiryFrom(want.Expires)
		if g.Expires = at; err != nil {
			faults = append(faults, err.Error())
		}
	}
	if len(faults) > 0 {
		return g, cloakroom.Because(cloakroom.ErrSchema, strings.Join(faults, "; "))
	}
	return g, nil
}

// grantFaults returns what makes no sense in a grant whoever asks for it.
func grantFaults(view *directory.View, want *operator.Grant) (faults []string) {
	known := make(map[string]bool)
	for _, a := range directory.Actions() {
		known[string(a)] = true
	}
	touches := false // values
	for _, name := range want.Actions {
		if !known[name] {
			faults = append(faults, "there is no action "+quoted(name)+": want one of "+actionList())
		}
		switch directory.Action(name) {
		case directory.Deposit, directory.Update, directory.Resolve, directory.Read:
			touches = true
		}
	}
	if len(want.Actions) == 0 {
		faults = append(faults, "no action is named: want some of "+actionList())
	}
	if touches && len(want.Fields) == 0 && !want.AllFields {
		faults = append(faults, "no field is named: name those that may be read or written, or all_fields")
	}
	declared := make(map[string]bool)
	for i := range view.Schema.Fields {
		for _, purpose := range view.Schema.Fields[i].Purposes {
			declared[purpose] = declared[purpose] || !view.Schema.Fields[i].Retired
		}
	}
	for _, purpose := range want.Purposes {
		if !declared[purpose] {
			faults = append(faults, "no field is for the purpose "+quoted(purpose))
		}
	}
	return faults
}

func actionList() string {
	names := make([]string, len(directory.Actions()))
	for i, a := range directory.Actions() {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// quoted is a name of the cluster's own things. What is no such name is not
// repeated: it may be anything.
func quoted(name string) string {
	if !directory.ValidName(name) {
		return "of that name"
	}
	return "'" + name + "'"
}

// expiryFrom reads when a grant ends: a moment, or how long from now.
func (r rights) expiryFrom(text string) (int64, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return r.now().Add(d).Unix(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Unix() <= r.now().Unix() {
		return 0, errors.New("expires is a moment to come such as 2030-01-31T00:00:00Z, or a time from now such as 720h")
	}
	return at.Unix(), nil
}

// namedGrant is a grant in names. A field that has retired is shown as such:
// its name may be another's by now.
func namedGrant(view *directory.View, name string, g *directory.Grant) operator.Grant {
	out := operator.Grant{Name: name, AllFields: g.AllFields, AllDomains: g.AllDomains, AllIssuers: g.AllIssuers,
		Form: string(g.Form), Purposes: g.Purposes, Issuers: g.Issuers}
	for _, a := range g.Actions {
		out.Actions = append(out.Actions, string(a))
	}
	for _, number := range g.Fields {
		f := view.Schema.Number(number)
		switch {
		case f == nil:
		case f.Retired:
			out.Fields = append(out.Fields, fmt.Sprintf("%s (retired, %d)", f.Name, number))
		default:
			out.Fields = append(out.Fields, f.Name)
		}
	}
	for _, number := range g.Domains {
		out.Domains = append(out.Domains, view.Domains[number].Name)
	}
	if g.Expires != 0 {
		out.Expires = moment(g.Expires)
	}
	return out
}

// hashPrefix begins the text of a request's hash.
const hashPrefix = "sha256:"

func hashText(d directory.Digest) string {
	text, err := d.MarshalText()
	if err != nil {
		panic("a digest that can't be written") // it is an array
	}
	return hashPrefix + string(text)
}

// moment writes unix seconds as RFC 3339.
func moment(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
