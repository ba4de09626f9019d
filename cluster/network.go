package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster/confirm"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/gossip"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/replica"
	"cloakroom/cluster/wire"
)

// Network is a node's place among others.
type Network struct {
	Listen    string   // host:port of the cluster port
	Advertise string   // what others dial; default: what Listen came to
	Zone      string   // what fails together with this node; may be empty
	Seeds     []string // addresses of nodes to join; none: found a new cluster

	Certificate tls.Certificate // of this node
	Roots       *x509.CertPool  // the cluster's CA
	Carrier     peer.Carrier    // default: TCP

	// Gossip has nodes tell each other whom they hear: hints, and nothing
	// depends on them. Simulations leave it out.
	Gossip bool
	Gate   Gate // how others get in here

	API  string // host:port of the node's front door, for lists; may be empty
	Boot uint64 // of the node's folder, Disk's if there is one; 0: it has none, and a TLS key for this life only
}

// check returns the faults of a network.
func (n *Network) check() []error {
	var faults []error
	if n.Listen == "" {
		faults = append(faults, errors.New("cluster: Network.Listen is missing"))
	}
	if len(n.Certificate.Certificate) == 0 || n.Roots == nil {
		faults = append(faults, errors.New("cluster: Network.Certificate and Network.Roots are needed"))
	}
	return faults
}

// self returns what a node says of itself when it founds a cluster.
func (n *Network) self(node directory.NodeInfo, addr string) (directory.NodeInfo, error) {
	node.Address, node.Zone, node.API, node.Boot = addr, n.Zone, n.API, n.Boot
	if n.Boot == 0 {
		return node, nil
	}
	leaf, err := x509.ParseCertificate(n.Certificate.Certificate[0])
	if err != nil {
		return node, fmt.Errorf("read certificate: %w", err)
	}
	node.Key = directory.Digest(peer.KeyOf(leaf))
	return node, nil
}

// network is the cluster port and who is behind which name.
type network struct {
	*peer.Port
	c      *Cluster
	gossip *gossip.Gossip // nil: none
	book   atomic.Pointer[book]

	calls calls
}

// book is who the voters of the directory are, as another node told it. It
// serves where the directory itself can't yet: before the first view, and for
// a replica that has lost sight of its leader. Once this node's own view has
// come as far the book is closed: it would know lives that are over.
type book struct {
	epoch   uint64 // of the view it was taken from
	members []wire.Member
}

// newer returns who is in the book, as long as it is newer than the view.
func (n *network) newer(view *directory.View) []wire.Member {
	if b := n.book.Load(); b.epoch > view.Epoch {
		return b.members
	}
	return nil
}

// whois returns what a newer book says of a node.
func (n *network) whois(view *directory.View, node string) (m wire.Member, there bool) {
	for _, m := range n.newer(view) {
		if m.Node == node {
			return m, true
		}
	}
	return m, false
}

// openNetwork opens the port. Calls are answered from now on.
func (c *Cluster) openNetwork() error {
	n := &network{c: c}
	n.book.Store(&book{})
	rounds, err := confirm.New(confirm.Config{Ask: c.askToConfirm, Led: c.led, Here: c.inTerm, Now: c.cfg.Clock.Now})
	if err != nil {
		return err
	}
	conf := c.cfg.Network
	at := peer.Config{
		Cluster: [16]byte(c.cfg.ClusterID), Node: c.cfg.Node, Life: c.life, Boot: c.boot(),
		Certificate: conf.Certificate, Roots: conf.Roots,
		Listen: conf.Listen, Advertise: conf.Advertise, Carrier: conf.Carrier,
		Now: c.cfg.Clock.Now, Logger: c.cfg.Logger,
		Resolve: n.resolve, Admit: n.admit, Handle: c.handle,
		Guests: guests(), LateMethods: late(), Pin: n.pin, Welcome: conf.Gate.Welcome,
	}
	if conf.Gossip {
		err = n.newGossip(&at)
	}
	if err == nil {
		n.Port, err = peer.Open(at)
	}
	if err != nil {
		rounds.Close()
		return fmt.Errorf("open cluster port: %w", err)
	}
	c.net, c.rounds = n, rounds
	close(c.open)
	return nil
}

// errStranger refuses a node that the directory does not know with that life.
var errStranger = fmt.Errorf("not a node of this cluster: %w", cloakroom.ErrDenied)

