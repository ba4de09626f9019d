// Package bareraft is the contender for replicated writes: hashicorp/raft by
// itself, three voters a group in one process, with the library's own stores
// in memory and its own TCP transport over loopback, without TLS. Its machine
// counts entries and keeps nothing.
//
// What it can do is what consensus costs; everything a product adds comes on
// top. The settings are the ones this project uses (cluster/replica), apart
// from BatchApplyCh, which helps clients that propose one entry each.
package bareraft

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Config says what to measure.
type Config struct {
	Nodes, Groups, Clients, EntryBytes int
	WarmUp, Round                      time.Duration
}

// group is one Raft group with all its voters.
type group struct {
	voters     []*raft.Raft
	transports []*raft.NetworkTransport
}

// Bench is a running set of groups.
type Bench struct {
	cfg    Config
	groups []*group
}

// Start brings all groups up and waits until each has a leader.
func Start(ctx context.Context, cfg Config) (*Bench, error) {
	b := &Bench{cfg: cfg}
	for range cfg.Groups {
		g, err := b.startGroup()
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.groups = append(b.groups, g)
	}
	for _, g := range b.groups {
		if err := g.awaitLeader(ctx); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

func (b *Bench) startGroup() (*group, error) {
	g := &group{}
	var voters raft.Configuration
	for range b.cfg.Nodes {
		transport, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raft.NetworkTransportConfig{
			MaxPool: 3, MaxRPCsInFlight: 2, Timeout: 10 * time.Second, Logger: hclog.NewNullLogger()})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bare raft: %w", err), g.close())
		}
		g.transports = append(g.transports, transport)
		voters.Servers = append(voters.Servers, raft.Server{Suffrage: raft.Voter,
			ID: raft.ServerID(transport.LocalAddr()), Address: transport.LocalAddr()})
	}
	for i, transport := range g.transports {
		voter, err := startVoter(transport, voters)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bare raft: voter %d: %w", i, err), g.close())
		}
		g.voters = append(g.voters, voter)
	}
	return g, nil
}

func startVoter(transport *raft.NetworkTransport, voters raft.Configuration) (*raft.Raft, error) {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(transport.LocalAddr())
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
	conf.CommitTimeout = 250 * time.Millisecond
	conf.MaxAppendEntries, conf.BatchApplyCh = 512, true
	conf.NoLegacyTelemetry, conf.Logger = true, hclog.NewNullLogger()
	store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(conf, store, store, snapshots, transport, voters); err != nil {
		return nil, err
	}
	return raft.NewRaft(conf, counter{}, store, store, snapshots, transport)
}

// awaitLeader waits until one voter leads.
func (g *group) awaitLeader(ctx context.Context) error {
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for g.leader() == nil {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return fmt.Errorf("bare raft: no leader: %w", ctx.Err())
		}
	}
	return nil
}

func (g *group) leader() *raft.Raft {
	for _, v := range g.voters {
		if v.State() == raft.Leader {
			return v
		}
	}
	return nil
}

// Round has every client propose one entry after the other, in turn to each
// group, and returns how many a second were applied.
func (b *Bench) Round(ctx context.Context) (float64, error) {
	if _, err := b.run(ctx, b.cfg.WarmUp); err != nil {
		return 0, err
	}
	return b.run(ctx, b.cfg.Round)
}

func (b *Bench) run(ctx context.Context, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var done atomic.Int64
	var fault atomic.Pointer[error]
	var clients sync.WaitGroup
	start := time.Now()
	for c := range b.cfg.Clients {
		clients.Go(func() { // ends with ctx
			entry := make([]byte, b.cfg.EntryBytes)
			_, _ = rand.Read(entry)
			for i := c; ctx.Err() == nil; i++ {
				leader := b.groups[i%len(b.groups)].leader()
				if leader == nil {
					continue
				}
				err := leader.Apply(entry, 5*time.Second).Error()
				if errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) {
					continue // it takes its time, and does not count
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
		return 0, fmt.Errorf("bare raft: propose: %w", *err)
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// Close stops every voter.
func (b *Bench) Close() error {
	var faults []error
	for _, g := range b.groups {
		faults = append(faults, g.close())
	}
	return errors.Join(faults...)
}

func (g *group) close() error {
	var faults []error
	for _, v := range g.voters {
		faults = append(faults, v.Shutdown().Error())
	}
	for _, t := range g.transports {
		faults = append(faults, t.Close())
	}
	return errors.Join(faults...)
}

// counter is a machine that keeps nothing.
type counter struct{}

func (counter) Apply(*raft.Log) any                 { return true }
func (counter) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (counter) Restore(r io.ReadCloser) error       { return r.Close() }

type nothing struct{}

func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}
