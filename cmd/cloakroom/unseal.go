package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cloakroom/client"
)

func (a *app) unseal() *cobra.Command {
	var shareFile string
	c := &cobra.Command{
		Use:   "unseal",
		Short: "Bring a node its keys with a share, after all of the cluster stood still",
		Long: `Unseal gives one share to a sealed node, from standard input or --share-file. When
enough custodians have done so the node opens its keyring and starts; the other
nodes of the cluster get the keys from it. Shares given are forgotten after 15
minutes, so the custodians meet, or call one after the other.

  age -d -i key.txt custodian-1.share.age | cloakroom unseal --addr n1.example.org:8201

It takes no token: a sealed node knows no caller.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			share, err := a.input(shareFile, "share")
			if err != nil {
				return err
			}
			defer clear(share)
			text := bytes.TrimSpace(share)
			if len(text) == 0 || len(text) > 200 || bytes.ContainsFunc(text, notOfAShare) {
				return usage(errors.New("that is no share: give one share, a line that begins with cloakroom-share-1"))
			}
			server, err := a.operator(c.Context())
			if err != nil {
				return err
			}
			status, err := server.Unseal(c.Context(), text)
			if err != nil {
				return err
			}
			return a.printUnseal(status)
		},
	}
	c.Flags().StringVar(&shareFile, "share-file", "", "file with the share; standard input if not given")
	return a.jsonFlag(c)
}

// notOfAShare says which characters no share has.
func notOfAShare(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }

func (a *app) printUnseal(s client.UnsealStatus) error {
	switch {
	case a.json:
		return printJSON(a.out, s)
	case !s.Sealed:
		fmt.Fprintln(a.out, "Unsealed: the node is starting. The other nodes get the keys from it.")
	default:
		fmt.Fprintf(a.out, "Share %d of %d taken. %d more: within %s, or these are forgotten.\n",
			s.Given, s.Needed, s.Needed-s.Given, time.Duration(s.LapsesSec)*time.Second)
	}
	return nil
}
