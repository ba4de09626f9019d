package bench

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"cloakroom/bench/bareraft"
	"cloakroom/bench/replicas"
	"cloakroom/bench/server"
)

// theNodes is how many nodes a cluster under measurement has.
const theNodes = 3

// nodes measures three nodes in one process: idle, reads at a node that leads
// every shard and at one that leads none, single deposits, and an import.
func (r *run) nodes(ctx context.Context) error {
	if err := r.nodesIdle(ctx); err != nil {
		return err
	}
	if err := r.nodesLoad(ctx); err != nil {
		return err
	}
	imported, err := r.importInto(ctx, theNodes)
	r.report.Nodes.Import = imported
	return err
}

// nodesIdle leaves three nodes alone.
func (r *run) nodesIdle(ctx context.Context) error {
	c, err := r.startCloakroom(ctx, r.crowd, options{nodes: theNodes})
	if err != nil {
		return err
	}
	defer c.stop()
	if err := pass(ctx, r.Idle/4); err != nil { // what the start left behind
		return err
	}
	before, err := c.server.CPU()
	if err != nil {
		return err
	}
	if err := pass(ctx, r.Idle); err != nil {
		return err
	}
	after, err := c.server.CPU()
	if err != nil {
		return err
	}
	rss, err := c.server.RSS()
	if err != nil {
		return err
	}
	r.report.Nodes = &Nodes{IdleSeconds: r.Idle.Seconds(), IdleCores: (after - before).Seconds() / r.Idle.Seconds(), IdleRSS: rss}
	r.logf("%-28s %.3f cores, %.1f MiB", "three nodes, idle", r.report.Nodes.IdleCores, mib(rss))
	return nil
}

// nodesLoad reads at the leader and at a follower, and deposits at the leader,
// with one node alone beside them.
func (r *run) nodesLoad(ctx context.Context) error {
	cluster, err := r.startCloakroom(ctx, r.crowd, options{nodes: theNodes})
	if err != nil {
		return err
	}
	defer cluster.stop()
	alone, err := r.startCloakroom(ctx, r.crowd, options{})
	if err != nil {
		return err
	}
	defer alone.stop()
	alone.name, cluster.name, cluster.awake = "one node alone", "three nodes, at the leader", true
	for _, c := range []*contender{cluster, alone} {
		if _, err := c.store(ctx, 0, r.People); err != nil {
			return err
		}
	}
	remote := *cluster
	remote.name, remote.addr, remote.gen = "three nodes, at one that leads nothing", nextAddr(cluster.server.Addr(), theNodes-1), nil
	if err := remote.dial(ctx, r.Connections); err != nil {
		return err
	}
	defer remote.gen.Close()
	all := []*contender{cluster, &remote, alone}
	if _, err := r.resolveRow(ctx, nodesResolve, 100, false, all); err != nil {
		return err
	}
	if err := r.latencies(ctx, nodesResolve, 100, all); err != nil {
		return err
	}
	var entries []entry
	for _, c := range all {
		if err := c.dial(ctx, r.Clients); err != nil {
			return err
		}
		entries = append(entries, entry{c, r.depositPlan(c, 1)})
	}
	_, err = r.compare(ctx, "deposit over HTTP", 1, all, entries)
	return err
}

const nodesResolve = "resolve, one node and three"

// replicated measures three nodes without their front doors beside bare raft,
// and how long writes stop when a node dies.
func (r *run) replicated(ctx context.Context) error {
	const groups, recordBytes = 16, 75
	ours, err := replicas.Start(ctx, replicas.Config{Nodes: theNodes, Shards: groups, Clients: r.Clients,
		RecordBytes: recordBytes, WarmUp: r.WarmUp, Round: r.Round})
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }() // what it could say, a failed round said
	out := &Replicas{Groups: groups, Clients: r.Clients, EntryBytes: ours.EntryBytes(), Deaths: r.Deaths}
	if err := r.writeRounds(ctx, ours, out); err != nil {
		return err
	}
	if err := r.failovers(ctx, ours, out); err != nil {
		return err
	}
	r.report.Replicas = out
	return nil
}

// writeRounds lets ours and bare raft take turns.
func (r *run) writeRounds(ctx context.Context, ours *replicas.Bench, out *Replicas) error {
	bare, err := bareraft.Start(ctx, bareraft.Config{Nodes: theNodes, Groups: out.Groups, Clients: out.Clients,
		EntryBytes: out.EntryBytes, WarmUp: r.WarmUp, Round: r.Round})
	if err != nil {
		return err
	}
	defer func() { _ = bare.Close() }()
	turns := []struct {
		name  string
		round func(context.Context) (float64, error)
		rates []float64
		into  *Spread
	}{
		{"deposits at the leader", func(ctx context.Context) (float64, error) { return ours.Round(ctx, replicas.First) }, nil, &out.AtLeader},
		{"deposits at every node", func(ctx context.Context) (float64, error) { return ours.Round(ctx, replicas.Every) }, nil, &out.AtEveryNode},
		{"bare raft", bare.Round, nil, &out.BareRaft},
	}
	for range r.Rounds {
		for i := range turns {
			rate, err := turns[i].round(ctx)
			if err != nil {
				return err
			}
			turns[i].rates = append(turns[i].rates, rate)
		}
	}
	for _, turn := range turns {
		*turn.into = *spreadOf(turn.rates)
		r.logf("%-28s %11.0f /s", turn.name, turn.into.Median)
	}
	return nil
}

// failovers lets nodes die.
func (r *run) failovers(ctx context.Context, ours *replicas.Bench, out *Replicas) error {
	var waits, worst, whole []float64
	for range r.Deaths {
		start, slowest := time.Now(), 0.0
		shards, err := ours.Failover(ctx)
		if err != nil {
			return err
		}
		whole = append(whole, time.Since(start).Seconds())
		for _, wait := range shards {
			waits = append(waits, wait.Seconds())
			slowest = max(slowest, wait.Seconds())
		}
		worst = append(worst, slowest)
	}
	out.ShardsLed = len(waits)
	out.BackAfter, out.WorstOfADeath, out.RejoinedWithin = *spreadOf(waits), *spreadOf(worst), *spreadOf(whole)
	r.logf("%-28s median %.2f s, worst %.2f s over %d shards", "writes back after a death", out.BackAfter.Median, out.BackAfter.Max, len(waits))
	return nil
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freeAddrs returns the first of n neighbouring addresses that are free now.
func freeAddrs(n int) (string, error) {
	for range 50 {
		first, err := server.FreeAddr()
		if err != nil {
			return "", err
		}
		free := true
		for i := 1; i < n && free; i++ {
			l, err := net.Listen("tcp", nextAddr(first, i))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first, nil
		}
	}
	return "", fmt.Errorf("no %d neighbouring ports are free", n)
}

// nextAddr returns the address i ports above addr.
func nextAddr(addr string, i int) string {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(n+i))
}
