package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// connDriver serves each connection by a goroutine. The goroutines live for
// one run; run waits for them.
type connDriver struct {
	conns []net.Conn
}

func newConnDriver(ctx context.Context, cfg Config) (driver, error) {
	d := &connDriver{}
	for range cfg.Connections {
		conn, err := dialOne(ctx, cfg)
		if err != nil {
			d.close()
			return nil, err
		}
		d.conns = append(d.conns, conn)
	}
	return d, nil
}

func dialOne(ctx context.Context, cfg Config) (net.Conn, error) {
	if cfg.TLS == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", cfg.Addr)
	}
	return (&tls.Dialer{Config: cfg.TLS}).DialContext(ctx, "tcp", cfg.Addr)
}

func (d *connDriver) close() {
	for _, conn := range d.conns {
		conn.Close()
	}
}

// due is one request that is to be sent.
type due struct {
	number   int // counted from the start of the run
	request  int
	intended time.Time
}

// connRun is one run of the driver.
type connRun struct {
	plan *Plan
	pace
	due chan due // open runs: filled by the pacer, closed at the end

	mu   sync.Mutex // guards what follows
	sent int
	err  error
}

func (d *connDriver) run(ctx context.Context, plan *Plan, p pace) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deadline := p.stop.Add(drainTime)
	r := &connRun{plan: plan, pace: p}
	if p.interval > 0 {
		// A request that no connection can take yet waits here; it is as
		// long as the run so that the pacer never waits.
		r.due = make(chan due, int(p.stop.Sub(p.start)/p.interval)+1)
		go r.keepPace(ctx) // ends by itself at stop, or with ctx
	}
	results := make([]Result, len(d.conns))
	var workers sync.WaitGroup
	for i, conn := range d.conns {
		conn.SetDeadline(deadline)
		workers.Go(func() {
			if err := r.work(ctx, conn, &results[i]); err != nil {
				r.fail(err)
				cancel()
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(p.measure)
	if r.err != nil {
		return Result{}, r.err
	}
	total := merge(results)
	total.Elapsed = elapsed
	return total, ctx.Err()
}

func merge(results []Result) Result {
	total := Result{Latency: newHistogram()}
	for _, r := range results {
		total.Requests += r.Requests
		total.Items += r.Items
		total.Checked += r.Checked
		total.Latency.Merge(r.Latency)
	}
	return total
}

func (r *connRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// keepPace hands out requests at their intended starts.
func (r *connRun) keepPace(ctx context.Context) {
	defer steadyThread()()
	defer close(r.due)
	for n := 0; ctx.Err() == nil; n++ {
		intended := r.start.Add(time.Duration(n) * r.interval)
		if !intended.Before(r.stop) {
			return
		}
		sleepUntil(intended)
		r.due <- due{n, (r.first + n) % len(r.plan.Requests), intended}
	}
}

// take returns the next request to send, or false at the end of the run.
func (r *connRun) take(ctx context.Context) (due, bool) {
	if r.due != nil {
		next, ok := <-r.due
		return next, ok
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil || !now.Before(r.stop) || r.limit > 0 && r.sent >= r.limit {
		return due{}, false
	}
	number := r.sent
	r.sent++
	return due{number, (r.first + number) % len(r.plan.Requests), now}, true
}

func (r *connRun) work(ctx context.Context, conn net.Conn, res *Result) error {
	res.Latency = newHistogram()
	in := make([]byte, 0, 64<<10)
	for {
		next, ok := r.take(ctx)
		if !ok {
			return nil
		}
		if _, err := conn.Write(r.plan.Requests[next.request]); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		var err error
		if in, err = readReply(conn, in[:0], r.plan.Frame); err != nil {
			return err
		}
		now := time.Now()
		if r.plan.Check != nil && next.number%r.every == 0 {
			if err := r.plan.Check(next.request, in); err != nil {
				return fmt.Errorf("check reply: %w", err)
			}
			res.Checked++
		}
		if !now.Before(r.measure) {
			res.Requests++
			res.Items += int64(r.plan.Items)
			res.Latency.RecordValue(min(int64(now.Sub(next.intended)), int64(time.Minute)))
		}
	}
}

func readReply(conn net.Conn, in []byte, frame Framer) ([]byte, error) {
	for {
		if len(in) == cap(in) {
			in = append(make([]byte, 0, 2*cap(in)), in...)
		}
		n, err := conn.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		size, fault := 0, error(nil)
		if n > 0 {
			size, fault = frame(in)
		}
		switch {
		case fault != nil:
			return in, fault
		case size == len(in) && n > 0:
			return in, nil
		case size != 0:
			return in, errors.New("read: bytes that nobody asked for")
		case err != nil:
			return in, fmt.Errorf("read: %w", err)
		}
	}
}
