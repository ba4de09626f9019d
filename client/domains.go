package client

import "context"

// Domains lists the domains that pseudonyms belong to, "default" first.
func (c *Client) Domains(ctx context.Context) ([]string, error) {
	var list struct{ Domains []string }
	return list.Domains, c.ask(ctx, "list domains", "/v1/sys/domains", &list)
}

// CreateDomain makes a domain. There is no way to remove one.
func (c *Client) CreateDomain(ctx context.Context, name string) error {
	return c.change(ctx, "create domain", "/v1/sys/domains", map[string]string{"name": name}, nil)
}
