package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloakroom"
	"cloakroom/cluster"
	"cloakroom/cluster/directory"
	"cloakroom/node/api"
	"cloakroom/node/audit"
	"cloakroom/node/events"
	"cloakroom/node/folder"
	"cloakroom/node/operator"
	"cloakroom/node/record"
	"cloakroom/securemem"
	"cloakroom/securemem/keyring"
	"cloakroom/snapshot"
)

// Node is one running node.
type Node struct {
	installed atomic.Uint64 // snapshots of others that were opened and verified

	cfg    Config
	id     directory.ID // of the cluster; with a folder, zero until the node has joined
	now    func() time.Time
	random io.Reader

	progress
	keySource
	papers papers
	gate   gate

	// From the strongroom to the front door, the order in which they start;
	// Close goes the other way.
	folder  *folder.Folder // nil: nothing is on disk
	founds  *foundation    // of the cluster that this start founds; nil: none
	memory  *securemem.Memory
	keys    *keyring.Keyring
	records *record.Room
	audit   *audit.Log
	feed    *events.Feed
	cluster *cluster.Cluster
	sweeper *sweeper
	poller  *poller
	server  *api.Server
	side    *operator.Server // nil: operators come through the front door only

	credentials *credentials
	requests    requestMetrics
	registry    *prometheus.Registry
	rules       atomic.Pointer[rules]
	reads       reads
	grace       grace // of what has expired
	scrub       scrub // for fields that have
	ready       atomic.Bool
	giving      sync.RWMutex // held while keys are handed over, or wiped
	shut        atomic.Bool
	served      chan error // what Serve of the front door returned

	//lint:ignore U1000 only builds with that tag use it
	hooks // of the dump test; empty in every other build
}

// New is [Open] and [Node.Run] in one: it builds a node without a folder, that
// founds a cluster or joins that of the nodes beside it, and waits until every
// shard answers. [Node.Serve] opens the front door.
func New(ctx context.Context, cfg Config) (*Node, error) {
	n, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := n.Run(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) openMemory() (err error) {
	if n.memory, err = securemem.Open(n.cfg.Memory); err != nil || n.folder == nil {
		return err // without a folder it hardens itself when all is there
	}
	return n.harden()
}

// openKeys makes the keys of a new cluster, or takes them over from a node
// beside this one.
func (n *Node) openKeys(ctx context.Context) error {
	keys, err := n.takeKeys(ctx, n.id)
	if err != nil {
		return err
	}
	return n.useKeys(keys, false)
}

// useKeys makes what seals and opens with keys, which n owns from then on.
// byPeople: custodians brought them.
func (n *Node) useKeys(keys *keyring.Keyring, byPeople bool) (err error) {
	n.keys = keys
	if n.records, err = record.New(record.Config{Keyring: n.keys, Memory: n.memory, Cluster: n.id}); err != nil {
		return err
	}
	if n.credentials, err = newCredentials(); err != nil {
		return err
	}
	if err := n.prove(); err != nil {
		return err
	}
	n.hasKeys(byPeople)
	return nil
}

func (n *Node) openAudit() (err error) {
	if err := n.openAuditFile(); err != nil {
		return err
	}
	n.audit, err = audit.New(n.cfg.Audit)
	return err
}

// nextSealing takes a sealing number from the directory.
func (n *Node) nextSealing() (cloakroom.SealingNumber, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sealingWait)
	defer cancel()
	return n.cluster.NextSealingNumber(ctx)
}

// sealingWait is how long a seal may wait for the directory.
const sealingWait = 5 * time.Second

// openCluster opens the cluster port. Shards need keys, keys take numbers from
// the directory, and the directory's log on disk is sealed with keys.
func (n *Node) openCluster(context.Context) (err error) {
	arena := n.memory.Arena()
	if n.feed, err = n.newFeed(); err != nil {
		return err
	}
	cfg := cluster.Config{
		Node: n.cfg.Name, ClusterID: n.id, Shards: n.cfg.Shards,
		Clock: wallClock{n.now}, Uptime: n.cfg.Uptime, Rand: n.random, Logger: n.cfg.Logger,
		Machine: func(shard cloakroom.ShardID) (cluster.Machine, error) {
			return cluster.StateMachine(cluster.StateConfig{
				Slab: arena.NewSlab(fmt.Sprintf("shard %d", shard)), Watch: &watcher{feed: n.feed, shard: shard}})
		},
		Changes:   n.changes,
		SealBatch: n.sealBatch, OpenBatch: n.openBatch,
		SealDirectory: n.sealDirectory, OpenDirectory: n.openDirectory,
		Refounded:    n.recordRefounding,
		SealSnapshot: n.sealSnapshot, OpenSnapshot: n.openSnapshot, SnapshotSize: snapshot.Size,
		MapLog:    func(size int) ([]byte, error) { return n.memory.MapPlain("log", size) },
		UnmapLog:  n.memory.UnmapPlain,
		LogBudget: n.cfg.LogBudget, RecordMemory: arena.Free, Installs: n.cfg.Installs,
	}
	cfg.Settings = directory.Settings{Replication: 1, RecoveryMode: "none", LeaseMillis: leaseMillis, SinglePerson: !n.cfg.Approvals}
	if n.cfg.Network != nil {
		cfg.Settings.Replication = replication
		if n.founds != nil {
			cfg.Settings, cfg.Shards = n.founds.Settings, n.founds.Shards
		}
		if cfg.Network, err = n.network(); err != nil {
			return err
		}
	}
	if n.folder != nil {
		cfg.Disk = n.disk()
	}
	if n.cluster, err = cluster.Open(cfg); err != nil {
		return err
	}
	if cfg.Network != nil {
		n.running.Go(n.tendPapers) // ends with n.ctx
	}
	return nil
}

