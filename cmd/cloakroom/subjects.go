package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cloakroom"
	"cloakroom/client"
)

func (a *app) deposit() *cobra.Command {
	var s client.Subject
	var from sourceFlags
	var id string
	var each map[string]string
	c := &cobra.Command{
		Use:   "deposit [FILE]",
		Short: "Deposit one subject and print its pseudonym",
		Long: `Deposit reads the fields of one subject from FILE or standard input, as a JSON
object, and prints the pseudonym:

  echo '{"display_name":"Ada Lovelace"}' | cloakroom deposit

With --id the subject is created or replaced under that pseudonym. With --issuer
it is the one whom an identity provider calls by the name in --subject-file: found
and replaced, or created. --subject gives the name itself, which every user of
this machine can then see. Each --domain has a pseudonym of its own for a person.

With --json
the answer has an index, which get and resolve take as --after to see this
deposit on whichever node they ask.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && strings.ContainsAny(args[0], "={") {
				return fmt.Errorf("values on the command line can be seen by every user of this machine: give them as JSON on standard input")
			}
			return cobra.MaximumNArgs(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if id != "" {
				parsed, err := cloakroom.ParsePseudonym([]byte(id))
				if err != nil {
					return usagef("--id: %w", err)
				}
				s.ID = parsed
			}
			var err error
			if s.FieldTTL, err = fieldTTLs(each); err != nil {
				return err
			}
			source, err := from.source(id != "")
			if err != nil {
				return err
			}
			return a.runDeposit(c, args, source, s)
		},
	}
	from.add(c)
	c.Flags().StringVar(&id, "id", "", "pseudonym to create or replace; without it the server draws one")
	c.Flags().StringVar(&s.Domain, "domain", "", "pseudonymisation domain")
	c.Flags().DurationVar(&s.TTL, "ttl", 0, "how long the values are kept, as in 8760h")
	c.Flags().StringToStringVar(&each, "field-ttl", nil, "how long single fields are kept, as in email=24h,phone=48h")
	return a.jsonFlag(c)
}

// fieldTTLs reads the durations of --field-ttl.
func fieldTTLs(texts map[string]string) (map[string]time.Duration, error) {
	ttls := make(map[string]time.Duration, len(texts))
	for field, text := range texts {
		ttl, err := time.ParseDuration(text)
		if err != nil {
			return nil, usagef("--field-ttl: the time of %q is not a duration such as 24h", field)
		}
		ttls[field] = ttl
	}
	return ttls, nil
}

func (a *app) runDeposit(c *cobra.Command, args []string, source *client.Source, s client.Subject) error {
	path := ""
	if len(args) > 0 {
		path = args[0]
	}
	text, err := a.input(path, "fields")
	if err != nil {
		return err
	}
	if json.Unmarshal(text, &s.Fields) != nil || len(s.Fields) == 0 {
		return usagef("the fields are not a JSON object such as {\"display_name\":\"…\"}")
	}
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	write := server.Deposit
	switch {
	case source != nil:
		write = func(ctx context.Context, s client.Subject) (client.Deposited, error) {
			return server.Upsert(ctx, *source, s)
		}
	case s.ID != (cloakroom.Pseudonym{}):
		write = server.Put
	}
	done, err := write(c.Context(), s)
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.out, map[string]any{"id": done.ID.String(), "version": done.Version, "created": done.Created, "index": done.Index})
	}
	_, err = fmt.Fprintln(a.out, done.ID)
	return err
}

// queryFlags gives a command the flags of a read.
func queryFlags(c *cobra.Command, q *client.Query) {
	c.Flags().StringSliceVar(&q.Fields, "field", nil, "field to read; may be given several times")
	c.Flags().StringVar(&q.Purpose, "purpose", "", "what the values are for")
	c.Flags().StringVar(&q.After, "after", "", "index of a deposit that must be seen, as deposit --json prints it")
	c.Flags().BoolFunc("linearizable", "confirm with a majority that nothing newer exists", func(string) error {
		q.Level = cloakroom.Linearizable
		return nil
	})
}

// ids reads pseudonyms from the arguments, or one a line from standard input
// if there are none or the only one is "-".
func (a *app) ids(args []string) ([]cloakroom.Pseudonym, error) {
	if len(args) == 0 || len(args) == 1 && args[0] == "-" {
		text, err := a.input("-", "ids")
		if err != nil {
			return nil, err
		}
		args = strings.Fields(string(text))
	}
	if len(args) == 0 {
		return nil, usagef("no id given")
	}
	ids := make([]cloakroom.Pseudonym, len(args))
	for i, arg := range args {
		var err error
		if ids[i], err = cloakroom.ParsePseudonym([]byte(arg)); err != nil {
			return nil, usagef("id number %d: %w", i+1, err)
		}
	}
	return ids, nil
}

func (a *app) resolve() *cobra.Command {
	var q client.Query
	c := &cobra.Command{
		Use:   "resolve --field FIELD [ID…]",
		Short: "Turn pseudonyms into values",
		Long: `Resolve prints the values of the named fields for each pseudonym, given as
arguments or one a line on standard input. Pseudonyms that are not known are
listed on standard error.`,
		RunE: func(c *cobra.Command, args []string) error { return a.runResolve(c, args, q) },
	}
	queryFlags(c, &q)
	c.Flags().StringVar(&q.Form, "form", "", "\"masked\" for masked values")
	return a.jsonFlag(c)
}

func (a *app) runResolve(c *cobra.Command, args []string, q client.Query) error {
	if len(q.Fields) == 0 {
		return usagef("name the fields to read, as in --field display_name")
	}
	ids, err := a.ids(args)
	if err != nil {
		return err
	}
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	got, err := server.Resolve(c.Context(), ids, q)
	if err != nil {
		return err
	}
	if a.json {
		err = printJSON(a.out, resolvedJSON(got))
	} else {
		err = table(a.out, resolvedTable(ids, got, q.Fields))
		if n := len(got.Missing); n > 0 {
			fmt.Fprintf(a.err, "%d of %d ids are not known.\n", n, len(ids))
		}
	}
	if err == nil && len(got.Unavailable) > 0 {
		return fmt.Errorf("%d of %d ids: %w", len(got.Unavailable), len(ids), cloakroom.ErrUnavailable)
	}
	return err
}

func resolvedJSON(got *client.Resolved) map[string]any {
	subjects := make(map[string]client.Fields, len(got.Subjects))
	for id, fields := range got.Subjects {
		subjects[id.String()] = fields
	}
	return map[string]any{"subjects": subjects, "missing": texts(got.Missing), "unavailable": texts(got.Unavailable)}
}

func texts(ids []cloakroom.Pseudonym) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}

// resolvedTable lists the subjects in the order they were asked for.
func resolvedTable(ids []cloakroom.Pseudonym, got *client.Resolved, fields []string) [][]string {
	rows := [][]string{append([]string{"id"}, fields...)}
	for _, id := range ids {
		values, ok := got.Subjects[id]
		if !ok {
			continue
		}
		row := []string{id.String()}
		for _, field := range fields {
			row = append(row, values[field].Text())
		}
		rows = append(rows, row)
	}
	return rows
}

func (a *app) get() *cobra.Command {
	var q client.Query
	c := &cobra.Command{
		Use:   "get ID",
		Short: "Print one subject",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := a.ids(args)
			if err != nil {
				return err
			}
			if len(ids) != 1 {
				return usagef("want one id")
			}
			server, err := a.client()
			if err != nil {
				return err
			}
			defer server.Close()
			found, err := server.Get(c.Context(), ids[0], q)
			if err != nil {
				return err
			}
			return a.printFound(found)
		},
	}
	queryFlags(c, &q)
	return a.jsonFlag(c)
}

func (a *app) printFound(found client.Found) error {
	if a.json {
		return printJSON(a.out, map[string]any{"id": found.ID.String(), "version": found.Version, "fields": found.Fields})
	}
	rows := [][]string{{"id", found.ID.String()}, {"version", found.Version}}
	for name, value := range found.Fields {
		rows = append(rows, []string{name, value.Text()})
	}
	slices.SortFunc(rows[2:], func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return table(a.out, rows)
}

func (a *app) erase() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "erase [ID…]",
		Short: "Erase subjects for good and print the receipts",
		Long: `Erase removes every value of the subjects for good and prints one receipt a line,
as JSON. Ids are given as arguments or one a line on standard input. In front of
a terminal it asks first, unless --yes is given.`,
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := a.ids(args)
			if err != nil {
				return err
			}
			if !yes && !a.confirm(len(ids)) {
				return fmt.Errorf("nothing was erased")
			}
			return a.runErase(c, ids)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirm asks whoever sits in front of the terminal, if anybody does.
func (a *app) confirm(n int) bool {
	if !isTerminal(a.in) || !isTerminal(a.err) {
		return true
	}
	fmt.Fprintf(a.err, "Erase %d subject(s) for good? Type yes: ", n)
	var answer string
	fmt.Fscanln(a.in, &answer)
	return answer == "yes"
}

// runErase erases one after the other and goes on after a failure.
func (a *app) runErase(c *cobra.Command, ids []cloakroom.Pseudonym) error {
	server, err := a.client()
	if err != nil {
		return err
	}
	defer server.Close()
	var failed error
	count := 0
	began := time.Now()
	for i, id := range ids {
		receipt, err := server.Erase(c.Context(), id)
		if err != nil {
			count++
			if failed == nil {
				failed = fmt.Errorf("id number %d: %w", i+1, err)
			}
			if c.Context().Err() != nil {
				break
			}
			continue
		}
		fmt.Fprintf(a.out, "%s\n", bytes.TrimSpace(receipt))
	}
	if len(ids) > 1 {
		fmt.Fprintf(a.err, "%d erased, %d failed, in %v.\n", len(ids)-count, count, time.Since(began).Round(time.Millisecond))
	}
	return failed
}
