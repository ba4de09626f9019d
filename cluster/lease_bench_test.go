package cluster

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// BenchmarkLeaseRead is the page of BenchmarkRead where there are three nodes:
// read under leases, on the node that leads all shards and on one that leads
// none. Both are to be as fast as one node alone.
func BenchmarkLeaseRead(b *testing.B) {
	h := newHouse(b, 3, 16, nil)
	pages := fillPages(b, h.node("n1").Propose)
	h.awaitLeases()
	for _, name := range []string{"n1", "n2"} {
		b.Run(map[string]string{"n1": "leader", "n2": "follower"}[name], func(b *testing.B) {
			n, scratch, dst := h.node(name), make([]Part, cloakroom.MaxShards), &command.Records{}
			before := n.Traffic().Calls["read"]
			b.ReportAllocs()
			defer onOneThread(b)()
			for i := 0; b.Loop(); i++ {
				readPage(b, n.Cluster, pages[i%len(pages)], scratch, dst)
			}
			if after := n.Traffic().Calls["read"]; after != before {
				b.Errorf("%d reads went elsewhere", after-before)
			}
		})
	}
}

// onOneThread keeps the caller on one thread, and reports what processor time
// it took once the benchmark is over: on a busy machine the time on the wall
// says more of the others.
func onOneThread(b *testing.B) (over func()) {
	const ofThread = 1 // RUSAGE_THREAD
	used := func() time.Duration {
		var use syscall.Rusage
		if err := syscall.Getrusage(ofThread, &use); err != nil {
			b.Fatal(err)
		}
		return time.Duration(use.Utime.Nano() + use.Stime.Nano())
	}
	runtime.LockOSThread()
	before := used()
	return func() {
		b.ReportMetric(float64(used()-before)/float64(b.N), "thread-ns/op")
		runtime.UnlockOSThread()
	}
}

// BenchmarkErasure is a write and its barrier, by the leader and by another
// node, one at a time and many at once.
func BenchmarkErasure(b *testing.B) {
	h := newHouse(b, 3, 16, nil)
	h.awaitLeases()
	for _, name := range []string{"n1", "n2"} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", name, clients), func(b *testing.B) {
				n := h.node(name)
				times := make(chan time.Duration, b.N+clients)
				before := cpuTime(b)
				b.SetParallelism(clients)
				awaits := n.Traffic().Calls["await"]
				run := func(shard int) {
					_, index, err := n.Propose(b.Context(), cloakroom.ShardID(shard%16), []command.Command{put(1, 40)})
					if err != nil {
						b.Error(err)
						return
					}
					begin := time.Now()
					if err := n.Settle(b.Context(), index); err != nil {
						b.Error(err)
					}
					times <- time.Since(begin)
				}
				if clients == 1 {
					for i := range b.N {
						run(i)
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for shard := 0; pb.Next(); shard++ {
							run(shard)
						}
					})
				}
				close(times)
				var all []time.Duration
				for d := range times {
					all = append(all, d)
				}
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "settle-p50-us")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "settle-p99-us")
				b.ReportMetric(float64(n.Traffic().Calls["await"]-awaits)/float64(b.N), "awaits/op")
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1000, "cpu-us/op")
			})
		}
	}
}
