package node

import (
	"fmt"
	"net"

	"cloakroom/cluster"
)

// Network is where a node meets the others of its cluster.
type Network struct {
	Listen    string // host:port of the cluster port; port 0: any free one
	Advertise string // what others dial; default: what Listen came to
	Zone      string // what fails together with this node; may be empty
	API       string // host:port of the front door as callers reach it; may be empty
}

// reachable returns the address under which others are to find this node,
// before the port is open.
func (c *Network) reachable() (string, error) {
	address := c.Advertise
	if address == "" {
		address = c.Listen
	}
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("cluster.advertise is missing: others cannot dial %q; name the host and port at which they reach this node", address)
	}
	return address, nil
}

// network makes what package cluster needs to meet the others: those beside
// this node are where it asks to be taken in.
func (n *Node) network() (*cluster.Network, error) {
	if err := n.openPapers(); err != nil {
		return nil, err
	}
	own, roots, err := n.papers.current()
	if err != nil {
		return nil, err
	}
	conf := &cluster.Network{
		Listen: n.cfg.Network.Listen, Advertise: n.cfg.Network.Advertise, Zone: n.cfg.Network.Zone,
		Certificate: own, Roots: roots, Gossip: true,
		Gate: cluster.Gate{Welcome: n.welcome, Keys: n.giveKeys, Renew: n.serveRenew, Pin: n.pinned, Prove: n.proveKeys},
		API:  n.cfg.Network.API,
	}
	if n.folder != nil {
		conf.Boot = n.folder.Node().Boot
		conf.Seeds = n.folder.Node().Peers // none: it founds its cluster, or was alone in it
	}
	for _, other := range n.cfg.Beside {
		conf.Seeds = append(conf.Seeds, other.ClusterAddr())
	}
	return conf, nil
}

// Name returns the name of the node, the same in all its lives.
func (n *Node) Name() string { return n.cfg.Name }

// Life returns 32 hexadecimal digits, new at every start.
func (n *Node) Life() string { return n.cluster.Life() }

// ClusterAddr returns where other nodes reach this one, "" if it is alone.
func (n *Node) ClusterAddr() string {
	info, _ := n.cluster.Directory().Node(n.cfg.Name)
	return info.Address
}
