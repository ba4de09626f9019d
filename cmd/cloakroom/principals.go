package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

// principals are the commands about who may do what.
func (a *app) principals() *cobra.Command {
	c := &cobra.Command{
		Use:   "principals",
		Short: "Say who may do what: ask for principals, approve, list and end them",
		Long: `A principal is somebody who may call: a service, an importer, a person. What it
may do is its grant. Whoever has the action access asks for principals; a grant
that leads to values, keys or rights takes effect once somebody else with that
action has approved it. In a cluster of a single person all take effect at once.`,
	}
	c.AddCommand(a.principalsCreate(), a.principalsApprove(), a.principalsList(), a.principalsRequests(),
		a.principalsEnd("suspend", "suspended", "Shut a principal out until it is resumed",
			`Suspend shuts a principal out. Its token is refused like an unknown one until
the principal is resumed.`, (*client.Client).SuspendPrincipal),
		a.principalsEnd("resume", "let in again", "Let a suspended principal in again",
			`Resume lets a suspended principal in again, with the token it has.`, (*client.Client).ResumePrincipal),
		a.principalsEnd("revoke", "revoked", "End a principal for good, or take back the request for one",
			`Revoke ends a principal for good; its name stays taken. What only waits to be
approved is taken back.`, (*client.Client).RevokePrincipal))
	return c
}

var errPrincipalName = errors.New("want the name of a principal: lower-case letters, digits, '_', '-' and '.', a letter first")

func checkPrincipalName(name string) error {
	if checkNodeName(name) != nil {
		return usage(errPrincipalName)
	}
	return nil
}

func (a *app) principalsCreate() *cobra.Command {
	var grant client.Grant
	var budgets []string
	var out string
	c := &cobra.Command{
		Use:   "create NAME --action ACTION",
		Short: "Ask for a principal, or make one",
		Long: `Create asks for a principal with that grant:

  cloakroom principals create renderer --action resolve --field display_name

If somebody else has to approve it, what to tell them is printed: the name and the
hash of the request. Otherwise the token goes to standard output, or with --out
into a file that only you can read. Nobody gets to see it again.

Actions: deposit, update, resolve, read, erase, events (subjects), schema-read,
schema-write, status, metrics, and the duties operate, access, custody and audit,
of which a principal has one at most, and none together with resolve or read.`,
		Args: wantArgs(1, errPrincipalName.Error()),
	}
	flags := c.Flags()
	flags.StringSliceVar(&grant.Actions, "action", nil, "what it may do; can be given several times")
	flags.StringSliceVar(&grant.Fields, "field", nil, "a field that it may read or write; several times")
	flags.BoolVar(&grant.AllFields, "all-fields", false, "all fields, also those declared later")
	flags.StringVar(&grant.Form, "form", "plain", "the fullest form in which it is shown values: plain or masked")
	flags.StringSliceVar(&grant.Domains, "domain", nil, "a domain whose subjects it may touch (default \"default\"); several times")
	flags.BoolVar(&grant.AllDomains, "all-domains", false, "all domains, also later ones")
	flags.StringSliceVar(&grant.Purposes, "purpose", nil, "a purpose, one of which it must name then; several times")
	flags.StringSliceVar(&grant.Issuers, "issuer", nil, "an issuer by whose names it may deposit people; several times")
	flags.BoolVar(&grant.AllIssuers, "all-issuers", false, "all issuers")
	flags.StringVar(&grant.Expires, "expires", "", "when it ends: a moment such as 2030-01-31T00:00:00Z, or a time from now such as 720h (default never)")
	flags.StringVar(&out, "out", "", "file to write the token to; it must not be there yet")
	flags.StringArrayVar(&budgets, "budget", nil, "not in this version")
	c.RunE = func(c *cobra.Command, args []string) error {
		grant.Name = args[0]
		switch err := checkPrincipalName(grant.Name); {
		case err != nil:
			return err
		case len(budgets) > 0:
			return usagef("--budget is not in this version: leave it out, and the principal may resolve without a limit")
		case len(grant.Actions) == 0:
			return usagef("name what it may do: --action resolve, for instance")
		}
		return a.withOperator(c.Context(), func(server *client.Client) error {
			asked, err := server.CreatePrincipal(c.Context(), grant)
			if err != nil {
				return err
			}
			return a.giveAsked(asked, out)
		})
	}
	return a.jsonFlag(c)
}

