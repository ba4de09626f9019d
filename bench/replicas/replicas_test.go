package replicas

import (
	"context"
	"testing"
	"time"
)

func TestRound(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := Start(ctx, Config{Nodes: 3, Shards: 2, Clients: 8, RecordBytes: 75, WarmUp: 10 * time.Millisecond, Round: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []Spread{First, Every} {
		if rate, err := b.Round(ctx, where); err != nil || rate <= 0 {
			t.Errorf("Round: %v deposits/s, %v", rate, err)
		}
	}
	waits, err := b.Failover(ctx)
	if err != nil || len(waits) == 0 {
		t.Errorf("Failover: %v, %v", waits, err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
