package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) joinToken() *cobra.Command {
	var ttl time.Duration
	var count int
	var out string
	create := &cobra.Command{
		Use:   "create",
		Short: "Make tokens with which nodes join the cluster",
		Long: `Create makes a token with which one node can join, once, until it expires. It
carries the addresses of the cluster and the fingerprint of its authority. Bring
it to the new machine by a way that nobody else can read:

  cloakroom node run --config n2.yaml --join-token-file join.token

Tokens go to standard output, one a line, or with --out into files that only you
can read: NAME for one, NAME.1, NAME.2 and so on for several.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			server, err := a.operator(c.Context())
			if err != nil {
				return err
			}
			defer server.Close()
			tokens, err := server.CreateJoinTokens(c.Context(), ttl, count)
			if err != nil {
				return err
			}
			return a.giveTokens(tokens, out, ttl)
		},
	}
	flags := create.Flags()
	flags.DurationVar(&ttl, "ttl", time.Hour, "after how long a token expires, from 1m to 168h")
	flags.IntVar(&count, "count", 1, "how many, one for each node")
	flags.StringVar(&out, "out", "", "file to write the token to; it must not be there yet")
	c := &cobra.Command{Use: "join-token", Short: "Make tokens with which nodes join a cluster"}
	c.AddCommand(a.jsonFlag(create))
	return c
}

// giveTokens prints tokens or writes them to files.
func (a *app) giveTokens(tokens [][]byte, out string, ttl time.Duration) error {
	if out == "" {
		if a.json {
			return printJSON(a.out, map[string][]string{"tokens": tokenTexts(tokens)})
		}
		_, err := fmt.Fprintln(a.out, strings.Join(tokenTexts(tokens), "\n"))
		return err
	}
	var names []string
	for i, token := range tokens {
		name := out
		if len(tokens) > 1 {
			name = fmt.Sprintf("%s.%d", out, i+1)
		}
		if err := writeNew(name, token); err != nil {
			return fmt.Errorf("write join token: %w (the token is void without it: make another, or name another file)", err)
		}
		names = append(names, name)
	}
	if a.json {
		return printJSON(a.out, map[string][]string{"files": names})
	}
	fmt.Fprintf(a.out, "%s: good for one node each, for %s\n", strings.Join(names, ", "), ttl)
	return nil
}

func tokenTexts(list [][]byte) []string {
	out := make([]string, len(list))
	for i, text := range list {
		out[i] = string(text)
	}
	return out
}

// writeNew writes a file that only its owner can read, and that was not there.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
