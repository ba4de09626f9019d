package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

// domains are the commands about the domains that pseudonyms belong to.
func (a *app) domains() *cobra.Command {
	c := &cobra.Command{
		Use:   "domains",
		Short: "List and make the domains that pseudonyms belong to",
		Long: `A domain is the set of people and systems that share one pseudonym for a subject:
two databases of different domains can't be joined on them. A grant names the
domains it covers.`,
	}
	c.AddCommand(a.domainsList(), a.domainsCreate())
	return c
}

func (a *app) domainsList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the domains", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withOperator(c.Context(), func(server *client.Client) error {
			list, err := server.Domains(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, map[string][]string{"domains": list})
			}
			for _, name := range list {
				fmt.Fprintln(a.out, printable(name))
			}
			return nil
		})
	}
	return a.jsonFlag(c)
}

const wantDomain = "want the name of the domain: lower-case letters, digits, '_', '-' and '.', a letter first"

func (a *app) domainsCreate() *cobra.Command {
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a domain; there is no way to remove one",
		Long:  `Create makes a domain. It takes the action schema-write, and there is no way to remove one.`,
		Args:  wantArgs(1, wantDomain),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if checkNodeName(args[0]) != nil {
			return usagef(wantDomain)
		}
		return a.withOperator(c.Context(), func(server *client.Client) error {
			if err := server.CreateDomain(c.Context(), args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.out, "%s is there\n", args[0])
			return err
		})
	}
	return c
}
