package bench

import (
	"context"

	"cloakroom/bench/load"
)

// depositPlanPeople bounds the people in one deposit plan. Cloakroom draws new
// ids every time; Redis gets its keys again after so many.
const depositPlanPeople = 500_000

// depositConnections keeps what is under way at a time below what one node
// takes: 32 connections with batches of 100, fewer with larger ones.
func depositConnections(batch, most int) int {
	return max(2, min(most, 20_000/batch))
}

// deposits measures writing new people, by batch size.
func (r *run) deposits(ctx context.Context) error {
	all, err := r.startAll(ctx, r.crowd, options{})
	if err != nil {
		return err
	}
	defer func() { stopAll(all) }()
	for _, batch := range r.DepositSizes {
		var entries []entry
		for _, c := range all {
			if err := c.dial(ctx, depositConnections(batch, r.Connections)); err != nil {
				return err
			}
			entries = append(entries, entry{c, r.depositPlan(c, batch)})
		}
		if _, err := r.compare(ctx, "deposit", batch, all, entries); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) depositPlan(c *contender, batch int) *load.Plan {
	plan := &load.Plan{Items: batch, Frame: c.frame}
	plan.Check = func(_ int, reply []byte) error { return c.checkDeposit(batch, reply) }
	requests := max(min(depositPlanPeople/batch, maxRequests), 8)
	for i := range requests {
		plan.Requests = append(plan.Requests, c.protocol.deposit(nil, i*batch, batch))
	}
	return plan
}
