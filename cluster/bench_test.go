package cluster

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// sink is a machine that decodes and answers, so that what is measured is the
// way to it.
type sink struct{ recorder }

func (s *sink) Apply(_ uint64, batch []byte, results []command.Result) ([]command.Result, error) {
	frame, err := command.OpenBatch(batch)
	for item, more := frame.Next(); more; item, more = frame.Next() {
		var c command.Command
		if err := command.Decode(item, &c); err != nil {
			return nil, err
		}
		results = append(results, command.Result{Code: command.Created})
	}
	return results, err
}

func sinks(c *Config, _ *rig) {
	c.Shards, c.LogBudget = 16, 8<<20
	c.Machine = func(cloakroom.ShardID) (Machine, error) { return &sink{}, nil }
	c.SealBatch = func(dst []byte, _, _ uint32, b []byte) ([]byte, error) { return append(dst, b...), nil }
	c.OpenBatch = c.SealBatch
}

// BenchmarkImport is a batch deposit of 10,000 subjects: 625 commands of about
// 400 bytes to each of 16 shards at once.
func BenchmarkImport(b *testing.B) {
	r := open(b, sinks)
	var cmds []command.Command
	for i := range 625 {
		cmds = append(cmds, put(uint64(i), 345))
	}
	b.ReportAllocs()
	begin := time.Now()
	for b.Loop() {
		done := make(chan error, 16)
		for s := range cloakroom.ShardID(16) {
			go func() {
				_, _, err := r.Propose(b.Context(), s, cmds)
				done <- err
			}()
		}
		for range 16 {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*10_000/time.Since(begin).Seconds(), "commands/s")
}

// BenchmarkDeposits is clients that each deposit one subject at a time.
func BenchmarkDeposits(b *testing.B) {
	for _, clients := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			r := open(b, sinks)
			b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
			b.ReportAllocs()
			b.ResetTimer()
			begin := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				cmds := []command.Command{put(1, 345)}
				for shard := 0; pb.Next(); shard++ {
					if _, _, err := r.Propose(b.Context(), cloakroom.ShardID(shard%16), cmds); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "deposits/s")
		})
	}
}

// BenchmarkIdle is seventeen groups with nothing to do but keep the time, for
// two seconds; run it with -benchtime 1x.
func BenchmarkIdle(b *testing.B) {
	open(b, func(c *Config, r *rig) {
		sinks(c, r)
		c.Clock = wallClock{}
	})
	for b.Loop() {
		before := cpuTime(b)
		<-time.After(2 * time.Second)
		b.ReportMetric(float64(cpuTime(b)-before)/float64(2*time.Second)*100, "%core")
	}
}

type wallClock struct{}

// uptime counts from now. A bubble's clock stands in where there is one.
func uptime() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) + time.Hour }
}

func (wallClock) Now() time.Time                         { return time.Now() }
func (wallClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
