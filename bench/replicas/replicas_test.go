package replicas

import (
	"context"
	"testing"
	"time"

	"cloakroom/bench/bareraft"
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
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// BenchmarkReplicated compares in turns: ours at the leader, ours at every
// node, bare raft with entries of the same size.
func BenchmarkReplicated(b *testing.B) {
	ctx := context.Background()
	const shards, clients, warm, round = 16, 256, 500 * time.Millisecond, 2 * time.Second
	ours, err := Start(ctx, Config{Nodes: 3, Shards: shards, Clients: clients, RecordBytes: 75, WarmUp: warm, Round: round})
	if err != nil {
		b.Fatal(err)
	}
	defer ours.Close()
	bare, err := bareraft.Start(ctx, bareraft.Config{Nodes: 3, Groups: shards, Clients: clients, EntryBytes: ours.EntryBytes(), WarmUp: warm, Round: round})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	var first, every, raft float64
	for b.Loop() {
		for rate, f := range map[*float64]func() (float64, error){
			&first: func() (float64, error) { return ours.Round(ctx, First) },
			&every: func() (float64, error) { return ours.Round(ctx, Every) },
			&raft:  func() (float64, error) { return bare.Round(ctx) },
		} {
			r, err := f()
			if err != nil {
				b.Fatal(err)
			}
			*rate += r
		}
	}
	b.ReportMetric(first/float64(b.N), "first/s")
	b.ReportMetric(every/float64(b.N), "every/s")
	b.ReportMetric(raft/float64(b.N), "bare/s")
}
