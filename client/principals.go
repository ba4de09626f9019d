package client

import (
	"context"
	"net/http"
)

// Grant is what a principal is called and may do, in the names of actions,
// fields, domains, forms and purposes.
type Grant struct {
	Name       string   `json:"name"`
	Actions    []string `json:"actions"`
	Fields     []string `json:"fields,omitempty"`
	AllFields  bool     `json:"all_fields,omitempty"` // later ones too
	Form       string   `json:"form,omitempty"`       // plain or masked
	Domains    []string `json:"domains,omitempty"`
	AllDomains bool     `json:"all_domains,omitempty"`
	Purposes   []string `json:"purposes,omitempty"` // none: no purpose need be named
	Issuers    []string `json:"issuers,omitempty"`
	AllIssuers bool     `json:"all_issuers,omitempty"`
	Expires    string   `json:"expires,omitempty"` // RFC 3339; asked for: also a duration, "720h"
}

// Principal is one that is there, or was.
type Principal struct {
	Grant
	State string `json:"state"` // live, suspended, expired or revoked
}

// Request is a principal that somebody asked for and nobody approved yet.
type Request struct {
	Principal Grant  `json:"principal"`
	Hash      string `json:"hash"`
	By        string `json:"by"`
	At        string `json:"at"`      // RFC 3339
	Expires   string `json:"expires"` // RFC 3339
}

// Asked is what became of a request: Token if the principal is there, otherwise
// Hash, by which somebody else approves it until Expires.
type Asked struct {
	Name    string
	Token   []byte
	Hash    string
	Expires string // RFC 3339
}

// asked is Asked on the wire.
type asked struct{ Name, Token, Hash, Expires string }

// CreatePrincipal asks for a principal.
func (c *Client) CreatePrincipal(ctx context.Context, grant Grant) (Asked, error) {
	var a asked
	err := c.change(ctx, "ask for principal", "/v1/sys/principals", grant, &a)
	return Asked{a.Name, []byte(a.Token), a.Hash, a.Expires}, err
}

// ApprovePrincipal approves a request that somebody else made, and returns the
// token of the principal. Nobody gets to see it again.
func (c *Client) ApprovePrincipal(ctx context.Context, name, hash string) (token []byte, err error) {
	var a asked
	err = c.change(ctx, "approve principal", principalPath(name, "/approve"), map[string]string{"hash": hash}, &a)
	return []byte(a.Token), err
}

// Principals lists the principals, revoked ones included.
func (c *Client) Principals(ctx context.Context) ([]Principal, error) {
	var list struct{ Principals []Principal }
	return list.Principals, c.ask(ctx, "list principals", "/v1/sys/principals", &list)
}

// Requests lists what waits to be approved.
func (c *Client) Requests(ctx context.Context) ([]Request, error) {
	var list struct{ Requests []Request }
	return list.Requests, c.ask(ctx, "list requests", "/v1/sys/requests", &list)
}

// SuspendPrincipal shuts a principal out. Like [Client.RevokePrincipal] it
// returns when no node lets it in any more, which takes half a minute where a
// node does not answer.
func (c *Client) SuspendPrincipal(ctx context.Context, name string) error {
	return c.takeAway(ctx, "suspend principal", principalPath(name, "/suspend"))
}

// ResumePrincipal lets a suspended principal in again.
func (c *Client) ResumePrincipal(ctx context.Context, name string) error {
	return c.takeAway(ctx, "resume principal", principalPath(name, "/resume"))
}

// RevokePrincipal ends a principal for good, or takes back the request for one.
func (c *Client) RevokePrincipal(ctx context.Context, name string) error {
	return c.takeAway(ctx, "revoke principal", principalPath(name, "/revoke"))
}

// takeAway sends a change that can be sent again: what is so already is waited
// for like a change.
func (c *Client) takeAway(ctx context.Context, verb, path string) error {
	_, err := c.do(ctx, &call{verb: verb, method: http.MethodPost, path: path, repeat: true})
	return err
}

func principalPath(name, rest string) string { return "/v1/sys/principals/" + name + rest }
