//go:build dumptest

package main

import (
	"os"

	"github.com/spf13/cobra"

	"cloakroom/node"
)

// devHooks let the dump test learn the keys of a dev node through two
// inherited pipes, and break its promise on purpose. They exist in builds with
// the tag dumptest only.
type devHooks struct {
	keys bool
	leak string
}

func (h *devHooks) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.BoolVar(&h.keys, dumpTestKeys, false, "answer each line on descriptor 3 with all keys, inverted, on 4")
	flags.StringVar(&h.leak, dumpTestLeak, "", "leak names or keys")
}

func (h *devHooks) apply(n *node.Node) error {
	if h.keys {
		go n.TellKeys(os.NewFile(3, "ask"), os.NewFile(4, "tell")) // ends with the pipe
	}
	return n.LeakForTest(h.leak)
}
