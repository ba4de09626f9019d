package policy_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloakroom"
	"cloakroom/node/policy"
)

// The model says the rules once more, over maps and without any bit.
type model struct {
	actions  map[policy.Action]bool
	fields   map[cloakroom.FieldNumber]bool
	form     policy.Form
	domains  map[cloakroom.Domain]bool
	purposes map[int]bool
	issuers  map[string]bool
	expires  int64
}

type ask struct {
	action  policy.Action
	fields  map[cloakroom.FieldNumber]bool
	form    policy.Form
	domain  cloakroom.Domain
	issuer  string // "": none is named
	purpose int    // 0: none, -1: not in the schema
	fit     map[cloakroom.FieldNumber]bool
}

func (m model) decide(a ask, now int64) (fields int, err error) {
	if m.expires != 0 && now >= m.expires || !m.actions[a.action] {
		return 0, cloakroom.ErrDenied
	}
	read := a.action == policy.Resolve || a.action == policy.Read
	write := a.action == policy.Deposit || a.action == policy.Update
	if !read && !write && a.action != policy.Erase {
		return 0, nil
	}
	if a.purpose < 0 || len(m.purposes) > 0 && !m.purposes[a.purpose] {
		return 0, cloakroom.ErrPurpose
	}
	granted, fitting := 0, 0
	for f := range a.fields {
		if m.fields[f] {
			granted++
			if a.purpose == 0 || a.fit[f] {
				fitting++
			}
		}
	}
	switch {
	case write && (granted < len(a.fields) || a.action == policy.Deposit && !m.domains[a.domain]):
		return 0, cloakroom.ErrDenied
	case a.action == policy.Deposit && a.issuer != "" && !m.issuers["*"] && !m.issuers[a.issuer]:
		return 0, cloakroom.ErrDenied
	case write:
		return granted, nil
	case !read:
		return 0, nil
	case a.form > m.form || m.form == policy.Unnamed || granted == 0:
		return 0, cloakroom.ErrDenied
	case fitting == 0:
		return 0, cloakroom.ErrPurpose
	}
	return fitting, nil
}

func (m model) grant(t *rapid.T) policy.Grant {
	purposes, ok := policy.NewPurposes(keys(m.purposes)...)
	if !ok {
		t.Fatal("purposes refused")
	}
	issuers := policy.NewIssuers(keys(m.issuers)...)
	if m.issuers["*"] {
		issuers = policy.AllIssuers()
	}
	return policy.Grant{
		Issuers: issuers,
		Actions: policy.NewActions(keys(m.actions)...), Fields: policy.NewFields(keys(m.fields)...),
		Form: m.form, Domains: policy.NewDomains(keys(m.domains)...), Purposes: purposes, Expires: m.expires,
	}
}

func (a ask) request() policy.Request {
	r := policy.Request{Action: a.action, Fields: policy.NewFields(keys(a.fields)...), Form: a.form, Domain: a.domain}
	if a.issuer != "" {
		r.Issuer = []byte(a.issuer)
	}
	switch {
	case a.purpose < 0:
		r.Purpose = policy.UnknownPurpose()
	case a.purpose > 0:
		r.Purpose = policy.NewPurpose(a.purpose, policy.NewFields(keys(a.fit)...))
	}
	return r
}

func keys[K comparable](set map[K]bool) []K {
	var list []K
	for k := range set {
		list = append(list, k)
	}
	return list
}

func drawSet[K comparable](t *rapid.T, label string, element *rapid.Generator[K]) map[K]bool {
	set := map[K]bool{}
	for _, k := range rapid.SliceOfN(element, 0, 6).Draw(t, label) {
		set[k] = true
	}
	return set
}

func drawModel(t *rapid.T) model {
	return model{
		actions:  drawSet(t, "granted actions", rapid.Map(rapid.Uint8Range(1, 9), func(n uint8) policy.Action { return policy.Action(n) })),
		fields:   drawSet(t, "granted fields", fieldGen()),
		form:     policy.Form(rapid.Uint8Range(0, 3).Draw(t, "granted form")),
		domains:  drawSet(t, "granted domains", domainGen()),
		purposes: drawSet(t, "granted purposes", rapid.OneOf(rapid.IntRange(1, 4), rapid.Just(63))),
		issuers:  drawSet(t, "granted issuers", rapid.SampledFrom([]string{"a", "b", "*"})),
		expires:  rapid.Int64Range(0, 4).Draw(t, "expires"),
	}
}

