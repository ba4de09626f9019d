package directory

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"cloakroom"
)

// Action is one thing a grant allows.
type Action string

// The actions.
const (
	Deposit     Action = "deposit"      // create or replace a subject
	Update      Action = "update"       // change some fields of a subject
	Resolve     Action = "resolve"      // turn many pseudonyms into values
	Read        Action = "read"         // get one subject
	Erase       Action = "erase"        // remove a subject for good
	SchemaRead  Action = "schema-read"  // see the declared fields
	SchemaWrite Action = "schema-write" // declare fields
	Status      Action = "status"       // see how the node is
	Metrics     Action = "metrics"      // scrape the metrics
	Events      Action = "events"       // be told which subjects change
	Access      Action = "access"       // make and revoke principals
	Operate     Action = "operate"      // snapshots, nodes, seal
	Custody     Action = "custody"      // let a node have the keys
	Audit       Action = "audit"        // see what others did and may do
)

// Actions lists every action there is.
func Actions() []Action {
	return []Action{Deposit, Update, Resolve, Read, Erase, SchemaRead, SchemaWrite,
		Status, Metrics, Events, Access, Operate, Custody, Audit}
}

// Form is how much of a value a grant shows at most.
type Form string

// The forms, from most to least.
const (
	FormPlain  Form = "plain"
	FormMasked Form = "masked"
	// FormPresent, only whether there is a value, is reserved.
	FormPresent Form = "present"
)

const (
	// MaxPrincipals bounds the principals of a cluster, revoked ones included.
	MaxPrincipals = 10_000
	// MaxDomains bounds the domains of a cluster.
	MaxDomains = 1024
	// MaxPurposes bounds the distinct purposes that a schema or a grant names.
	MaxPurposes = 63
	// MaxIssuers bounds the issuers that one grant names.
	MaxIssuers = 64
	// MaxIssuerBytes bounds the name of an issuer, mostly a URL.
	MaxIssuerBytes = cloakroom.MaxIssuerBytes
)

// Principal is somebody who may call.
type Principal struct {
	Name       string `json:"name"`
	Credential Digest `json:"credential"` // HMAC of the bearer token, never the token
	Grant      Grant  `json:"grant"`
	Suspended  bool   `json:"suspended,omitempty"` // until it is resumed
	Revoked    bool   `json:"revoked,omitempty"`   // for good
}

// Live reports whether the principal may call, its expiry apart.
func (p *Principal) Live() bool { return !p.Revoked && !p.Suspended }

// Grant is what a principal may do.
type Grant struct {
	Actions    []Action                `json:"actions"`               // sorted
	Fields     []cloakroom.FieldNumber `json:"fields,omitempty"`      // sorted
	AllFields  bool                    `json:"all_fields,omitempty"`  // later ones too; for dev and custodians of the schema
	Form       Form                    `json:"form"`                  // the most that is shown
	Domains    []cloakroom.Domain      `json:"domains,omitempty"`     // sorted
	AllDomains bool                    `json:"all_domains,omitempty"` // later ones too
	Purposes   []string                `json:"purposes,omitempty"`    // sorted; none: no purpose need be named
	Issuers    []string                `json:"issuers,omitempty"`     // sorted; whose subjects it may name by source
	AllIssuers bool                    `json:"all_issuers,omitempty"` // later ones too
	Expires    int64                   `json:"expires,omitempty"`     // unix seconds; 0: never
}

// normal returns g with its lists sorted and without duplicates.
func (g Grant) normal() Grant {
	g.Actions, g.Fields = sortedSet(g.Actions), sortedSet(g.Fields)
	g.Domains, g.Purposes = sortedSet(g.Domains), sortedSet(g.Purposes)
	g.Issuers = sortedSet(g.Issuers)
	return g
}

// fault returns what is wrong with p in view v, or "".
func (p *Principal) fault(v *View) string {
	g := &p.Grant
	switch {
	case !validName(p.Name):
		return "the name must be lower-case letters, digits, '_', '-' and '.', a letter first"
	case p.Credential == Digest{}:
		return "the credential is empty"
	case !p.Live():
		return "a principal is put live; suspend or revoke it by command"
	case len(g.Actions) == 0:
		return "the grant has no action"
	case g.Form != FormPlain && g.Form != FormMasked:
		return "the form must be plain or masked"
	case g.Expires < 0:
		return "the expiry is negative"
	case len(g.Purposes) > MaxPurposes || !allValid(g.Purposes):
		return "malformed list of purposes"
	case len(g.Issuers) > MaxIssuers || slices.ContainsFunc(g.Issuers, func(name string) bool { return !ValidIssuer(name) }):
		return "malformed list of issuers"
	}
	for _, a := range g.Actions {
		if !slices.Contains(Actions(), a) {
			return "unknown action"
		}
	}
	for _, f := range g.Fields {
		if v.Schema.Number(f) == nil {
			return "the grant names a field that was never declared"
		}
	}
	for _, d := range g.Domains {
		if int(d) >= len(v.Domains) {
			return "the grant names an unknown domain"
		}
	}
	return ""
}

// ValidName reports whether name can be that of a domain, field, purpose or
// principal.
func ValidName(name string) bool { return validName(name) }

// validName reports whether name is 1 to 64 of a-z 0-9 _ - . with a letter first.
func validName(name string) bool {
	if len(name) == 0 || len(name) > cloakroom.MaxNameBytes || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// ValidIssuer reports whether name can be the name of an issuer: 1 to
// [MaxIssuerBytes] bytes of UTF-8 without control characters.
func ValidIssuer(name string) bool {
	return len(name) > 0 && len(name) <= MaxIssuerBytes && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, unicode.IsControl)
}

func allValid(names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !validName(n) })
}

// sortedSet returns list sorted and without duplicates, nil if it is empty.
func sortedSet[T interface {
	~string | ~uint16
}](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	set := slices.Clone(list)
	slices.Sort(set)
	return slices.Compact(set)
}