// resolve says where a node is, and which of its lives.
func (n *network) resolve(node string) (addr, life string, ok bool) {
	if m, there := n.whois(n.c.Directory(), node); there {
		return m.NodeAddress, m.Life, true
	}
	info, there := n.c.known().Node(node)
	return info.Address, info.Life, there && info.Seated()
}

// admit says why a caller is not a node of the cluster.
func (n *network) admit(node, life string) error {
	if _, now, there := n.resolve(node); there && now == life {
		return nil
	}
	return errStranger
}

// errUnlisted refuses a replica that the directory does not know there.
var errUnlisted = fmt.Errorf("not a replica of the group on that node: %w", cloakroom.ErrDenied)

// admitReplica says why a replica may not speak for a group: it must be one of
// the group's, on its node's disk or of the life in which its node is.
func (n *network) admitReplica(g directory.GroupID, from peer.Peer, id string) error {
	node := from.Node
	if err := n.admit(node, from.Life); err != nil {
		if g != directory.DirectoryGroup {
			return err
		}
		return n.returning(from, id)
	}
	view := n.c.Directory()
	if m, there := n.whois(view, node); there && g == directory.DirectoryGroup && m.ID == id {
		return nil
	}
	_, life, _ := n.resolve(node)
	if group, r, there := n.c.known().Replica(id); there && group == g && r.Node == node && (r.Durable || r.Life == life) {
		return nil
	}
	if n.c.cfg.hazards.anybody {
		return nil
	}
	return errUnlisted
}

// locate finds a replica of a group by its virtual address. One of a life
// that is over is nowhere.
func (n *network) locate(g directory.GroupID, addr string) (node, at, id string, ok bool) {
	view := n.c.Directory()
	if g == directory.DirectoryGroup {
		for _, m := range n.newer(view) {
			if m.Address == addr {
				return m.Node, m.NodeAddress, m.ID, true
			}
		}
	}
	if group, r, there := n.c.known().ReplicaAt(addr); there {
		at, life, known := n.resolve(r.Node)
		if n.c.cfg.hazards.anybody {
			id, known = instead(view, g, &r)
			return r.Node, at, id, known && group == g
		}
		return r.Node, at, r.ID, known && group == g && (r.Durable || life == r.Life)
	}
	return "", "", "", false
}

// stream opens the stream layer of a replica.
func (n *network) stream(g *group, self replica.Identity) (*peer.Stream, error) {
	return n.Stream(peer.StreamConfig{
		Group: uint32(g.id), Generation: g.generation.Load(), Replica: self.ID, Address: self.Addr,
		Locate: func(addr string) (node, at, id string, ok bool) { return n.locate(g.id, addr) },
		Admit:  func(from peer.Peer, id string) error { return n.admitReplica(g.id, from, id) },
		Meet:   n.meet,
	})
}

// ask calls a node and decodes its answer.
func (n *network) ask(ctx context.Context, node string, method wire.Method, request []byte, reply interface{ Decode([]byte) error }) error {
	n.calls.count(method)
	body, err := n.Call(ctx, node, uint8(method), request)
	if err == nil {
		if err = reply.Decode(body); err != nil {
			err = fmt.Errorf("%w: bad answer: %v", cloakroom.ErrOutcomeUnknown, err)
		}
	}
	if err != nil {
		return fmt.Errorf("ask %s to %s: %w", node, method, err)
	}
	return nil
}

// elsewhere turns an error after which nothing was done into errMoved, so that
// another node is asked.
func elsewhere(err error) error {
	if errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		return err
	}
	for _, nothingDone := range []error{cloakroom.ErrUnavailable, cloakroom.ErrStarting, cloakroom.ErrDenied} {
		if errors.Is(err, nothingDone) {
			return fmt.Errorf("%w: %w", errMoved, err)
		}
	}
	return err
}

// nodeOf returns the node on which a replica lives, "" if unknown.
func (c *Cluster) nodeOf(id string) string {
	if _, r, there := c.Directory().Replica(id); there {
		return r.Node
	}
	if c.net != nil {
		for _, m := range c.net.newer(c.Directory()) {
			if m.ID == id {
				return m.Node
			}
		}
	}
	return ""
}

// margin is what an answer gets to travel back before the asker's deadline.
const margin = 10 * time.Millisecond

// early is ctx with a deadline a little before its own: an answer that comes
// too late is an unknown outcome, one that says "not in time" is not.
func early(ctx context.Context) (context.Context, context.CancelFunc) {
	at, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, at.Add(-margin))
}
