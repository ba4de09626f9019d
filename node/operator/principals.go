package operator

import (
	"context"
)

// Rights changes who may do what. caller is the name of the principal that
// asks, which the directory looks at once more when it carries the change out.
type Rights interface {
	// Ask asks for a principal. It is there at once, with its token, where
	// nobody else has to approve it.
	Ask(ctx context.Context, caller string, want Grant) (Asked, error)
	// Approve puts a request into force, that with this hash, and returns the
	// token of the principal.
	Approve(ctx context.Context, caller, name, hash string) (token string, err error)
	// Suspend shuts a principal out, or with resume lets it in again. It returns
	// when no node goes by what was before.
	Suspend(ctx context.Context, caller, name string, resume bool) error
	// Revoke ends a principal for good, or takes back the request for one. It
	// returns when no node goes by what was before.
	Revoke(ctx context.Context, caller, name string) error
}

// Roll is who may do what, and who is to.
type Roll interface {
	Principals(ctx context.Context) ([]Principal, error)
	Requests(ctx context.Context) ([]Request, error)
}

// Grant is what somebody is to be called and to be allowed, in the names of
// actions, fields, domains, forms and purposes.
type Grant struct {
	Name       string   `json:"name"`
	Actions    []string `json:"actions"`
	Fields     []string `json:"fields,omitempty"`
	AllFields  bool     `json:"all_fields,omitempty"` // later ones too
	Form       string   `json:"form,omitempty"`       // plain, the default, or masked
	Domains    []string `json:"domains,omitempty"`    // default: "default"
	AllDomains bool     `json:"all_domains,omitempty"`
	Purposes   []string `json:"purposes,omitempty"` // none: no purpose need be named
	Issuers    []string `json:"issuers,omitempty"`
	AllIssuers bool     `json:"all_issuers,omitempty"`
	Expires    string   `json:"expires,omitempty"` // RFC 3339; asked for: also a duration, "720h"
}

// Asked is what became of a request: Token if the principal is there, otherwise
// Hash and Until.
type Asked struct {
	Name    string `json:"name"`
	Token   string `json:"token,omitempty"`
	Hash    string `json:"hash,omitempty"`    // of the request, to be approved
	Expires string `json:"expires,omitempty"` // of the request, RFC 3339
}

// Principal is one that is there, or was.
type Principal struct {
	Grant
	State string `json:"state"` // live, suspended, expired or revoked
}

// Request is one that waits to be approved.
type Request struct {
	Principal Grant  `json:"principal"`
	Hash      string `json:"hash"`
	By        string `json:"by"`
	At        string `json:"at"`      // RFC 3339
	Expires   string `json:"expires"` // RFC 3339
}

var rightsRoutes = [...]route{
	{method: "POST", path: "/v1/sys/principals", name: "ask-principal", any: []Action{Access}, change: true, body: true, serve: (*exchange).ask},
	// The directory decides when one with the action custody stands in.
	{method: "POST", path: "/v1/sys/principals/{name}/approve", name: "approve-principal", any: []Action{Access, Custody}, change: true, body: true, serve: (*exchange).approve},
	{method: "POST", path: "/v1/sys/principals/{name}/suspend", name: "suspend-principal", any: []Action{Access}, change: true, serve: (*exchange).suspend},
	{method: "POST", path: "/v1/sys/principals/{name}/resume", name: "resume-principal", any: []Action{Access}, change: true, serve: (*exchange).resume},
	{method: "POST", path: "/v1/sys/principals/{name}/revoke", name: "revoke-principal", any: []Action{Access}, change: true, serve: (*exchange).revoke},
}

var rollRoutes = [...]route{
	{method: "GET", path: "/v1/sys/principals", name: "list-principals", any: []Action{Access, Audit}, serve: (*exchange).principals},
	{method: "GET", path: "/v1/sys/requests", name: "list-requests", any: []Action{Access, Custody, Audit}, serve: (*exchange).requests},
}

func (x *exchange) ask() (any, error) {
	var want Grant
	if err := x.decode(&want); err != nil {
		return nil, err
	}
	if !validName(want.Name) {
		return nil, malformed("name is 1 to 64 lower-case letters, digits, '_', '-' and '.', a letter first")
	}
	x.call.Target = want.Name
	return answerOf(x.server.cfg.Rights.Ask(x.ctx, x.call.Caller, want))
}

func (x *exchange) approve() (any, error) {
	var body struct {
		Hash string `json:"hash"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if body.Hash == "" {
		return nil, malformed("hash is missing: it is that of the request, as the list of requests shows it")
	}
	token, err := x.server.cfg.Rights.Approve(x.ctx, x.call.Caller, x.name, body.Hash)
	return answerOf(Asked{Name: x.name, Token: token}, err)
}

func (x *exchange) suspend() (any, error) {
	return nil, x.server.cfg.Rights.Suspend(x.ctx, x.call.Caller, x.name, false)
}

func (x *exchange) resume() (any, error) {
	return nil, x.server.cfg.Rights.Suspend(x.ctx, x.call.Caller, x.name, true)
}

func (x *exchange) revoke() (any, error) {
	return nil, x.server.cfg.Rights.Revoke(x.ctx, x.call.Caller, x.name)
}

func (x *exchange) principals() (any, error) {
	list, err := x.server.cfg.Roll.Principals(x.ctx)
	if list == nil {
		list = []Principal{}
	}
	return answerOf(map[string][]Principal{"principals": list}, err)
}

func (x *exchange) requests() (any, error) {
	list, err := x.server.cfg.Roll.Requests(x.ctx)
	if list == nil {
		list = []Request{}
	}
	return answerOf(map[string][]Request{"requests": list}, err)
}

// answerOf is value, or nothing with an error.
func answerOf[T any](value T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}
