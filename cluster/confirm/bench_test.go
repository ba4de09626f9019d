package confirm

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// local makes Rounds of a node that leads groups with voters on two others,
// which answer at once in this process, or after a while.
func local(b *testing.B, groups int, delay time.Duration, asks *atomic.Int64) (*Rounds, []Want) {
	leads := make([]Lead, groups)
	want := make([]Want, groups)
	for i := range leads {
		want[i] = Want{uint32(i), 5}
		leads[i] = Lead{5, replicaOf(uint32(i), "a"), []Voter{
			{replicaOf(uint32(i), "a"), "a"}, {replicaOf(uint32(i), "b"), "b"}, {replicaOf(uint32(i), "c"), "c"}}}
	}
	r, err := New(Config{
		Ask: func(_ context.Context, _ string, questions []Question) (Answer, error) {
			asks.Add(1)
			if delay > 0 {
				<-time.After(delay)
			}
			yes := make([]bool, len(questions))
			for i := range yes {
				yes[i] = true
			}
			return Answer{Yes: yes, Now: time.Now()}, nil
		},
		Led:  func(group uint32) (Lead, bool) { return leads[group], true },
		Here: func(Question) bool { return true },
		Now:  time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	return r, want
}

// BenchmarkRound is one caller alone; the peers answer in this process.
func BenchmarkRound(b *testing.B) {
	for name, groups := range map[string]int{"groups=1": 1, "groups=16": 16} {
		b.Run(name, func(b *testing.B) {
			r, want := local(b, groups, 0, new(atomic.Int64))
			ok := make([]bool, groups)
			b.ReportAllocs()
			for b.Loop() {
				r.Confirm(context.Background(), want, ok)
			}
		})
	}
}

// BenchmarkSingleVoter asks nobody.
func BenchmarkSingleVoter(b *testing.B) {
	lead := Lead{5, "a/1", []Voter{{"a/1", "a"}}}
	r, err := New(Config{
		Ask:  func(context.Context, string, []Question) (Answer, error) { panic("asked") },
		Led:  func(uint32) (Lead, bool) { return lead, true },
		Here: func(Question) bool { return true },
		Now:  time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	ok := make([]bool, 1)
	b.ReportAllocs()
	for b.Loop() {
		r.Confirm(context.Background(), []Want{one}, ok)
	}
}

// BenchmarkCallers has 64 callers share rounds over 16 groups; the peers take
// 100 µs. asks/call tells how many asks one call costs.
func BenchmarkCallers(b *testing.B) {
	var asks atomic.Int64
	r, want := local(b, 16, 100*time.Microsecond, &asks)
	b.ReportAllocs()
	var running sync.WaitGroup
	for range 64 {
		running.Go(func() { // ends with its share
			ok := make([]bool, len(want))
			for range b.N/64 + 1 {
				r.Confirm(context.Background(), want, ok)
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(asks.Load())/float64(b.N), "asks/call")
}
