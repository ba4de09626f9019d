package load

import (
	"context"
	"fmt"
	"time"
)

// Once sends every request of the plan once, as fast as the connections take
// them. It returns an error when one failed.
func (g *Generator) Once(ctx context.Context, plan *Plan) (Result, error) {
	if len(plan.Requests) == 0 || plan.Frame == nil {
		return Result{}, fmt.Errorf("run: empty plan")
	}
	start := time.Now()
	// The limit only ends what hangs; the count ends the run.
	p := pace{start: start, measure: start, stop: start.Add(time.Hour), every: g.cfg.CheckEvery, limit: len(plan.Requests)}
	res, err := g.driver.run(ctx, plan, p)
	if err != nil {
		return Result{}, fmt.Errorf("run: %w", err)
	}
	return res, nil
}
