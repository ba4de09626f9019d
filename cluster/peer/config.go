package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"cloakroom/cluster/cert"
)

// Peer is who is at the other end. Node was proven by a certificate; Life is
// what that node says, and Admitted that Config.Admit agreed with both.
type Peer struct {
	Node, Life string
	Admitted   bool
	Boot       uint64 // of its folder, as it says; 0: it has none
	// Key is the digest of its TLS key, as [KeyOf] makes it.
	Key [32]byte
	// Bound is the same at both ends of this connection and nowhere else: a TLS
	// exporter.
	Bound [32]byte
}

// Config is what a port is made from.
type Config struct {
	Cluster [16]byte
	Node    string // as in the certificate
	Life    string // 32 hex digits, new at every start
	Boot    uint64 // number of this start of the node's folder; 0: it has none

	// Certificate of this node, from the cluster's CA, and behind it the root if
	// there is a Welcome. Port.Trust replaces it, and Roots, the cluster's CA.
	Certificate tls.Certificate
	Roots       *x509.CertPool

	Listen    string           // host:port
	Advertise string           // what others dial; default: what Listen came to
	Carrier   Carrier          // default: TCP
	Now       func() time.Time // wall clock, for certificates
	Logger    *slog.Logger     // default: none

	// Resolve says where a registered node is and which life of it is
	// registered. It is asked at every Call, so it must be quick.
	Resolve func(node string) (addr, life string, ok bool)
	// Admit says why a caller may not come in; nil if it is registered with
	// that life. A certificate alone proves nothing: nodes get removed.
	Admit func(node, life string) error
	// Handle answers a call. ctx ends with the caller's deadline or the
	// connection. body is valid until Handle returns. An error that wraps one
	// of the sentinels ErrUnavailable, ErrOverloaded, ErrMalformed,
	// ErrDenied or ErrStarting of the root package promises that nothing was
	// done, and the caller gets that sentinel; any other reaches the caller as
	// an unknown outcome.
	Handle func(ctx context.Context, from Peer, method uint8, body []byte) ([]byte, error)
	// Gossip takes a connection that another node opened to gossip by, and owns
	// it: it may keep it after it has returned. The port cuts it when the node
	// is a member no more, and when the port is closed; reads and writes fail
	// then. nil: this node does not gossip.
	Gossip func(conn net.Conn, from Peer)
	// Guests are the methods open to a caller that is not admitted (join).
	Guests []uint8
	// Pin returns the digest of the TLS key that a node is registered with. Its
	// certificate must have that key, on whichever side it is. nil, or not ok:
	// any key.
	Pin func(node string) (key [32]byte, ok bool)
	// LateMethods are the methods open to a guest whose certificate is past its
	// end, if it has the key that Pin returns.
	LateMethods []uint8
	// Welcome answers whoever has no certificate yet: request and reply are at
	// most MaxKnock bytes. It must expect anything, from anybody; maxStrangers
	// are answered at a time. ctx ends with the connection, or when the time is
	// over. nil: strangers are turned away.
	Welcome func(ctx context.Context, from string, request []byte) (reply []byte)

	// Handshake bounds dialling, TLS and our own handshake together; default 2 s.
	Handshake time.Duration
	// Stall is how long a write may stand still, and how long a peer that owes
	// an answer may be silent, before its connection is cut; default 3 s.
	Stall time.Duration

	bodies, backlog int // default maxBodies, maxBacklog; tests have less
}

const (
	defaultHandshake = 2 * time.Second
	defaultStall     = 3 * time.Second
)

// check fills defaults and reports every fault.
func (c *Config) check() error {
	if c.Carrier == nil {
		c.Carrier = TCP()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Handshake == 0 {
		c.Handshake = defaultHandshake
	}
	if c.backlog == 0 {
		c.backlog = maxBacklog
	}
	if c.bodies == 0 {
		c.bodies = maxBodies
	}
	if c.Stall == 0 {
		c.Stall = defaultStall
	}
	faults := []error{cert.CheckNode(c.Node), checkLife(c.Life)}
	for _, field := range [...]struct {
		missing bool
		fault   string
	}{
		{c.Listen == "", "no address to listen on"},
		{c.Roots == nil, "no roots"},
		{c.Now == nil, "no clock"},
		{c.Resolve == nil || c.Admit == nil || c.Handle == nil, "Resolve, Admit and Handle must be set"},
		{c.Handshake < 0 || c.Stall < 0, "negative time limit"},
	} {
		if field.missing {
			faults = append(faults, errors.New(field.fault))
		}
	}
	return errors.Join(append(faults, c.checkCertificate(&c.Certificate))...)
}

// checkCertificate says at once, and not at the first refused connection, that
// the certificate is another's.
func (c *Config) checkCertificate(certificate *tls.Certificate) error {
	if len(certificate.Certificate) == 0 {
		return errors.New("no certificate")
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	certificate.Leaf = leaf
	node, err := cert.NodeOf(leaf, c.Cluster)
	if err == nil && node != c.Node {
		err = fmt.Errorf("certificate: names node %q, this is %q", node, c.Node)
	}
	return err
}

func checkLife(life string) error {
	if raw, err := hex.DecodeString(life); err != nil || len(raw) != 16 || life != hex.EncodeToString(raw) {
		return errors.New("life: want 32 lower-case hex digits")
	}
	return nil
}

// StreamConfig is what the stream layer of one raft replica is made from.
type StreamConfig struct {
	Group, Generation uint32
	Replica           string // its raft server ID
	Address           string // its virtual address, what Addr returns
	// Locate finds a replica of the group by its virtual address.
	Locate func(virtualAddr string) (node, addr, replica string, ok bool)
	// Admit says why a replica that says it lives on that node may not come in.
	// It decides alone: the node may have a life that nobody has heard of yet.
	// nil: every replica of a node that Config.Admit lets in.
	Admit func(from Peer, replica string) error
	// Meet says why the node on which a replica was found may not be dealt
	// with. nil: it may.
	Meet func(at Peer) error
}

// virtual is the address of a replica.
type virtual string

func (virtual) Network() string  { return "cloakroom-raft" }
func (v virtual) String() string { return string(v) }

var _ net.Addr = virtual("")
