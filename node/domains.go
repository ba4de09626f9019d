package node

import (
	"context"

	"cloakroom/cluster/directory"
)

// Domains lists the domains by number: "default" first.
func (r rights) Domains(context.Context) ([]string, error) {
	if err := r.up(); err != nil {
		return nil, err
	}
	view := r.cluster.Directory()
	names := make([]string, len(view.Domains))
	for i, d := range view.Domains {
		names[i] = d.Name
	}
	return names, nil
}

// CreateDomain makes a domain. Grants of all domains cover it at once, others
// never do. It stays.
func (r rights) CreateDomain(ctx context.Context, name string) error {
	return r.direct(ctx, &directory.Command{PutDomain: &directory.PutDomain{Name: name}})
}
