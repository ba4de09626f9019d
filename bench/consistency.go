package bench

import (
	"context"
	"fmt"
	"time"

	"cloakroom/bench/load"
	"cloakroom/bench/replicas"
)

// linearizable is how many clients ask for reads that are confirmed first.
const linearizable = 64

// consistency measures what the promises about reads and erasures cost, with
// three nodes: reads under a lease and confirmed ones, erasures with all
// replicas well and with one that stands still, reads while a leader dies, and
// deposits by source.
func (r *run) consistency(ctx context.Context) error {
	if err := r.leasedReads(ctx); err != nil {
		return err
	}
	return r.settled(ctx)
}

// leasedReads measures what goes through the front door.
func (r *run) leasedReads(ctx context.Context) error {
	cluster, err := r.startStored(ctx, options{nodes: theNodes})
	if err != nil {
		return err
	}
	defer cluster.stop()
	alone, err := r.startStored(ctx, options{})
	if err != nil {
		return err
	}
	defer alone.stop()
	alone.name, cluster.name, cluster.awake = "one node alone", "three nodes, at the leader", true
	follower := *cluster
	follower.name, follower.addr, follower.gen = "three nodes, at one that leads nothing", nextAddr(cluster.server.Addr(), theNodes-1), nil
	for _, c := range []*contender{cluster, &follower} { // a server ends what was idle meanwhile
		if err := c.dial(ctx, r.Connections); err != nil {
			return err
		}
	}
	defer func() { follower.gen.Close() }()
	all := []*contender{cluster, &follower, alone}
	if _, err := r.resolveRow(ctx, "resolve under a lease", 100, false, all); err != nil {
		return err
	}
	if err := r.confirmedReads(ctx, &follower); err != nil {
		return err
	}
	return r.oneByOne(ctx, cluster, alone)
}

// startStored starts a server and loads the people.
func (r *run) startStored(ctx context.Context, o options) (*contender, error) {
	c, err := r.startCloakroom(ctx, r.crowd, o)
	if err != nil {
		return nil, err
	}
	// Few at a time: three nodes on the cores of one lose their leads to more.
	err = c.dial(ctx, fillConnections)
	if err == nil {
		_, err = c.store(ctx, 0, r.People)
	}
	if err == nil {
		err = c.dial(ctx, r.Connections)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// fillConnections is how many batches are stored at the same time.
const fillConnections = 4

// confirmedReads compares the two levels at a node that leads nothing.
func (r *run) confirmedReads(ctx context.Context, follower *contender) error {
	leased, confirmed := *follower, *follower
	leased.name, confirmed.name = "lease", "linearizable"
	strict := *follower.protocol.(*cloakroomProtocol)
	strict.extra += "Cloakroom-Consistency: linearizable\r\n"
	confirmed.protocol = &strict
	pair := []*contender{&leased, &confirmed}
	for _, c := range pair {
		c.gen = nil
		if err := c.dial(ctx, linearizable); err != nil {
			return err
		}
		defer c.gen.Close()
	}
	_, err := r.resolveRow(ctx, fmt.Sprintf("the two levels, %d clients, at one that leads nothing", linearizable), 100, false, pair)
	return err
}

// oneByOne takes the latency of single writes, one connection, one after the
// other.
func (r *run) oneByOne(ctx context.Context, all ...*contender) error {
	writes := min(r.SingleWrites, r.People/4)
	for _, c := range all {
		ours := c.protocol.(*cloakroomProtocol)
		if err := c.dial(ctx, 1); err != nil {
			return err
		}
		for _, kind := range []struct {
			name    string
			request func(i int) []byte
			check   func(reply []byte) error
		}{
			{"plain deposits", func(i int) []byte { return ours.deposit(nil, i, 1) }, func(b []byte) error { return ours.checkDeposit(1, b) }},
			{"deposits by source of people not known", ours.bySource, func(b []byte) error { return ours.checkDeposit(1, b) }},
			{"deposits by source of the same people", ours.bySource, func(b []byte) error { return ours.checkDeposit(1, b) }},
			{"erasures", ours.erase, checkReceipt},
		} {
			plan := &load.Plan{Items: 1, Frame: c.frame, Check: func(_ int, reply []byte) error { return kind.check(reply) }}
			for i := range writes {
				plan.Requests = append(plan.Requests, kind.request(i))
			}
			res, err := c.gen.Once(ctx, plan)
			if err != nil {
				return fmt.Errorf("%s at %s: %w", kind.name, c.name, err)
			}
			l := Latency{Server: c.name + ": " + kind.name, Batch: 1, RequestsPerSecond: res.RequestsPerSecond(), Requests: res.Requests}
			l.fill(res.Latency)
			r.report.Writes = append(r.report.Writes, l)
			r.logf("%-28s %-40s p50 %.0f µs, p99 %.0f µs, max %.0f µs", c.name, kind.name, l.P50, l.P99, l.Max)
		}
	}
	return nil
}

// settled measures erasures with a replica that stands still, and reads while
// a leader dies, without front doors.
func (r *run) settled(ctx context.Context) error {
	const shards = 16
	b, err := replicas.Start(ctx, replicas.Config{Nodes: theNodes, Shards: shards, Clients: r.Clients, RecordBytes: 75, WarmUp: r.WarmUp, Round: r.Round})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // what it could say, a failed step said
	out := &Erasures{}
	well, err := b.Erase(ctx, min(r.SingleWrites, 500))
	if err != nil {
		return err
	}
	still, err := b.EraseWhileOneStands(ctx, max(1, r.Deaths/2))
	if err != nil {
		return err
	}
	out.AllWell, out.OneStandsStill = *spreadOf(seconds(well)), *spreadOf(seconds(still))
	var slowest []float64
	reads := 0
	for range r.Deaths {
		asked, worst, err := b.ReadThroughADeath(ctx)
		if err != nil {
			return err
		}
		reads += asked
		slowest = append(slowest, worst.Seconds())
	}
	out.ReadsThroughDeaths, out.SlowestRead = reads, *spreadOf(slowest)
	r.report.Erasures = out
	r.logf("%-28s median %.2f ms, worst %.2f ms; one replica standing still: worst %.2f s", "erasure", out.AllWell.Median*1e3, out.AllWell.Max*1e3, out.OneStandsStill.Max)
	r.logf("%-28s %d reads over %d deaths, slowest %.0f ms", "reads at survivors", reads, r.Deaths, out.SlowestRead.Max*1e3)
	return nil
}

func seconds(waits []time.Duration) []float64 {
	out := make([]float64, len(waits))
	for i, wait := range waits {
		out[i] = wait.Seconds()
	}
	return out
}
