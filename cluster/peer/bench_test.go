package peer

import (
	"context"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"
)

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func benchCalls(b *testing.B, callers int) {
	r := newRig(b, nil)
	p := r.start("a")
	r.start("b")
	body := make([]byte, 100)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if _, err := p.Call(ctx, "b", 1, body); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var done sync.WaitGroup
	for i := range callers {
		done.Go(func() {
			for n := i; n < b.N; n += callers {
				if _, err := p.Call(ctx, "b", 1, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func BenchmarkCall1(b *testing.B)   { benchCalls(b, 1) }
func BenchmarkCall8(b *testing.B)   { benchCalls(b, 8) }
func BenchmarkCall64(b *testing.B)  { benchCalls(b, 64) }
func BenchmarkCall512(b *testing.B) { benchCalls(b, 512) }

func BenchmarkStream(b *testing.B) {
	r := newRig(b, nil)
	pa, pb := r.start("a"), r.start("b")
	locate := func(addr string) (string, string, string, bool) { return "b", pb.Addr(), "rb", true }
	sa, err := pa.Stream(StreamConfig{Group: 1, Generation: 1, Replica: "ra", Address: "va", Locate: locate})
	if err != nil {
		b.Fatal(err)
	}
	sb, err := pb.Stream(StreamConfig{Group: 1, Generation: 1, Replica: "rb", Address: "vb", Locate: locate})
	if err != nil {
		b.Fatal(err)
	}
	out, err := sa.Dial("vb", time.Second)
	if err != nil {
		b.Fatal(err)
	}
	in, err := sb.Accept()
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	go func() { // ends with the connection
		for range b.N {
			out.Write(chunk)
		}
	}()
	if _, err := io.CopyN(io.Discard, in, int64(b.N)*int64(len(chunk))); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}
