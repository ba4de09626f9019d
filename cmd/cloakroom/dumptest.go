//go:build dumptest

package main

import (
	"bufio"
	"io"
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

// apply breaks a node before it serves anybody.
func (h *devHooks) apply(n *node.Node) error { return n.LeakForTest(h.leak) }

// watch answers every line on descriptor 3 with the keys of all nodes that are
// alive and the line "end", on descriptor 4.
func (h *devHooks) watch(f *fleet) {
	if h.keys {
		go tellKeys(f, os.NewFile(3, "ask"), os.NewFile(4, "tell")) // ends with the pipe
	}
}

func tellKeys(f *fleet, in io.Reader, out io.Writer) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		for _, n := range f.living() {
			if n.TellKeys(out) != nil {
				return
			}
		}
		if _, err := io.WriteString(out, "end\n"); err != nil {
			return
		}
	}
}
