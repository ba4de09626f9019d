// Package load is the one load generator of the benchmark. It sends requests
// that were built beforehand over a fixed number of keep-alive connections,
// HTTP/1.1 and Redis alike, reads just enough of a reply to know where it
// ends, and checks some replies as a whole. It is kept lean because it shares
// the machine with the server it measures.
//
// Plain TCP is driven by one thread around epoll, as wrk and redis-benchmark
// do it; TLS, and everything on other systems than Linux, by one goroutine a
// connection. A [Generator] is not safe for concurrent use.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Framer finds the end of the reply at the start of b. It returns its length
// in bytes, or 0 when more is to come. An answer that says that the request
// failed is an error.
type Framer func(b []byte) (size int, err error)

// Plan is what to send. Requests are sent in order, again from the start when
// all were sent; connections take the next one as they become free.
type Plan struct {
	Requests [][]byte
	Items    int // ids or subjects in one request
	Frame    Framer
	// Check judges one whole reply to request number i; nil checks nothing.
	Check func(i int, reply []byte) error
}

// Config says where a generator connects to.
type Config struct {
	Addr        string
	Connections int         // default 32
	TLS         *tls.Config // nil: plain TCP
	CheckEvery  int         // check one reply in so many; default 64
	Goroutines  bool        // drive plain TCP by goroutines too (tests)
}

// MaxConnections bounds Config.Connections.
const MaxConnections = 1024

func (c *Config) complete() error {
	if c.Connections == 0 {
		c.Connections = 32
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = 64
	}
	var faults []error
	if c.Addr == "" {
		faults = append(faults, errors.New("no address"))
	}
	if c.Connections < 0 || c.Connections > MaxConnections {
		faults = append(faults, fmt.Errorf("%d connections, want 1 to %d", c.Connections, MaxConnections))
	}
	if c.CheckEvery < 0 {
		faults = append(faults, fmt.Errorf("check one in %d", c.CheckEvery))
	}
	return errors.Join(faults...)
}

// Result is what one run did.
type Result struct {
	Requests int64
	Items    int64
	Elapsed  time.Duration
	Checked  int64
	// Latency is in nanoseconds. In an open run it counts from the intended
	// start of each request, so that a stall is seen by all that it delays.
	Latency *hdrhistogram.Histogram
}

// ItemsPerSecond returns the rate of the run.
func (r Result) ItemsPerSecond() float64 { return float64(r.Items) / r.Elapsed.Seconds() }

// RequestsPerSecond returns the rate of the run.
func (r Result) RequestsPerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
}

// drainTime is how long replies may take after the last request.
const drainTime = 10 * time.Second

// driver moves the bytes.
type driver interface {
	// run sends requests of plan at the pace and waits for the replies.
	run(ctx context.Context, plan *Plan, pace pace) (Result, error)
	close()
}

// pace is the clock of one run.
type pace struct {
	first    int           // number of the first request
	start    time.Time     // of the run
	measure  time.Time     // before: warm-up
	stop     time.Time     // no request starts after it
	interval time.Duration // between intended starts; 0: closed loop
	every    int           // check one reply in so many
	limit    int           // requests to send at most; 0: until stop
}

// Generator holds the connections to one server.
type Generator struct {
	cfg    Config
	driver driver
	next   int // request to go on with, so that runs do not repeat themselves
}

// Dial connects to the server. The caller closes the generator.
func Dial(ctx context.Context, cfg Config) (*Generator, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	d, err := newDriver(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Addr, err)
	}
	return &Generator{cfg: cfg, driver: d}, nil
}

// Close closes the connections.
func (g *Generator) Close() { g.driver.close() }

// Closed keeps every connection busy for d after a warm-up that is not
// counted. A failed request ends the run with an error.
func (g *Generator) Closed(ctx context.Context, plan *Plan, warmUp, d time.Duration) (Result, error) {
	return g.run(ctx, plan, warmUp, d, 0)
}

// Open sends rate requests a second, evenly spaced, whether or not the server
// keeps up; a request that finds no free connection waits for one, and the
// wait counts.
func (g *Generator) Open(ctx context.Context, plan *Plan, warmUp, d time.Duration, rate float64) (Result, error) {
	if rate <= 0 {
		return Result{}, fmt.Errorf("open run: rate %v", rate)
	}
	return g.run(ctx, plan, warmUp, d, time.Duration(float64(time.Second)/rate))
}

func (g *Generator) run(ctx context.Context, plan *Plan, warmUp, d, interval time.Duration) (Result, error) {
	if len(plan.Requests) == 0 || plan.Frame == nil {
		return Result{}, errors.New("run: empty plan")
	}
	start := time.Now()
	p := pace{first: g.next, start: start, measure: start.Add(warmUp), stop: start.Add(warmUp + d), interval: interval, every: g.cfg.CheckEvery}
	res, err := g.driver.run(ctx, plan, p)
	if err != nil {
		return Result{}, fmt.Errorf("run: %w", err)
	}
	g.next += int(res.Requests)
	if res.Requests == 0 {
		return Result{}, errors.New("run: not one reply in time")
	}
	return res, nil
}
