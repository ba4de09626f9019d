package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"cloakroom/client"
	"cloakroom/node"
)

func (a *app) status() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the node is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.showStatus(c.Context(), func(document json.RawMessage) error { return printJSON(a.out, document) }, overview)
		},
	}
	return a.jsonFlag(c)
}

// showStatus fetches the status document and prints it, whole as asJSON does or
// what rows makes of it.
func (a *app) showStatus(ctx context.Context, asJSON func(json.RawMessage) error, rows func([]byte) ([][]string, error)) error {
	server, err := a.operatorAt(ctx, a.statusAddr(ctx))
	if err != nil {
		return err
	}
	defer server.Close()
	document, err := server.Status(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return asJSON(document)
	}
	lines, err := rows(document)
	if err != nil {
		return errors.New("read status: not valid JSON")
	}
	return table(a.out, lines)
}

// statusAddr is the address that was named. Without one it is the operator
// listener of a node on this machine, or if none is there, its front door,
// where dev shows its status as well.
func (a *app) statusAddr(ctx context.Context) string {
	addr := a.operatorAddr()
	if addr != defaultOperator || a.addrGiven() {
		return addr
	}
	var stranger *client.FingerprintError
	err := shake(ctx, addr, client.Pin(addr, ""))
	if err == nil || errors.As(err, &stranger) {
		return addr
	}
	return defaultAddr
}

func (a *app) shards() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the shards: who leads, what is here, what can be lost",
		Long: `List shows every shard as the asked node sees it: the node that leads it, what
the replica here is (leader, follower, catching-up, absent, parked), how many
further nodes it can lose, and how many entries the replica here is behind.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.showStatus(c.Context(), a.printShards, shardRows)
		},
	}
	c := &cobra.Command{Use: "shards", Short: "Show how the shards are"}
	c.AddCommand(a.jsonFlag(list))
	return c
}

// printShards prints the part of a status document that is about the groups.
func (a *app) printShards(document json.RawMessage) error {
	var part struct {
		Directory json.RawMessage `json:"directory"`
		Shards    json.RawMessage `json:"shards"`
	}
	if json.Unmarshal(document, &part) != nil {
		return fmt.Errorf("read status: not valid JSON")
	}
	return printJSON(a.out, part)
}

func (a *app) schema() *cobra.Command {
	c := &cobra.Command{Use: "schema", Short: "Show or change the declared fields"}
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the declared fields and their rules",
		Long: `Show prints the declared fields. With --json it prints the document that
schema apply takes.`,
		Args: cobra.NoArgs,
		RunE: a.runSchemaShow,
	}
	apply := &cobra.Command{
		Use:   "apply FILE",
		Short: "Declare the fields anew, from a JSON document",
		Long: `Apply puts the schema in FILE (- for standard input) in force. Change what
schema show --json prints; a field that is left out is retired.`,
		Args: cobra.ExactArgs(1),
		RunE: a.runSchemaApply,
	}
	c.AddCommand(a.jsonFlag(show), a.jsonFlag(apply))
	return c
}

func (a *app) runSchemaShow(c *cobra.Command, _ []string) error {
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	document, err := server.SchemaJSON(c.Context())
	if err != nil {
		return err
	}
	return a.printSchema(document)
}

func (a *app) runSchemaApply(c *cobra.Command, args []string) error {
	document, err := a.input(args[0], "schema")
	if err != nil {
		return err
	}
	if !json.Valid(document) {
		return usagef("the schema is not valid JSON")
	}
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	document, err = server.SetSchema(c.Context(), document)
	if err != nil {
		return err
	}
	return a.printSchema(document)
}

func (a *app) printSchema(document json.RawMessage) error {
	if a.json {
		return printJSON(a.out, document)
	}
	var schema struct {
		Epoch  uint32
		Fields []struct {
			Number       int
			Name, Type   string
			Purposes     []string
			MaxRetention string `json:"max_retention"`
			Retired      bool
		}
	}
	if json.Unmarshal(document, &schema) != nil {
		return fmt.Errorf("read schema: the answer is not what the API promises: is this a Cloakroom server?")
	}
	rows := [][]string{{"number", "name", "type", "max retention", "purposes", ""}}
	for _, f := range schema.Fields {
		retired := ""
		if f.Retired {
			retired = "retired"
		}
		rows = append(rows, []string{fmt.Sprint(f.Number), f.Name, f.Type, f.MaxRetention, strings.Join(f.Purposes, ", "), retired})
	}
	fmt.Fprintf(a.out, "schema epoch %d\n", schema.Epoch)
	return table(a.out, rows)
}

func (a *app) version() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return printJSON(a.out, map[string]string{"version": node.Version(), "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(a.out, "cloakroom %s (%s)\n", node.Version(), runtime.Version())
			return err
		},
	}
	return a.jsonFlag(c)
}
