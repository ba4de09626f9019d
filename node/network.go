package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/directory"
)

// Network is where a node meets the others of its cluster.
type Network struct {
	Listen    string // host:port of the cluster port; port 0: any free one
	Advertise string // what others dial; default: what Listen came to
	Zone      string // what fails together with this node; may be empty
}

// network makes what package cluster needs to meet the others: those beside
// this node are where it asks to be taken in.
func (n *Node) network(id directory.ID) (*cluster.Network, error) {
	own, roots, err := n.certify(id)
	if err != nil {
		return nil, err
	}
	conf := &cluster.Network{
		Listen: n.cfg.Network.Listen, Advertise: n.cfg.Network.Advertise, Zone: n.cfg.Network.Zone,
		Certificate: own, Roots: roots,
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

const (
	certBefore = time.Hour // clocks of nodes may differ
	certAfter  = 365 * 24 * time.Hour
	rootAfter  = 2 * certAfter // no certificate outlives its root
)

// certify makes the root certificate of the cluster and one for this node. The
// root is signed anew by each node: what others trust in it is the cluster CA
// key, which every node has. The node's own key is made here, lies on the heap
// like any TLS key, and dies with the node.
func (n *Node) certify(id directory.ID) (own tls.Certificate, roots *x509.CertPool, err error) {
	now := n.now()
	from, until := now.Add(-certBefore), now.Add(certAfter)
	ca := n.keys.CA()
	der, err := cert.NewRoot(ca, id, from, now.Add(rootAfter), n.random)
	if err != nil {
		return own, nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return own, nil, fmt.Errorf("read root certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), n.random)
	if err != nil {
		return own, nil, fmt.Errorf("make TLS key: %w", err)
	}
	der, err = cert.Issue(root, ca, cert.Request{
		Node: n.cfg.Name, Cluster: id, PublicKey: key.Public(),
		NotBefore: from, NotAfter: until, Rand: n.random,
	})
	if err != nil {
		return own, nil, err
	}
	roots = x509.NewCertPool()
	roots.AddCert(root)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}
