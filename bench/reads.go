package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// reads loads the people and measures resolving them, over HTTP or HTTPS,
// beside Redis.
func (r *run) reads(ctx context.Context, useTLS bool) error {
	all, err := r.startAll(ctx, r.crowd, options{tls: useTLS})
	if err != nil {
		return err
	}
	defer func() { stopAll(all) }()
	for _, c := range all {
		res, err := c.store(ctx, 0, r.People)
		if err != nil {
			return err
		}
		r.logf("%s: stored %d people, %.0f/s", c.name, r.People, res.ItemsPerSecond())
	}
	over := ""
	if useTLS {
		over = " over TLS" // Redis stays without
	}
	for _, batch := range r.Batches {
		if _, err := r.resolveRow(ctx, uniform+over, batch, false, all); err != nil {
			return err
		}
	}
	middle := r.Batches[len(r.Batches)/2]
	if slices.Contains(r.Batches, 100) {
		middle = 100
	}
	if _, err := r.resolveRow(ctx, "resolve, Zipf ids"+over, middle, true, all); err != nil {
		return err
	}
	if err := r.getRow(ctx, "GET one subject"+over, all); err != nil {
		return err
	}
	if err := r.latencies(ctx, uniform+over, middle, all); err != nil {
		return err
	}
	return r.ceilings(ctx, "ceiling, fixed bytes"+over, middle, all)
}

// uniform is the scenario whose rates the latency runs go by.
const uniform = "resolve, uniform ids"

func (r *run) resolveRow(ctx context.Context, scenario string, batch int, zipf bool, all []*contender) ([]Row, error) {
	draws := r.draws(batch, zipf)
	var entries []entry
	for _, c := range all {
		entries = append(entries, entry{c, resolvePlan(c, draws)})
	}
	return r.compare(ctx, scenario, batch, all, entries)
}

// getRow measures GET of one subject beside GET of one key.
func (r *run) getRow(ctx context.Context, scenario string, all []*contender) error {
	draws := r.draws(1, false)
	var entries []entry
	for _, c := range all {
		single := *c
		if ours, is := c.protocol.(*cloakroomProtocol); is {
			one := *ours
			one.get = true
			single.protocol = &one
		}
		entries = append(entries, entry{c, resolvePlan(&single, draws)})
	}
	_, err := r.compare(ctx, scenario, 1, all, entries)
	return err
}

// latencies sends batches at half the rate that each contender can do, and,
// to compare at the same load, at half of what the slowest can do.
func (r *run) latencies(ctx context.Context, scenario string, batch int, all []*contender) error {
	defer resumeAll(all)
	rows := r.report.find(scenario, batch, all)
	if len(rows) != len(all) {
		return fmt.Errorf("no rates for batches of %d", batch)
	}
	lowest := rows[0].RequestsPerSecond
	for _, row := range rows {
		lowest = min(lowest, row.RequestsPerSecond)
	}
	draws := r.draws(batch, false)
	for i, c := range all {
		plan := resolvePlan(c, draws)
		if err := pauseOthers(all, c); err != nil {
			return err
		}
		rates := []float64{rows[i].RequestsPerSecond / 2, lowest / 2}
		for _, rate := range slices.Compact(rates) {
			before := r.serverLatency(ctx, c)
			res, err := c.gen.Open(ctx, plan, r.WarmUp, time.Duration(r.Rounds)*r.Round, rate)
			if err != nil {
				return fmt.Errorf("latency of %s: %w", c.name, err)
			}
			l := Latency{Server: c.name, Batch: batch, RequestsPerSecond: rate, Requests: res.Requests,
				ServerP99: r.serverLatency(ctx, c).quantileSince(before, 0.99)}
			l.fill(res.Latency)
			r.report.Latencies = append(r.report.Latencies, l)
			r.logf("%-28s %-18s at %.0f/s: p50 %.0f µs, p99 %.0f µs, max %.0f µs", "latency", c.name, rate, l.P50, l.P99, l.Max)
		}
	}
	return nil
}
