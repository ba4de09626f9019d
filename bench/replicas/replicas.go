// Package replicas measures the middle of the house without its front door:
// three nodes of package cluster in this process, over real TCP with mutual
// TLS, with sealed batches and real state, each client proposing one deposit
// after the other. [cloakroom/bench/bareraft] is what it is held to.
package replicas

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/cert"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/node/record"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
)

// Config says what to measure.
type Config struct {
	Nodes, Shards, Clients int
	RecordBytes            int // of the one sealed record in a deposit
	WarmUp, Round          time.Duration
}

// node is one node: its memory, its keys, its part of the cluster.
type node struct {
	name    string
	memory  *securemem.Memory
	keys    *keyring.Keyring
	records *record.Room
	gate    *gate
	cluster *cluster.Cluster
}

// Bench is a running cluster.
type Bench struct {
	cfg   Config
	id    directory.ID
	root  *x509.Certificate
	key   ed25519.PrivateKey
	nodes []*node
}

// Start brings up all nodes and waits until every shard tolerates what it can.
func Start(ctx context.Context, cfg Config) (*Bench, error) {
	b := &Bench{cfg: cfg}
	if _, err := rand.Read(b.id[:]); err != nil {
		return nil, err
	}
	if err := b.makeRoot(); err != nil {
		return nil, fmt.Errorf("replicas: make root certificate: %w", err)
	}
	for i := range cfg.Nodes {
		if err := b.startNode(ctx, fmt.Sprintf("n%d", i+1)); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	if err := b.awaitTolerance(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bench) makeRoot() (err error) {
	if _, b.key, err = ed25519.GenerateKey(nil); err != nil {
		return err
	}
	now := time.Now()
	der, err := cert.NewRoot(b.key, b.id, now.Add(-time.Hour), now.Add(24*time.Hour), rand.Reader)
	if err != nil {
		return err
	}
	b.root, err = x509.ParseCertificate(der)
	return err
}

// credentials returns the certificate of one node.
func (b *Bench) credentials(name string) (tls.Certificate, *x509.CertPool, error) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	der, err := cert.Issue(b.root, b.key, cert.Request{Node: name, Cluster: b.id, PublicKey: public,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(12 * time.Hour), Rand: rand.Reader})
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(b.root)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}

// startNode starts a node that joins the others, if there are any.
func (b *Bench) startNode(ctx context.Context, name string) error {
	n := &node{name: name}
	b.nodes = append(b.nodes, n)
	if err := b.start(ctx, n); err != nil {
		return fmt.Errorf("replicas: start node %s: %w", name, err)
	}
	return nil
}

func (b *Bench) start(ctx context.Context, n *node) (err error) {
	if n.memory, err = securemem.Open(securemem.Config{Lock: securemem.LockAuto, Limit: 2 << 30, Share: b.cfg.Nodes}); err != nil {
		return err
	}
	if err := b.openKeys(n); err != nil {
		return err
	}
	if n.records, err = record.New(record.Config{Keyring: n.keys, Memory: n.memory, Cluster: b.id}); err != nil {
		return err
	}
	if n.cluster, err = b.openCluster(ctx, n); err != nil {
		return err
	}
	return n.cluster.Start(ctx)
}

// openKeys makes the keyring, or hands the first node's over.
func (b *Bench) openKeys(n *node) (err error) {
	cfg := keyring.Config{Memory: n.memory, Cluster: b.id, NextSealingNumber: func() (cloakroom.SealingNumber, error) {
		return n.cluster.NextSealingNumber(context.Background())
	}}
	if first := b.nodes[0]; first != n {
		blob, err := first.keys.Encode()
		if err != nil {
			return err
		}
		defer blob.Destroy()
		blob.Use(func(text []byte) { n.keys, err = keyring.Decode(cfg, text) })
		return err
	}
	n.keys, err = keyring.New(cfg)
	return err
}

func (b *Bench) openCluster(ctx context.Context, n *node) (*cluster.Cluster, error) {
	certificate, roots, err := b.credentials(n.name)
	if err != nil {
		return nil, err
	}
	n.gate = newGate()
	network := &cluster.Network{Listen: "127.0.0.1:0", Certificate: certificate, Roots: roots, Carrier: n.gate}
	if first := b.nodes[0]; first != n {
		info, _ := first.cluster.Directory().Node(first.name)
		network.Seeds = []string{info.Address}
	}
	replication := 3
	if b.cfg.Nodes == 1 {
		network, replication = nil, 1
	}
	return cluster.New(ctx, cluster.Config{
		Node: n.name, ClusterID: b.id, Shards: b.cfg.Shards, Clock: wallClock{}, Uptime: uptime(), Rand: rand.Reader, Network: network,
		Settings: directory.Settings{Replication: replication, RecoveryMode: "none", LeaseMillis: 3000},
		Machine: func(id cloakroom.ShardID) (cluster.Machine, error) {
			return cluster.StateMachine(cluster.StateConfig{Slab: n.memory.Arena().NewSlab(fmt.Sprintf("shard %d", id))})
		},
		SealBatch: n.records.SealBatch, OpenBatch: n.records.OpenBatch,
		MapLog:   func(size int) ([]byte, error) { return n.memory.MapPlain("log", size) },
		UnmapLog: n.memory.UnmapPlain, LogBudget: 8 << 20, RecordMemory: n.memory.Arena().Free,
	})
}

// awaitTolerance waits until every shard goes on without as many replicas as
// the number of nodes allows.
func (b *Bench) awaitTolerance(ctx context.Context) error {
	want := (min(b.cfg.Nodes, 3) - 1) / 2
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		status, met := b.nodes[len(b.nodes)-1].cluster.Status(), true
		for i := range status.Shards {
			met = met && status.Shards[i].Tolerates >= want
		}
		if met && status.Ready {
			return nil
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return fmt.Errorf("replicas: the shards do not tolerate the loss of %d: %w", want, ctx.Err())
		}
	}
}

