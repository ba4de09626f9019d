package operator

import (
	"context"
)

// The actions of grants that calls about domains ask for beside those above.
const (
	SchemaRead  Action = "schema-read"
	SchemaWrite Action = "schema-write"
)

// Domains is about the domains that pseudonyms belong to. There is no way to
// remove one.
type Domains interface {
	Domains(ctx context.Context) ([]string, error)
	CreateDomain(ctx context.Context, name string) error
}

var domainRoutes = [...]route{
	{method: "GET", path: "/v1/sys/domains", name: "list-domains", any: []Action{SchemaRead, SchemaWrite, Access, Audit}, serve: (*exchange).domains},
	{method: "POST", path: "/v1/sys/domains", name: "create-domain", any: []Action{SchemaWrite}, change: true, body: true, serve: (*exchange).createDomain},
}

func (x *exchange) domains() (any, error) {
	list, err := x.server.cfg.Domains.Domains(x.ctx)
	return answerOf(map[string][]string{"domains": list}, err)
}

func (x *exchange) createDomain() (any, error) {
	var body struct {
		Name string `json:"name"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if !validName(body.Name) {
		return nil, malformed("name is 1 to 64 lower-case letters, digits, '_', '-' and '.', a letter first")
	}
	x.call.Target = body.Name
	err := x.server.cfg.Domains.CreateDomain(x.ctx, body.Name)
	return answerOf(map[string]string{"name": body.Name}, err)
}
