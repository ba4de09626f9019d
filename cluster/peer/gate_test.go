package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/cluster/peer/peertest"
)

// gate is a carrier whose dialled connections can be made to wait, or fail,
// before they write, and to take their time to read or be made.
type gate struct {
	*peertest.Network
	mu     sync.Mutex
	closed chan struct{} // nil: open
	broken error
	slow   map[string]time.Duration // dialling, by address
	pause  time.Duration            // before each write
}

func (g *gate) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ch := make(chan struct{})
	g.closed = ch
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.closed = nil
		close(ch)
	}
}

func (g *gate) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if d := g.slow[addr]; d > 0 {
		after(d)
	}
	conn, err := g.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &gatedConn{Conn: conn, gate: g}, nil
}

type gatedConn struct {
	net.Conn
	gate *gate
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.gate.mu.Lock()
	closed, broken, pause := c.gate.closed, c.gate.broken, c.gate.pause
	c.gate.mu.Unlock()
	if pause > 0 {
		after(pause)
	}
	if closed != nil {
		<-closed
	}
	if broken != nil {
		return 0, broken
	}
	return c.Conn.Write(b)
}

// gated runs f in a bubble with two nodes; a dials through the gate. seen
// counts what b handled.
func gated(t *testing.T, f func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64)) {
	t.Helper()
	bubbled(t, func(t *testing.T, r *rig) {
		g := &gate{Network: r.carrier.(*peertest.Network)}
		var seen atomic.Int64
		a := r.start("a", func(cfg *Config) { cfg.Carrier, cfg.bodies = g, 1<<20 })
		r.start("b", handledBy(func(_ context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			seen.Add(1)
			return body, nil
		}))
		wellFor(t, a, "b")
		seen.Store(0)
		f(t, r, g, a, &seen)
	})
}

// Many small calls share writes: that is where their price comes from.
func TestWritesAreShared(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		l := a.way("b").link
		open, before := g.shut(), l.raw.writes.Load()
		var done sync.WaitGroup
		for i := range 512 {
			done.Go(func() {
				if got, err := a.Call(t.Context(), "b", 1, fmt.Append(nil, i)); err != nil || string(got) != fmt.Sprint(i) {
					t.Errorf("got %q, %v, want %d", got, err, i)
				}
			})
		}
		synctest.Wait()
		open()
		done.Wait()
		if n := l.raw.writes.Load() - before; n > 3 {
			t.Error(n, "writes for 512 calls")
		}
	})
}

// way returns the connection to a node.
func (p *Port) way(node string) *caller {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routes[node].caller
}

// What waits behind a write is unsent, whether its caller's time ends or the
// connection does; what is being written may have been done.
func TestWhatWaitsBehindAWriteIsUnsent(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		for name, end := range map[string]func(){
			"the connection breaks": func() { a.breakAll() }, // what was not sent goes over the next one
			"its time is over":      func() { after(time.Second) },
		} {
			open := g.shut()
			var first, second, tooMuch error
			var done sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			done.Go(func() { _, first = a.Call(ctx, "b", 1, make([]byte, 100_000)) })
			synctest.Wait()
			done.Go(func() { _, second = a.Call(ctx, "b", 1, make([]byte, 1<<20)) })
			synctest.Wait()
			done.Go(func() { _, tooMuch = a.Call(ctx, "b", 1, []byte("x")) })
			synctest.Wait()
			if !errors.Is(tooMuch, errBacklog) || !errors.Is(tooMuch, ErrUnreachable) {
				t.Errorf("%s: beyond the bound: %v", name, tooMuch)
			}
			end()
			synctest.Wait()
			open()
			done.Wait()
			if !errors.Is(first, cloakroom.ErrOutcomeUnknown) || errors.Is(first, cloakroom.ErrUnavailable) {
				t.Errorf("%s: what was being written: %v", name, first)
			}
			if over := name == "its time is over"; errors.Is(second, ErrUnreachable) != over || (second != nil) != over {
				t.Errorf("%s: what waited: %v", name, second)
			}
			synctest.Wait()
			if n := seen.Swap(0); n != 1 { // of the two
				t.Errorf("%s: %d calls were handled", name, n)
			}
			cancel()
			wellFor(t, a, "b")
			seen.Store(0)
		}
	})
}

// A write that fails says so at once to all who wait.
func TestAFailedWriteEndsTheConnection(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		g.broken = errors.New("no route to host")
		from := time.Now()
		if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, cloakroom.ErrOutcomeUnknown) || !errors.Is(err, g.broken) {
			t.Error(err)
		}
		if took := time.Since(from); took != 0 || seen.Load() != 0 {
			t.Error("took", took, "and was handled", seen.Load(), "times")
		}
		g.broken = nil
		wellFor(t, a, "b")
	})
}

// A connection that was lost unnoticed costs a call nothing but time.
func TestADeadConnectionIsReplaced(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		a.mu.Lock()
		dead := a.routes["b"]
		a.mu.Unlock()
		dead.caller.link.cut(errors.New("lost"))
		a.mu.Lock()
		a.routes["b"] = dead
		a.mu.Unlock()
		from := time.Now()
		wellFor(t, a, "b")
		if took := time.Since(from); took != 0 || seen.Load() != 1 {
			t.Error("took", took, "and was handled", seen.Load(), "times")
		}
	})
}

// Whoever has no time left does not ask.
func TestNoTimeLeftMeansNotSent(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 200 {
			if _, err := a.Call(ctx, "b", 1, nil); !errors.Is(err, ErrUnreachable) {
				t.Fatal(err)
			}
		}
		if n := seen.Load(); n != 0 {
			t.Error(n, "calls were handled")
		}
	})
}

// A large message over a slow way is no stall: pieces of it arrive.
func TestASlowWayIsNoStall(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		g.pause = 20 * time.Millisecond
		body := make([]byte, 8<<20) // 512 records
		from := time.Now()
		if got, err := a.Call(t.Context(), "b", 1, body); err != nil || len(got) != len(body) {
			t.Error(len(got), err)
		}
		if took := time.Since(from); took < 10*time.Second {
			t.Error("took", took, "only: the test proves nothing")
		}
	})
}

// A node that moves while it is dialled leaves no connection behind.
func TestADialThatIsOvertakenIsDropped(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		c := r.start("c")
		_, life, _ := r.resolve("c")
		g.slow = map[string]time.Duration{"c:1": time.Second}
		var late error
		var done sync.WaitGroup
		done.Go(func() { _, late = a.Call(t.Context(), "c", 1, nil) })
		synctest.Wait()
		r.register("c", "c:other", life)
		if _, err := a.Call(t.Context(), "c", 1, nil); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		done.Wait()
		if !errors.Is(late, ErrUnreachable) {
			t.Error(late)
		}
		after(time.Second)
		if n := c.Stats().Connections; n != 0 {
			t.Error(n, "connections")
		}
	})
}

// Who is refused while it still talks hears why.
func TestAnAlertIsHeardByWhoStillWrites(t *testing.T) {
	gated(t, func(t *testing.T, r *rig, g *gate, a *Port, seen *atomic.Int64) {
		strange := newRig(t, r.carrier)
		strange.start("s", func(cfg *Config) { cfg.Roots, cfg.Certificate = strange.ca.Roots(), r.ca.Node("s") })
		_, life, _ := strange.resolve("s")
		r.register("s", "s:1", life)
		g.pause = 10 * time.Millisecond
		if _, err := a.Call(t.Context(), "s", 1, nil); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
}
