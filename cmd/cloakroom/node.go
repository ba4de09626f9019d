package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cloakroom/cmd/cloakroom/nodefile"
)

// node are the commands that work on the configuration and the folder of a
// node on this machine.
func (a *app) node() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Make and run a node on this machine"}
	c.AddCommand(a.nodeInit(), a.nodeRun(), a.checkConfig())
	return c
}

// configFlag gives a command --config.
func configFlag(c *cobra.Command, path *string) *cobra.Command {
	c.Flags().StringVar(path, "config", "", "configuration file of the node")
	return c
}

// readConfig reads the file that --config names.
func readConfig(path string) (*nodefile.File, error) {
	if path == "" {
		return nil, usagef("name the configuration file: --config FILE")
	}
	file, err := nodefile.Read(path)
	var faults nodefile.Faults
	if errors.As(err, &faults) {
		return nil, usage(err)
	}
	return file, err
}

func (a *app) checkConfig() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Check a configuration file and do nothing else",
		Long: `Check-config lists everything that is wrong with a configuration file, with the
lines. It opens no port and touches no folder.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file, err := readConfig(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s is fine: node %s, data in %s\n", printable(path), file.Node.Name, printable(file.Node.Data))
			return nil
		},
	}
	return configFlag(c, &path)
}
