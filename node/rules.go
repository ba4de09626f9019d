package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/policy"
	"cloakroom/node/record"
)

// rules is one directory view compiled for the gates: who may call, what each
// may do, and how fields and purposes are looked up. It is immutable; a request
// uses one rules from its first gate to its last, so that it never sees half
// of a change.
type rules struct {
	view     *directory.View
	shown    *cluster.Shown // the same view, with its lease
	callers  map[directory.Digest]*caller
	purposes map[string]purpose
	fields   [policy.MaxField + 1]*field // by number, retired ones included
	declared []cloakroom.FieldNumber     // every number ever declared, ascending
	live     []cloakroom.FieldNumber
}

// field is one declared field with its member name as the answer writes it.
type field struct {
	directory.Field
	typ    record.Type
	quoted []byte // `"display_name":`
}

// caller is an authenticated principal under one set of rules.
type caller struct {
	name       string
	credential directory.Digest
	grant      policy.Grant
	rules      *rules
}

// Name returns the principal's name.
func (c *caller) Name() string { return c.name }

// compile builds the rules of view.
func compile(view *directory.View) *rules {
	r := &rules{
		view:     view,
		callers:  make(map[directory.Digest]*caller, len(view.Principals)),
		purposes: make(map[string]purpose),
	}
	byPurpose := make(map[string]policy.Fields)
	for i := range view.Schema.Fields {
		f := &field{Field: view.Schema.Fields[i]}
		f.quoted = api.AppendName(nil, []byte(f.Name))
		f.typ, _ = record.ParseType(string(f.Type)) // the directory holds declared types only
		r.fields[f.Number] = f
		r.declared = append(r.declared, f.Number)
		if f.Retired {
			continue
		}
		r.live = append(r.live, f.Number)
		for _, purpose := range f.Purposes {
			set := byPurpose[purpose]
			set.Add(f.Number)
			byPurpose[purpose] = set
		}
	}
	numbers := numberPurposes(byPurpose)
	for name, number := range numbers {
		r.purposes[name] = purpose{policy.NewPurpose(number, byPurpose[name]), name}
	}
	for _, p := range view.Principals {
		if p.Live() {
			r.callers[p.Credential] = &caller{name: p.Name, credential: p.Credential, grant: grantOf(&p.Grant, numbers), rules: r}
		}
	}
	return r
}

// grantOf compiles a grant. A purpose of the grant that no field declares any
// more gets a number no request can name, so that losing its purposes never
// turns a restricted grant into an unrestricted one.
func grantOf(g *directory.Grant, purposes map[string]int) policy.Grant {
	grant := policy.Grant{
		Fields:  policy.NewFields(g.Fields...),
		Domains: policy.NewDomains(g.Domains...),
		Expires: g.Expires,
	}
	for _, name := range g.Actions {
		if action, known := policy.ParseAction(string(name)); known {
			grant.Actions |= policy.NewActions(action)
		}
	}
	if g.AllFields {
		grant.Fields = policy.AllFields()
	}
	if g.AllDomains {
		grant.Domains = policy.AllDomains()
	}
	if grant.Issuers = policy.NewIssuers(g.Issuers...); g.AllIssuers {
		grant.Issuers = policy.AllIssuers()
	}
	grant.Form, _ = policy.ParseForm([]byte(g.Form))
	list := make([]int, 0, len(g.Purposes))
	for _, name := range g.Purposes {
		number, known := purposes[name]
		if !known {
			number = unusedPurpose
		}
		list = append(list, number)
	}
	grant.Purposes, _ = policy.NewPurposes(list...)
	return grant
}

// unusedPurpose is given to no purpose of a schema.
const unusedPurpose = policy.MaxPurpose

// maxPurposes is how many purposes one schema can name.
const maxPurposes = unusedPurpose - 1

// rulesNow returns the rules of the newest view.
func (n *Node) rulesNow() *rules {
	shown := n.cluster.Shown()
	r := n.rules.Load()
	if r == nil || r.shown != shown {
		r = compile(shown.View)
		r.shown = shown
		n.rules.Store(r)
	}
	return r
}

