//go:build !dumptest

package node

import "cloakroom/node/api"

// hooks is where builds with the tag dumptest keep what they leak on purpose.
//
//lint:ignore U1000 only those builds use it
type hooks struct{}

// service is what the front door asks.
func (n *Node) service() api.Service { return n }