// drawAsk draws fields that are granted more often than chance would.
func drawAsk(t *rapid.T, m model) ask {
	fields := fieldGen()
	if granted := keys(m.fields); len(granted) > 0 && rapid.Bool().Draw(t, "only granted fields") {
		slices.Sort(granted)
		fields = rapid.SampledFrom(granted)
	}
	return ask{
		action:  policy.Action(rapid.Uint8Range(0, 11).Draw(t, "action")),
		fields:  drawSet(t, "fields", fields),
		form:    policy.Form(rapid.Uint8Range(0, 4).Draw(t, "form")),
		domain:  domainGen().Draw(t, "domain"),
		issuer:  rapid.SampledFrom([]string{"", "", "a", "b", "c", "ab"}).Draw(t, "issuer"),
		purpose: rapid.OneOf(rapid.IntRange(-1, 4), rapid.Just(63)).Draw(t, "purpose"),
		fit:     drawSet(t, "fields of the purpose", fieldGen()),
	}
}

func fieldGen() *rapid.Generator[cloakroom.FieldNumber] {
	return rapid.Map(rapid.OneOf(rapid.Uint16Range(2, 6), rapid.Uint16Range(62, 65)), func(n uint16) cloakroom.FieldNumber {
		return cloakroom.FieldNumber(n)
	})
}

func domainGen() *rapid.Generator[cloakroom.Domain] {
	return rapid.Map(rapid.Uint16Range(0, 3), func(n uint16) cloakroom.Domain { return cloakroom.Domain(n) })
}

func TestDecideAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		a, now := drawAsk(t, m), rapid.Int64Range(0, 5).Draw(t, "now")
		grant, request := m.grant(t), a.request()
		got, err := policy.Decide(&grant, &request, now)
		count, want := m.decide(a, now)
		if !errors.Is(err, want) || got.Fields.Len() != count {
			t.Fatalf("Decide = %d fields, %v; the model says %d, %v", got.Fields.Len(), err, count, want)
		}
	})
}

// A smaller grant never allows more.
func TestNarrowingAGrantOnlyTakesAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		a, now := drawAsk(t, m), rapid.Int64Range(0, 5).Draw(t, "now")
		wide, request := m.grant(t), a.request()
		narrow := wide
		narrow.Actions &= policy.Actions(rapid.Uint16().Draw(t, "keep actions"))
		narrow.Fields = narrow.Fields.And(policy.NewFields(keys(drawSet(t, "keep fields", fieldGen()))...))
		narrow.Form = min(narrow.Form, policy.Form(rapid.Uint8Range(0, 3).Draw(t, "keep form")))
		before, wideErr := policy.Decide(&wide, &request, now)
		after, narrowErr := policy.Decide(&narrow, &request, now)
		if wideErr != nil && narrowErr == nil {
			t.Fatalf("denied with %v under the wide grant, allowed under the narrow one", wideErr)
		}
		if narrowErr == nil && (after.Fields.And(before.Fields) != after.Fields || after.Form > before.Form) {
			t.Fatalf("narrow grant allows %+v, wide one only %+v", after, before)
		}
	})
}

// FuzzDecide feeds every bit pattern: no panic, and nothing beyond grant and request.
func FuzzDecide(f *testing.F) {
	f.Add(uint16(0xffff), uint64(4), uint64(4), uint8(3), uint64(0), int64(0), uint8(3), uint8(0), int16(0), int64(1))
	f.Fuzz(func(t *testing.T, actions uint16, granted, asked uint64, grantForm uint8, purposes uint64, expires int64,
		action, form uint8, purpose int16, now int64) {
		grant := policy.Grant{
			Actions: policy.Actions(actions), Fields: policy.Fields{granted, granted >> 3}, Form: policy.Form(grantForm),
			Domains: policy.AllDomains(), Purposes: policy.Purposes(purposes), Expires: expires,
		}
		request := policy.Request{
			Action: policy.Action(action), Fields: policy.Fields{asked, asked << 5}, Form: policy.Form(form),
			Purpose: policy.NewPurpose(int(purpose), policy.Fields{granted ^ asked, asked}),
		}
		before := grant
		got, err := policy.Decide(&grant, &request, now)
		again, errAgain := policy.Decide(&grant, &request, now)
		if got != again || err != errAgain {
			t.Fatal("two answers to one question")
		}
		if err != nil && got != (policy.Decision{}) {
			t.Fatalf("denied with %v, but says %+v", err, got)
		}
		if got.Fields.And(grant.Fields).And(request.Fields) != got.Fields || got.Form > grant.Form {
			t.Fatalf("allowed %+v under %+v", got, before)
		}
	})
}
