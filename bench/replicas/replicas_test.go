package replicas

import (
	"context"
	"slices"
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
	if waits, err := b.Erase(ctx, 4); err != nil || slices.Min(waits) <= 0 {
		t.Errorf("Erase: %v, %v", waits, err)
	}
	// The others may do without the node that stands still; they can't know
	// before its lease is over.
	if waits, err := b.EraseWhileOneStands(ctx, 1); err != nil || waits[0] < time.Second {
		t.Errorf("EraseWhileOneStands: %v, %v", waits, err)
	}
	if reads, slowest, err := b.ReadThroughADeath(ctx); err != nil || reads == 0 || slowest <= 0 {
		t.Errorf("ReadThroughADeath: %d reads, %v, %v", reads, slowest, err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
