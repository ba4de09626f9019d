//go:build !dumptest

package node

import "cloakroom/node/api"

// hooks is where builds with the tag dumptest keep what they leak on purpose.
type hooks struct{}

// service is what the front door asks.
func (n *Node) service() api.Service { return n }
