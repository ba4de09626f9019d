package bareraft

import (
	"context"
	"testing"
	"time"
)

func TestRound(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b, err := Start(ctx, Config{Nodes: 3, Groups: 2, Clients: 8, EntryBytes: 256, WarmUp: 10 * time.Millisecond, Round: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	rate, err := b.Round(ctx)
	if err != nil || rate <= 0 {
		t.Errorf("Round: %v entries/s, %v", rate, err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func BenchmarkBareRaft(b *testing.B) {
	ctx := context.Background()
	r, err := Start(ctx, Config{Nodes: 3, Groups: 16, Clients: 256, EntryBytes: 256, WarmUp: 500 * time.Millisecond, Round: 3 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for b.Loop() {
		rate, err := r.Round(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rate, "entries/s")
	}
}