// sealBatch and openBatch come into use when the keys are there, after the port.
func (n *Node) sealBatch(dst []byte, group, generation uint32, batch []byte) ([]byte, error) {
	return n.records.SealBatch(dst, group, generation, batch)
}

func (n *Node) openBatch(dst []byte, group, generation uint32, sealed []byte) ([]byte, error) {
	return n.records.OpenBatch(dst, group, generation, sealed)
}

// replication is on how many nodes a shard is, where there are as many.
const replication = 3

// wallClock is the clock of package cluster.
type wallClock struct{ now func() time.Time }

func (c wallClock) Now() time.Time { return c.now() }

// After sends what the clock shows then.
func (c wallClock) After(d time.Duration) <-chan time.Time {
	at := make(chan time.Time, 1)
	time.AfterFunc(d, func() { at <- c.now() })
	return at
}

func (n *Node) startShards(ctx context.Context) error {
	n.setStage(Starting)
	n.gate.confirmed.Store(true) // whatever came before has held them to the directory
	return n.cluster.Start(ctx)
}

// fillDirectory declares the schema and the principals of the configuration in
// a new cluster; one that is joined has its own.
func (n *Node) fillDirectory(ctx context.Context) error {
	if len(n.cfg.Beside) > 0 {
		if err := n.checkKeys(n.cluster.Directory()); err != nil {
			return err
		}
		return n.warm()
	}
	commands := []directory.Command{
		{SetKeyring: &directory.SetKeyring{Version: n.keys.Version(), Hash: n.keys.Hash()}},
		{SetSchema: &directory.SetSchema{Fields: n.cfg.Schema}},
	}
	for _, name := range n.cfg.Domains {
		commands = append(commands, directory.Command{PutDomain: &directory.PutDomain{Name: name}})
	}
	for _, p := range n.cfg.Principals {
		put := &directory.Principal{Name: p.Name, Grant: p.Grant}
		put.Credential = n.credentialOf(sha256.Sum256(p.Token))
		commands = append(commands, directory.Command{PutPrincipal: put})
	}
	for i := range commands {
		result, err := n.cluster.ProposeDirectory(ctx, &commands[i])
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return fmt.Errorf("fill directory: %w", err)
		}
	}
	return n.warm()
}

// warm builds the ciphers of all declared fields, so that no request has to:
// making one ends with two garbage collections.
func (n *Node) warm() error {
	for _, number := range append(n.rulesNow().declared, cloakroom.SubjectField) {
		if _, err := n.keys.TokenCipher(number); err != nil {
			return fmt.Errorf("make token key: %w", err)
		}
	}
	return nil
}

func (n *Node) finish(context.Context) error {
	n.sweeper = n.startSweeper()
	n.poller = n.startPoller()
	if err := n.harden(); err != nil {
		return err
	}
	n.ready.Store(true)
	n.setStage(Ready)
	if n.folder != nil {
		n.running.Go(func() { n.watchMembership(n.ctx) }) // ends with n.ctx
	}
	return nil
}

// harden keeps the process from being looked into, before a share of anybody
// gets here.
func (n *Node) harden() error {
	if n.cfg.KeepDumpable {
		return nil
	}
	for _, check := range n.memory.Harden() {
		if !check.OK && n.cfg.Memory.Lock == securemem.LockRequired {
			return fmt.Errorf("harden process: %s: %s", check.Name, check.Detail)
		}
	}
	return nil
}

// Serve opens the front door on listener, which the node owns from then on,
// and returns at once. Close ends it.
func (n *Node) Serve(listener net.Listener) error {
	conf := n.cfg.TLS
	if n.cfg.OwnTLS {
		conf = n.ownTLS()
	}
	server, err := api.New(api.Config{
		Service: n.service(), Pool: n.memory.Pool(), Listener: listener, TLS: conf,
		Limits: n.cfg.Limits, Logger: n.cfg.Logger, Fixed: n.cfg.Fixed,
		Observe: n.requests.observe,
	})
	if err != nil {
		return err
	}
	n.server = server
	go func() { n.served <- server.Serve() }() // Close ends the server and waits
	return nil
}

// Ready reports whether this node can answer.
func (n *Node) Ready(verbose bool) ([]byte, error) {
	if !n.ready.Load() {
		if err := n.Stage().Err(); err != nil {
			return nil, err
		}
		return nil, cloakroom.ErrStarting // it is about to end
	}
	if !verbose {
		return nil, nil
	}
	all := n.cluster.Status()
	return mustJSON(struct {
		Ready bool `json:"ready"`
		groupsStatus
	}{true, groups(&all)}), nil
}
