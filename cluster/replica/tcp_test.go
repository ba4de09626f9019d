package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loopback connects replicas over real TCP, one listener each.
type loopback struct {
	t  testing.TB
	mu sync.Mutex
	at map[string]string // virtual address → host and port
}

type loopbackPort struct {
	net.Listener
	to *loopback
}

func newLoopback(t testing.TB) *loopback { return &loopback{t: t, at: make(map[string]string)} }

func (l *loopback) open(addr string) Stream {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[addr] = listener.Addr().String()
	return loopbackPort{listener, l}
}

func (p loopbackPort) Dial(addr string, timeout time.Duration) (net.Conn, error) {
	p.to.mu.Lock()
	at, ok := p.to.at[addr]
	p.to.mu.Unlock()
	if !ok {
		return nil, errors.New("unknown replica")
	}
	return net.DialTimeout("tcp", at, timeout)
}

func TestOverTCP(t *testing.T) {
	g := newGroup(t, nil)
	g.stream = newLoopback(t).open
	g.found("a")
	for _, name := range []string{"b", "c"} {
		g.join(name)
	}
	for range 100 {
		g.write(g.peers["a"], 1000)
	}
	g.same("a", "b", "c")
	g.end(g.peers["a"])
	delete(g.peers, "a")
	lead := g.leader()
	g.write(lead, 1000)
	g.remove("r-a")
	g.join("d")
	g.same("b", "c", "d")
}

// Seventeen groups of three in one process, as after `dev --nodes 3`.
func BenchmarkIdle(b *testing.B) {
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	net := newLoopback(b)
	var groups []*group
	for i := range 17 {
		g := newGroup(b, func(c *Config) { c.LogBudget = 64 << 10 })
		g.stream = net.open
		for j := range 3 {
			name := fmt.Sprintf("%d-%d", i, j)
			if j == 0 {
				g.found(name)
			} else {
				g.join(name)
			}
		}
		groups = append(groups, g)
	}
	<-time.After(time.Second)
	b.ResetTimer()
	for b.Loop() {
		begin, used := time.Now(), cpu()
		<-time.After(5 * time.Second)
		b.ReportMetric(100*float64(cpu()-used)/float64(time.Since(begin)), "%core")
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-heap")
	b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
	for _, g := range groups {
		g.write(g.leader(), 8)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReplicated is one client, one entry at a time, over TCP.
func BenchmarkReplicated(b *testing.B) {
	for _, size := range []int{400, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := newGroup(b, func(c *Config) {
				c.LogBudget = 16 << 20
				c.Machine = nothing{}
				c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("id", c.Identity.ID)
			})
			g.stream = newLoopback(b).open
			a := g.found("a")
			g.join("b")
			g.join("c")
			data := g.entry(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			used := cpu()
			for b.Loop() {
				if err := a.AwaitRoom(context.Background()); err != nil {
					b.Fatal(err)
				}
				if _, _, err := a.Apply(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "µs-cpu/op")
		})
	}
}
