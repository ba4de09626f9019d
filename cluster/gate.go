package cluster

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"cloakroom"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/peer"
	"cloakroom/cluster/wire"
)

// Peer is who is at the other end of a connection.
type Peer = peer.Peer

// Knock is what somebody without a certificate asks a cluster with.
type Knock = peer.Knock

// ErrPin means that whoever answered a [Knock] is of another cluster.
var ErrPin = peer.ErrPin

// Gate is how others get in at this node: it answers those that are not
// members, or not yet in this life. What is nil is refused.
type Gate struct {
	// Welcome answers who has no certificate yet; see [peer.Config].
	Welcome func(ctx context.Context, from string, request []byte) (reply []byte)
	// Keys and Renew answer the methods of these names. The caller has a
	// certificate of the cluster, and the key that is registered for its node.
	Keys, Renew func(ctx context.Context, from Peer, request []byte) (reply []byte, err error)
	// Pin returns the digest of a node's TLS key as this node remembers it. It
	// counts only while the directory is not here.
	Pin func(node string) (key [32]byte, ok bool)
	// Prove returns what nobody without the keys can make for a life of a node.
	// A life is registered only with it: otherwise one that was refused the keys
	// could register, be heard, and ask for them as one that ended just now.
	Prove func(node, life string) [32]byte
}

var errNoProof = fmt.Errorf("a node is registered once it has the keys: %w", cloakroom.ErrDenied)

// check holds a request to be registered to the proof in it.
func (g *Gate) check(req *wire.JoinRequest) error {
	if g.Prove == nil {
		return nil
	}
	want := g.Prove(req.Node, req.Life)
	if subtle.ConstantTimeCompare(want[:], req.Proof[:]) != 1 {
		return errNoProof
	}
	return nil
}

// guests are the methods that are open to who is not a member in this life,
// and late those that are when a certificate is past its end.
func guests() []uint8 {
	return []uint8{uint8(wire.Join), uint8(wire.Ping), uint8(wire.Keys), uint8(wire.Renew)}
}

func late() []uint8 { return []uint8{uint8(wire.Ping), uint8(wire.Keys), uint8(wire.Renew)} }

// errNoGate refuses what this node does not do for others.
var errNoGate = fmt.Errorf("nobody gets in at this node: %w", cloakroom.ErrDenied)

// atGate hands a request to what answers it.
func atGate(ctx context.Context, answer func(context.Context, Peer, []byte) ([]byte, error), from Peer, body []byte) ([]byte, error) {
	if answer == nil {
		return nil, errNoGate
	}
	return answer(ctx, from, body)
}

// pin returns the TLS key that a node is registered with.
func (n *network) pin(node string) (key [32]byte, ok bool) {
	view := n.c.known()
	if view.Epoch == 0 {
		if remembered := n.c.cfg.Network.Gate.Pin; remembered != nil {
			return remembered(node)
		}
		return key, false
	}
	info, _ := view.Node(node)
	return info.Key, info.Key != directory.Digest{}
}

// Trust replaces the certificate of this node and the roots it trusts, for
// connections that begin from now on.
func (c *Cluster) Trust(certificate tls.Certificate, roots *x509.CertPool) error {
	return c.net.Trust(certificate, roots)
}

// Addr returns where others dial this node, "" if it is alone.
func (c *Cluster) Addr() string {
	if c.net == nil {
		return ""
	}
	return c.net.Addr()
}

// AskAt asks whoever is at an address, as one who need not be a member, and
// says who that is. Where a certificate is past its end it is asked once more
// in the way in which that is allowed, for the methods that are.
func (c *Cluster) AskAt(ctx context.Context, addr string, method wire.Method, request []byte) ([]byte, Peer, error) {
	c.net.calls.count(method)
	reply, who, err := c.net.CallAt(ctx, addr, uint8(method), request)
	if errors.Is(err, peer.ErrTLS) {
		var again error
		if reply, who, again = c.net.CallLate(ctx, addr, uint8(method), request); again != nil {
			return nil, who, errors.Join(err, again)
		}
		return reply, who, nil
	}
	return reply, who, err
}

// Reach dials an address and returns who answers there.
func (c *Cluster) Reach(ctx context.Context, addr string) (Peer, error) {
	body, who, err := c.AskAt(ctx, addr, wire.Ping, (&wire.PingRequest{}).Append(nil))
	if err != nil {
		return who, err
	}
	var reply wire.PingReply
	if err := reply.Decode(body); err != nil {
		return who, err
	}
	if reply.Node != who.Node || reply.Life != who.Life {
		return who, fmt.Errorf("%s does not know who it is: %w", addr, cloakroom.ErrMalformed)
	}
	return who, nil
}

// met notes that a life of a node has just proven itself here.
func (c *Cluster) met(node, life string) {
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.nodes[node]; v == nil || v.life != life {
		p.nodes[node] = &vitals{life: life, tick: c.ticked.Load()}
	}
}

// SilentFor returns for how long nothing was heard of a life of a node, by the
// ticks of this one, a second or two too long. false: it was never heard here.
func (c *Cluster) SilentFor(node, life string) (time.Duration, bool) {
	p := &c.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.nodes[node]
	if v == nil || v.life != life {
		return 0, false
	}
	return time.Duration(c.ticked.Load()-v.tick+1) * time.Second, true
}
