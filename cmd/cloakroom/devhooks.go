//go:build !dumptest

package main

import (
	"github.com/spf13/cobra"

	"cloakroom/node"
)

// devHooks are what builds for the dump test add to dev: nothing here.
type devHooks struct{}

func (devHooks) flags(*cobra.Command)   {}
func (devHooks) apply(*node.Node) error { return nil }
func (devHooks) watch(*fleet)           {}
