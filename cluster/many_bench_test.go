package cluster

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// BenchmarkReadOfThree is a page of 96 records out of 16 shards of three
// nodes: read on the node that leads all of them, and on one that leads none;
// by one caller, and by many.
func BenchmarkReadOfThree(b *testing.B) {
	h := newHouse(b, 3, 16, nil)
	pages := fillPages(b, h.node("n1").Propose)
	for _, name := range []string{"n1", "n2"} {
		for _, callers := range []int{1, 32} {
			kind := map[string]string{"n1": "leader", "n2": "other"}[name]
			b.Run(fmt.Sprintf("%s/%d", kind, callers), func(b *testing.B) {
				n := h.node(name)
				b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
				b.ReportAllocs()
				var turn atomic.Int64
				begin, before := time.Now(), cpuTime(b)
				run := func(next func() bool) {
					dst, scratch := &command.Records{}, make([]Part, cloakroom.MaxShards)
					for next() {
						readPage(b, n.Cluster, pages[int(turn.Add(1))%len(pages)], scratch, dst)
					}
				}
				if callers == 1 {
					run(b.Loop)
				} else {
					b.ResetTimer()
					b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
				}
				b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "reads/s")
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1000, "cpu-us/op")
			})
		}
	}
}

// readPage reads one page; it copies the parts, which callers share, to scratch.
func readPage(b *testing.B, c *Cluster, page, parts []Part, dst *command.Records) {
	n := copy(parts, page)
	dst.Reset()
	spans := dst.Extend(96)
	for j := range parts[:n] {
		parts[j].Spans = spans[:len(parts[j].Tokens)]
		spans = spans[len(parts[j].Tokens):]
	}
	c.ReadParts(b.Context(), cloakroom.Lease, parts[:n], dst)
	for j := range parts[:n] {
		if parts[j].Err != nil {
			b.Error(parts[j].Err)
			return
		}
	}
}

// BenchmarkDepositsOfThree is clients that each deposit one subject at a time
// into three nodes, by the leader or by another.
func BenchmarkDepositsOfThree(b *testing.B) {
	for _, name := range []string{"n1", "n2"} {
		for _, clients := range []int{1, 256} {
			b.Run(fmt.Sprintf("%s/%d", name, clients), func(b *testing.B) {
				h := newHouse(b, 3, 16, func(_ string, c *Config) {
					c.LogBudget = 8 << 20
					c.Machine = func(cloakroom.ShardID) (Machine, error) { return &sink{}, nil }
				})
				n := h.node(name)
				b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
				b.ReportAllocs()
				b.ResetTimer()
				begin, before := time.Now(), cpuTime(b)
				b.RunParallel(func(pb *testing.PB) {
					cmds := []command.Command{put(1, 345)}
					for shard := 0; pb.Next(); shard++ {
						if _, _, err := n.Propose(b.Context(), cloakroom.ShardID(shard%16), cmds); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "deposits/s")
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1000, "cpu-us/op")
			})
		}
	}
}

// BenchmarkIdleOfThree is three nodes of seventeen groups with nothing to do,
// for five seconds; run it with -benchtime 1x.
func BenchmarkIdleOfThree(b *testing.B) {
	newHouse(b, 3, 16, nil)
	for b.Loop() {
		before := cpuTime(b)
		<-time.After(5 * time.Second)
		b.ReportMetric(float64(cpuTime(b)-before)/float64(5*time.Second)*100, "%core")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