// withOperator runs a command with a client for the operator listener.
func (a *app) withOperator(ctx context.Context, run func(*client.Client) error) error {
	server, err := a.operator(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	return run(server)
}

// giveAsked says what became of a request.
func (a *app) giveAsked(asked client.Asked, out string) error {
	switch {
	case len(asked.Token) > 0:
		return a.givePrincipalToken(asked.Name, asked.Token, out)
	case a.json:
		return printJSON(a.out, map[string]string{"name": asked.Name, "hash": asked.Hash, "expires": asked.Expires})
	}
	_, err := fmt.Fprintf(a.out, "%s waits for somebody else with the action access, until %s:\n\n  cloakroom principals approve %s %s\n",
		printable(asked.Name), printable(asked.Expires), printable(asked.Name), printable(asked.Hash))
	return err
}

// givePrincipalToken prints a token or writes it to a file.
func (a *app) givePrincipalToken(name string, token []byte, out string) error {
	defer clear(token)
	if out == "" {
		if a.json {
			return printJSON(a.out, map[string]string{"name": name, "token": string(token)})
		}
		_, err := fmt.Fprintln(a.out, string(token))
		return err
	}
	if err := writeNew(out, token); err != nil {
		return fmt.Errorf("write token: %w (it is lost: `principals revoke %s`, and ask for another name)", err, name)
	}
	if a.json {
		return printJSON(a.out, map[string]string{"name": name, "file": out})
	}
	_, err := fmt.Fprintf(a.out, "%s: the token of %s\n", out, printable(name))
	return err
}

func (a *app) principalsApprove() *cobra.Command {
	const want = "want the name of the principal and the hash of its request, as `principals requests` shows it"
	var out string
	c := &cobra.Command{
		Use:   "approve NAME HASH",
		Short: "Approve a principal that somebody else asked for",
		Long: `Approve puts a request into force that somebody else made, and prints the token
of the principal, or with --out writes it into a file that only you can read.
Nobody gets to see it again.

Look at the request first, with principals requests: the hash is of all that
stands there, so another request of the same name is not approved with it. Nobody
approves what he asked for.`,
		Args: wantArgs(2, want),
	}
	c.Flags().StringVar(&out, "out", "", "file to write the token to; it must not be there yet")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkPrincipalName(args[0]); err != nil {
			return err
		}
		if !isRequestHash(args[1]) {
			return usagef(want)
		}
		return a.withOperator(c.Context(), func(server *client.Client) error {
			token, err := server.ApprovePrincipal(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.givePrincipalToken(args[0], token, out)
		})
	}
	return a.jsonFlag(c)
}

// isRequestHash reports whether text is sha256: and 64 hex digits.
func isRequestHash(text string) bool {
	digits, ok := strings.CutPrefix(text, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

func (a *app) principalsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the principals and what they may do",
		Long:  `List shows all principals, those that were revoked too. It takes the action access or audit.`,
		Args:  cobra.NoArgs,
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withOperator(c.Context(), func(server *client.Client) error {
			list, err := server.Principals(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, map[string][]client.Principal{"principals": list})
			}
			rows := [][]string{{"principal", "state", "actions", "fields", "form", "domains", "purposes", "expires"}}
			for i := range list {
				rows = append(rows, append([]string{list[i].Name, list[i].State}, grantCells(&list[i].Grant)...))
			}
			return table(a.out, rows)
		})
	}
	return a.jsonFlag(c)
}

func (a *app) principalsRequests() *cobra.Command {
	c := &cobra.Command{
		Use:   "requests",
		Short: "List what waits to be approved",
		Args:  cobra.NoArgs,
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withOperator(c.Context(), func(server *client.Client) error {
			list, err := server.Requests(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, map[string][]client.Request{"requests": list})
			}
			rows := [][]string{{"principal", "asked by", "actions", "fields", "form", "domains", "purposes", "expires", "hash"}}
			for i := range list {
				q := &list[i]
				rows = append(rows, append(append([]string{q.Principal.Name, q.By}, grantCells(&q.Principal)...), q.Hash))
			}
			return table(a.out, rows)
		})
	}
	return a.jsonFlag(c)
}

// grantCells shows a grant in the cells of a table.
func grantCells(g *client.Grant) []string {
	all := func(list []string, every bool) string {
		if every {
			return "all"
		}
		return strings.Join(list, ",")
	}
	return []string{strings.Join(g.Actions, ","), all(g.Fields, g.AllFields), g.Form, all(g.Domains, g.AllDomains),
		strings.Join(g.Purposes, ","), g.Expires}
}

// everywhere is how long a right that is taken away may take until no node
// grants it any more: a node that does not answer is waited for.
const everywhere = 75 * time.Second

// principalsEnd is a command that changes the state of a principal.
func (a *app) principalsEnd(verb, done, short, long string, run func(*client.Client, context.Context, string) error) *cobra.Command {
	c := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long: long + `

It ends when that holds on every node. A node that does not answer is waited for,
for half a minute at most: then it lets nobody in any more by what it knew.`,
		Args: wantArgs(1, errPrincipalName.Error()),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkPrincipalName(args[0]); err != nil {
			return err
		}
		if !c.Flags().Changed("timeout") {
			a.timeout = everywhere
		}
		return a.withOperator(c.Context(), func(server *client.Client) error {
			if isTerminal(a.err) {
				defer time.AfterFunc(2*time.Second, func() {
					fmt.Fprintln(a.err, "Waiting until it holds on every node; one that does not answer is waited for, for half a minute at most.")
				}).Stop()
			}
			if err := run(server, c.Context(), args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.out, "%s is %s\n", args[0], done)
			return err
		})
	}
	return c
}
