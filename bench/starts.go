package bench

import (
	"context"
	"time"
)

// starts measures the time from exec to ready of an empty store.
func (r *run) starts(ctx context.Context) error {
	var seconds []float64
	for range r.Starts {
		c, err := r.startCloakroom(ctx, r.crowd, options{})
		if err != nil {
			return err
		}
		seconds = append(seconds, c.server.ReadyAfter().Seconds())
		c.stop()
	}
	r.report.Start = spreadOf(seconds)
	r.logf("%-28s ready after %v", "start", time.Duration(r.report.Start.Median*float64(time.Second)).Round(time.Millisecond))
	return nil
}