// Spread says which nodes the clients of a round call.
type Spread bool

// Where clients call.
const (
	First Spread = false // all at the first node, which leads
	Every Spread = true  // in turn at every node
)

// Round has every client deposit one new subject after the other and returns
// how many a second were acknowledged.
func (b *Bench) Round(ctx context.Context, where Spread) (float64, error) {
	if _, err := b.run(ctx, where, b.cfg.WarmUp); err != nil {
		return 0, err
	}
	return b.run(ctx, where, b.cfg.Round)
}

func (b *Bench) run(ctx context.Context, where Spread, d time.Duration) (float64, error) {
	var over atomic.Bool
	timer := time.AfterFunc(d, func() { over.Store(true) })
	defer timer.Stop()
	var done atomic.Int64
	var fault atomic.Pointer[error]
	var clients sync.WaitGroup
	start := time.Now()
	for c := range b.cfg.Clients {
		n := b.nodes[0]
		if where == Every {
			n = b.nodes[c%len(b.nodes)]
		}
		clients.Go(func() { // ends when the time is over
			cmd := []command.Command{{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Record: make([]byte, b.cfg.RecordBytes)}}}}
			for i := c; !over.Load(); i++ {
				draw(&cmd[0])
				err := n.deposit(ctx, cloakroom.ShardID(i%b.cfg.Shards), cmd)
				if errors.Is(err, cloakroom.ErrOutcomeUnknown) || errors.Is(err, cloakroom.ErrUnavailable) {
					continue // a lead was lost: it takes its time, and does not count
				}
				if err != nil {
					fault.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	clients.Wait()
	if err := fault.Load(); err != nil {
		return 0, fmt.Errorf("replicas: deposit: %w", *err)
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// deposit proposes one new subject; only one that was created counts.
func (n *node) deposit(ctx context.Context, shard cloakroom.ShardID, cmd []command.Command) error {
	results, _, err := n.cluster.Propose(ctx, shard, cmd)
	if err == nil && (len(results) != 1 || results[0].Code != command.Created) {
		err = fmt.Errorf("the shard answered %v", results)
	}
	return err
}

// draw gives a deposit a subject of its own.
func draw(c *command.Command) {
	for _, token := range []*cloakroom.Token{&c.Subject, &c.Fields[0].Token} {
		binary.BigEndian.PutUint64(token[:], mathrand.Uint64())
		binary.BigEndian.PutUint64(token[8:], mathrand.Uint64())
	}
	binary.BigEndian.PutUint64(c.Version[:], mathrand.Uint64())
}

// EntryBytes returns the length of one deposit as a command.
func (b *Bench) EntryBytes() int {
	c := command.Command{Kind: command.Put, SchemaEpoch: 1, Fields: []command.Field{{Record: make([]byte, b.cfg.RecordBytes)}}}
	return c.Size()
}

// Close stops every node and wipes its memory.
func (b *Bench) Close() error {
	var faults []error
	for i := len(b.nodes) - 1; i >= 0; i-- {
		faults = append(faults, b.nodes[i].close())
	}
	b.nodes = nil
	return errors.Join(faults...)
}

func (n *node) close() error {
	var faults []error
	if n.cluster != nil {
		faults = append(faults, n.cluster.Close())
	}
	if n.records != nil {
		n.records.Close()
	}
	if n.keys != nil {
		n.keys.Close()
	}
	if n.memory != nil {
		faults = append(faults, n.memory.Close())
	}
	return errors.Join(faults...)
}

// uptime counts from now; nobody puts this machine to sleep.
func uptime() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}

// wallClock is the clock of package cluster.
type wallClock struct{}

func (wallClock) Now() time.Time                         { return time.Now() }
func (wallClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