// current returns [cloakroom.ErrDirectoryStale] once something may not be decided
// by r any more, because a newer view of the directory may be in force on other
// nodes, and whoever took a right away was told so. It is the gate of all that
// touches subjects, the schema or events, behind the decision itself: what counts
// is that the clock was looked at after the request had come. looked is such a
// look that was needed anyway; 0: there was none.
func (n *Node) current(r *rules, looked time.Duration) error {
	if n.cluster.Stale(r.shown, looked) {
		return cloakroom.ErrDirectoryStale
	}
	return nil
}

// schemaWait is how long a write waits for a schema that a shard has heard of
// already; a replica of the directory is rarely milliseconds behind.
const schemaWait = time.Second

// awaitSchema waits until the schema is newer than that of old rules, for a
// moment. A shard may know of a schema before the directory's replica here
// does: another node proposes under it as soon as it is committed.
func (n *Node) awaitSchema(ctx context.Context, old *rules) {
	ctx, cancel := context.WithTimeout(ctx, schemaWait)
	defer cancel()
	step := time.NewTicker(time.Millisecond)
	defer step.Stop()
	for n.cluster.Directory().Schema.Epoch <= old.view.Schema.Epoch {
		select {
		case <-step.C:
		case <-ctx.Done():
			return
		}
	}
}

// outdatedWait bounds the question whether there is a newer schema.
const outdatedWait = 250 * time.Millisecond

// outdated reports whether err, which says that a request does not fit the
// schema of r, may be due to a schema newer than r. Who puts a schema is
// answered when every shard knows it, so any shard can tell.
func (n *Node) outdated(ctx context.Context, r *rules, err error) bool {
	if !errors.Is(err, cloakroom.ErrSchema) && !errors.Is(err, cloakroom.ErrPurpose) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, outdatedWait)
	defer cancel()
	var records command.Records
	err = n.cluster.Read(ctx, 0, cloakroom.Lease, cloakroom.Index{}, []cloakroom.Token{{}}, &records)
	return err == nil && records.Schema > r.view.Schema.Epoch
}

// callerAnew returns c under a schema newer than its own.
func (n *Node) callerAnew(ctx context.Context, c *caller) (*caller, error) {
	n.awaitSchema(ctx, c.rules)
	if anew, known := n.rulesNow().callers[c.credential]; known {
		return anew, nil
	}
	return c, cloakroom.ErrDenied // revoked since
}

// purpose looks up what the caller named; no name is the zero purpose. The
// name comes back only if the schema declares it.
func (r *rules) purpose(name []byte) (policy.Purpose, string) {
	if len(name) == 0 {
		return policy.Purpose{}, ""
	}
	if p, known := r.purposes[string(name)]; known {
		return p.Purpose, p.name
	}
	return policy.UnknownPurpose(), ""
}

// purpose is a compiled purpose with its name.
type purpose struct {
	policy.Purpose
	name string
}

// numberPurposes gives each purpose a number, from 1 on in the order of the
// names. Those beyond the last number get none and are unknown to every gate.
func numberPurposes(declared map[string]policy.Fields) map[string]int {
	numbers := make(map[string]int, len(declared))
	for i, name := range slices.Sorted(maps.Keys(declared)) {
		if i < maxPurposes {
			numbers[name] = i + 1
		}
	}
	return numbers
}

// field returns the live field called name, or nil.
func (r *rules) field(name []byte) *field {
	f := r.view.Schema.Field(name)
	if f == nil {
		return nil
	}
	return r.fields[f.Number]
}

// names returns the names of those live fields that are in the set.
func (r *rules) names(set policy.Fields) []string {
	var names []string
	for _, number := range r.live {
		if set.Has(number) {
			names = append(names, r.fields[number].Name)
		}
	}
	return names
}

// domain looks up what the caller named; no name is the default domain.
func (r *rules) domain(name []byte) (cloakroom.Domain, bool) {
	if len(name) == 0 {
		return cloakroom.DefaultDomain, true
	}
	return r.view.Domain(name)
}
