package policy_test

import (
	"errors"
	"testing"

	"cloakroom"
	"cloakroom/node/policy"
)

const (
	name  cloakroom.FieldNumber = 2
	email cloakroom.FieldNumber = 3
	phone cloakroom.FieldNumber = 65 // the last number of a full schema
)

func purposes(t testing.TB, numbers ...int) policy.Purposes {
	t.Helper()
	set, ok := policy.NewPurposes(numbers...)
	if !ok {
		t.Fatalf("NewPurposes(%v) refused", numbers)
	}
	return set
}

// renderer may show names, masked or less, of subjects in domains 0 and 7.
func renderer() policy.Grant {
	return policy.Grant{
		Actions: policy.NewActions(policy.Resolve, policy.Read, policy.Deposit, policy.Update, policy.Erase, policy.Metrics),
		Fields:  policy.NewFields(name, phone),
		Form:    policy.Masked,
		Domains: policy.NewDomains(7, 0, 7),
		Expires: 1000,
	}
}

func TestDecide(t *testing.T) {
	display := policy.NewPurpose(1, policy.NewFields(name, email))
	billing := policy.NewPurpose(2, policy.NewFields(email))
	withPurpose := func(g *policy.Grant) { g.Purposes = purposes(t, 1, 2) }
	reads := func(form policy.Form, p policy.Purpose, list ...cloakroom.FieldNumber) policy.Request {
		return policy.Request{Action: policy.Resolve, Fields: policy.NewFields(list...), Form: form, Purpose: p}
	}
	none := policy.Purpose{}

	tests := []struct {
		name   string
		change func(*policy.Grant)
		req    policy.Request
		now    int64
		want   policy.Decision
		err    error
	}{
		{name: "a granted field in the granted form", req: reads(policy.Masked, none, name),
			want: policy.Decision{Fields: policy.NewFields(name), Form: policy.Masked}},
		{name: "a lesser form", req: reads(policy.Present, none, phone),
			want: policy.Decision{Fields: policy.NewFields(phone), Form: policy.Present}},
		{name: "no form asks for the fullest granted", req: reads(policy.Unnamed, none, name),
			want: policy.Decision{Fields: policy.NewFields(name), Form: policy.Masked}},
		{name: "a fuller form", req: reads(policy.Plain, none, name), err: cloakroom.ErrDenied},
		{name: "a form that does not exist", req: reads(9, none, name), err: cloakroom.ErrDenied},
		{name: "a grant without a form reads nothing", change: func(g *policy.Grant) { g.Form = policy.Unnamed },
			req: reads(policy.Unnamed, none, name), err: cloakroom.ErrDenied},
		{name: "fields outside the grant are left out", req: reads(policy.Masked, none, name, email, phone),
			want: policy.Decision{Fields: policy.NewFields(name, phone), Form: policy.Masked}},
		{name: "no field is left", req: reads(policy.Masked, none, email), err: cloakroom.ErrDenied},
		{name: "no field was asked for", req: reads(policy.Masked, none), err: cloakroom.ErrDenied},

		{name: "a purpose nobody required limits to its fields", req: reads(policy.Masked, display, name, phone),
			want: policy.Decision{Fields: policy.NewFields(name), Form: policy.Masked}},
		{name: "a purpose that fits no field", req: reads(policy.Masked, billing, name), err: cloakroom.ErrPurpose},
		{name: "a purpose outside the schema", req: reads(policy.Masked, policy.UnknownPurpose(), name), err: cloakroom.ErrPurpose},
		{name: "a required purpose", change: withPurpose, req: reads(policy.Masked, display, name),
			want: policy.Decision{Fields: policy.NewFields(name), Form: policy.Masked}},
		{name: "a required purpose is missing", change: withPurpose, req: reads(policy.Masked, none, name), err: cloakroom.ErrPurpose},
		{name: "another than the required purposes", change: withPurpose,
			req: reads(policy.Masked, policy.NewPurpose(3, policy.AllFields()), name), err: cloakroom.ErrPurpose},
		{name: "an erasure without the required purpose", change: withPurpose,
			req: policy.Request{Action: policy.Erase}, err: cloakroom.ErrPurpose},
		{name: "a deposit without the required purpose", change: withPurpose,
			req: policy.Request{Action: policy.Deposit, Fields: policy.NewFields(name)}, err: cloakroom.ErrPurpose},
		{name: "metrics need no purpose", change: withPurpose, req: policy.Request{Action: policy.Metrics}},

		{name: "an action outside the grant", req: policy.Request{Action: policy.SchemaWrite}, err: cloakroom.ErrDenied},
		{name: "no action", req: policy.Request{}, err: cloakroom.ErrDenied},
		{name: "an action that does not exist", req: policy.Request{Action: 200}, err: cloakroom.ErrDenied},

		{name: "a deposit into a granted domain",
			req:  policy.Request{Action: policy.Deposit, Fields: policy.NewFields(name, phone), Domain: 7},
			want: policy.Decision{Fields: policy.NewFields(name, phone)}},
		{name: "a deposit into another domain",
			req: policy.Request{Action: policy.Deposit, Fields: policy.NewFields(name), Domain: 8}, err: cloakroom.ErrDenied},
		{name: "a deposit with one field outside the grant",
			req: policy.Request{Action: policy.Deposit, Fields: policy.NewFields(name, email)}, err: cloakroom.ErrDenied},
		{name: "an update with one field outside the grant",
			req: policy.Request{Action: policy.Update, Fields: policy.NewFields(name, email)}, err: cloakroom.ErrDenied},
		{name: "an update names no domain",
			req:  policy.Request{Action: policy.Update, Fields: policy.NewFields(name), Domain: 8},
			want: policy.Decision{Fields: policy.NewFields(name)}},
		{name: "an erasure for a purpose outside the schema",
			req: policy.Request{Action: policy.Erase, Purpose: policy.UnknownPurpose()}, err: cloakroom.ErrPurpose},
		{name: "an erasure names no field", req: policy.Request{Action: policy.Erase}},

		{name: "the last second of the grant", now: 999, req: policy.Request{Action: policy.Erase}},
		{name: "the first second after it", now: 1000, req: policy.Request{Action: policy.Erase}, err: cloakroom.ErrDenied},
		{name: "a grant that does not expire", change: func(g *policy.Grant) { g.Expires = 0 }, now: 1 << 40,
			req: policy.Request{Action: policy.Erase}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant := renderer()
			if test.change != nil {
				test.change(&grant)
			}
			got, err := policy.Decide(&grant, &test.req, test.now)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("Decide = %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestZeroGrantCoversNothing(t *testing.T) {
	for a := policy.Action(0); a < 255; a++ {
		_, err := policy.Decide(&policy.Grant{}, &policy.Request{Action: a}, 0)
		if !errors.Is(err, cloakroom.ErrDenied) {
			t.Errorf("action %v under the zero grant: %v, want ErrDenied", a, err)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for a := policy.Deposit; policy.AllActions().Has(a); a++ {
		if got, ok := policy.ParseAction(a.String()); !ok || got != a {
			t.Errorf("ParseAction(%q) = %v, %v", a, got, ok)
		}
	}
	for f := policy.Unnamed; f <= policy.Plain; f++ {
		if got, ok := policy.ParseForm([]byte(f.String())); !ok || got != f {
			t.Errorf("ParseForm(%q) = %v, %v", f, got, ok)
		}
	}
	if _, ok := policy.ParseAction("none"); ok {
		t.Error(`ParseAction("none") was accepted`)
	}
	if _, ok := policy.ParseForm([]byte("Plain")); ok {
		t.Error(`ParseForm("Plain") was accepted`)
	}
}

func TestSetsRefuseWhatTheyCannotHold(t *testing.T) {
	var fields policy.Fields
	if fields.Add(policy.MaxField + 1); !fields.Empty() {
		t.Error("Fields took a number over MaxField")
	}
	if policy.AllFields().Has(cloakroom.SubjectField) || policy.AllFields().Has(cloakroom.AliasField) {
		t.Error("AllFields holds a number that no schema can declare")
	}
	for _, n := range []int{-1, 0, 64, 256} {
		if _, ok := policy.NewPurposes(1, n); ok {
			t.Errorf("NewPurposes took %d", n)
		}
		if policy.NewPurpose(n, policy.AllFields()) != policy.UnknownPurpose() {
			t.Errorf("NewPurpose(%d) is a purpose", n)
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	grant := renderer()
	request := policy.Request{Action: policy.Resolve, Fields: policy.NewFields(name, email)}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := policy.Decide(&grant, &request, 5); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Decide allocates %v times", allocs)
	}
}

func BenchmarkDecide(b *testing.B) {
	grant := renderer()
	request := policy.Request{Action: policy.Resolve, Fields: policy.NewFields(name, email)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Decide(&grant, &request, 5); err != nil {
			b.Fatal(err)
		}
	}
}
