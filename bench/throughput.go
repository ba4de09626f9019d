package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"cloakroom/bench/load"
	"cloakroom/bench/server"
)

// entry is a contender with the plan it gets in one row of a table.
type entry struct {
	*contender
	plan *load.Plan
}

// compare lets the entries take turns for all rounds and adds a row for each.
// The order turns around every round, so that nobody always goes first.
func (r *run) compare(ctx context.Context, scenario string, batch int, all []*contender, entries []entry) ([]Row, error) {
	defer resumeAll(all)
	rows := make([]Row, len(entries))
	for i, e := range entries {
		rows[i] = Row{Scenario: scenario, Server: e.name, Batch: batch}
	}
	for round := range r.Rounds {
		order := make([]int, len(entries))
		for i := range order {
			order[i] = i
		}
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, i := range order {
			if err := pauseOthers(all, entries[i].contender); err != nil {
				return nil, err
			}
			if err := r.round(ctx, entries[i], &rows[i]); err != nil {
				return nil, fmt.Errorf("%s, %s, batch %d: %w", scenario, entries[i].name, batch, err)
			}
		}
	}
	for i := range rows {
		rows[i].summarise()
		r.logf("%-28s %-18s %6d  %11.0f items/s  %11.0f /CPU-s  server %.2f generator %.2f cores", scenario, rows[i].Server, batch,
			rows[i].PerSecond.Median, rows[i].PerCPUSecond.Median, rows[i].ServerCores, rows[i].GeneratorCores)
	}
	r.report.Rows = append(r.report.Rows, rows...)
	return rows, nil
}

// round measures one entry once. The processor time of the server is taken
// over the same span as its answers.
func (r *run) round(ctx context.Context, e entry, row *Row) error {
	if r.WarmUp > 0 {
		if _, err := e.gen.Closed(ctx, e.plan, 0, r.WarmUp); err != nil {
			return err
		}
	}
	before, err := e.server.CPU()
	if err != nil {
		return err
	}
	ownBefore, err := server.CPUOf(os.Getpid())
	if err != nil {
		return err
	}
	res, err := e.gen.Closed(ctx, e.plan, 0, r.Round)
	if err != nil {
		return err
	}
	after, err := e.server.CPU()
	if err != nil {
		return err
	}
	ownAfter, err := server.CPUOf(os.Getpid())
	if err != nil {
		return err
	}
	row.add(res, after-before, ownAfter-ownBefore)
	return nil
}

func (row *Row) add(res load.Result, cpu, own time.Duration) {
	row.rates = append(row.rates, res.ItemsPerSecond())
	// The clock of the process ticks 100 times a second.
	row.perCPU = append(row.perCPU, float64(res.Items)/max(cpu, 10*time.Millisecond).Seconds())
	row.cores = append(row.cores, cpu.Seconds()/res.Elapsed.Seconds())
	row.ownCores = append(row.ownCores, own.Seconds()/res.Elapsed.Seconds())
	row.requests = append(row.requests, res.RequestsPerSecond())
	row.Checked += res.Checked
}
