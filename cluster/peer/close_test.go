package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := Open(Config{Handshake: -1})
	if err == nil {
		t.Fatal("opened")
	}
	for _, want := range []string{"node name", "life", "listen", "roots", "certificate", "clock", "Resolve", "time limit"} {
		if !contains(err, want) {
			t.Errorf("no word of %q in: %v", want, err)
		}
	}
	r := newRig(t, nil)
	cfg := r.config("a")
	cfg.Certificate = r.ca.Node("b")
	if _, err := Open(cfg); !contains(err, "names node") {
		t.Error("another node's certificate:", err)
	}
	cfg = r.config("a")
	cfg.Cluster[0]++
	if _, err := Open(cfg); !contains(err, "another cluster") {
		t.Error("another cluster's certificate:", err)
	}
	cfg = r.config("a")
	cfg.Listen = "256.0.0.1:1"
	if _, err := Open(cfg); err == nil {
		t.Error("listens nowhere")
	}
}

// Close ends what is under way: calls in and out, handshakes, streams, and
// says the right thing to each. Afterwards nothing is left.
func TestCloseEndsEverything(t *testing.T) {
	for _, hard := range []bool{false, true} {
		bubbled(t, func(t *testing.T, r *rig) {
			a, b := r.start("a"), r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, cloakroom.ErrUnavailable
			}))
			r.register("silent", "silent:1", b.cfg.Life)
			if _, err := r.carrier.Listen("silent:1"); err != nil {
				t.Fatal(err)
			}
			at := places{"vb1": {"b", "b:1", "b1"}, "vs": {"silent", "silent:1", "s"}}
			a1, b1 := openStream(t, a, replicaConfig("a1", at)), openStream(t, b, replicaConfig("b1", at))
			near, far := connected(t, a1, b1)
			stranger := r.raw("b:1")
			var results [5]error
			var under sync.WaitGroup
			under.Go(func() { _, results[0] = a.Call(t.Context(), "b", 1, nil) })
			under.Go(func() { _, results[1] = b.Call(t.Context(), "silent", 1, nil) })
			under.Go(func() { _, results[2] = b1.Accept() })
			under.Go(func() { _, results[3] = b1.Dial("vs", time.Minute) })
			under.Go(func() { _, results[4] = far.Read(make([]byte, 1)) })
			synctest.Wait()
			from := time.Now()
			if hard {
				b.Cut()
			}
			b.Close()
			b.Close()
			under.Wait()
			if took := time.Since(from); took != 0 {
				t.Error("took", took)
			}
			for i, want := range []error{cloakroom.ErrOutcomeUnknown, ErrUnreachable, net.ErrClosed, ErrUnreachable, nil} {
				if results[i] == nil || want != nil && !errors.Is(results[i], want) {
					t.Errorf("%d: got %v, want %v", i, results[i], want)
				}
			}
			if _, err := near.Read(make([]byte, 1)); err == nil {
				t.Error("the other end is open")
			}
			near.Close()
			if _, err := io.ReadAll(stranger); err != nil {
				t.Error("the handshake goes on:", err)
			}
			synctest.Wait()
			if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrUnreachable) {
				t.Error("it still answers:", err)
			}
			synctest.Wait()
			if n := a.Stats().Connections + b.Stats().Connections; n != 0 {
				t.Error(n, "connections")
			}
		})
	}
}

// On real sockets: a thousand connections of every kind, good and bad, leave
// no goroutine and no descriptor.
func TestAThousandConnectionsLeaveNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	r := newRig(t, nil)
	a, b := r.start("a"), r.start("b", func(cfg *Config) { cfg.Guests = []uint8{1} })
	at := places{"vb1": {"b", b.Addr(), "b1"}}
	a1, b1 := openStream(t, a, replicaConfig("a1", at)), openStream(t, b, replicaConfig("b1", at))
	var accepting sync.WaitGroup
	accepting.Go(func() { // ends with b1
		for {
			conn, err := b1.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() { io.Copy(conn, conn); conn.Close() }) // echoes until the other end closes
		}
	})
	round := func(i int) {
		switch i % 5 {
		case 0:
			if _, _, err := a.CallAt(t.Context(), b.Addr(), 1, nil); err != nil {
				t.Error(err)
			}
		case 1:
			conn, err := a1.Dial("vb1", 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write([]byte("x"))
			io.ReadFull(conn, make([]byte, 1))
			conn.Close()
		case 2:
			conn, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			conn.Write([]byte("garbage garbage"))
			conn.Close()
		case 3:
			wellFor(t, a, "b")
			a.breakAll()
			settle(t, "connections", 0, 0, func() int { return a.Stats().Connections })
		case 4:
			if _, err := a1.Dial("vx", time.Second); err == nil {
				t.Error("reached nobody")
			}
		}
	}
	for i := range 25 {
		round(i)
	}
	settle(t, "connections", 0, 2, func() int { return a.Stats().Connections + b.Stats().Connections })
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for i := range 1000 {
		round(i)
	}
	settle(t, "goroutines", 0, goroutines+4, runtime.NumGoroutine)
	settle(t, "descriptors", 0, descriptors+4, func() int { return openDescriptors(t) })
	a.Close()
	b.Close()
	accepting.Wait()
	settle(t, "connections", 0, 0, func() int { return a.Stats().Connections + b.Stats().Connections })
}

// settle waits until what is counted lies within bounds.
func settle(t *testing.T, what string, low, high int, count func() int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	n := count()
	for range 1000 {
		if n >= low && n <= high {
			return
		}
		<-ticker.C
		n = count()
	}
	t.Errorf("%d %s, want %d to %d", n, what, low, high)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	return len(entries)
}

// On real sockets a refused dialler learns why, although it had said more
// than was read.
func TestARefusalIsHeard(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.start("a"), r.start("b")
	r.remove("a")
	for range 20 {
		_, _, err := a.CallAt(t.Context(), b.Addr(), 1, make([]byte, 1<<20))
		if !errors.Is(err, cloakroom.ErrDenied) {
			t.Error("a guest:", err)
		}
		if _, err = a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrRefused) {
			t.Error("a stranger:", err)
		}
	}
	strange := newRig(t, nil)
	c := strange.start("a")
	for range 20 {
		if _, _, err := c.CallAt(t.Context(), b.Addr(), 1, nil); !errors.Is(err, ErrRefused) {
			t.Error("of another CA:", err)
		}
	}
}

// When nobody can be accepted for a while, for want of descriptors say, the
// port goes on afterwards.
func TestAcceptErrorsPass(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		failing := &failingCarrier{Carrier: r.carrier}
		a := r.start("a")
		r.start("b", func(cfg *Config) { cfg.Carrier = failing })
		wellFor(t, a, "b")
		if failing.left != 0 || failing.failed != 6 {
			t.Errorf("%+v", failing)
		}
	})
}

type failingCarrier struct {
	Carrier
	left, failed int
}

type failingListener struct {
	net.Listener
	c *failingCarrier
}

func (c *failingCarrier) Listen(addr string) (net.Listener, error) {
	l, err := c.Carrier.Listen(addr)
	c.left = 6
	return failingListener{l, c}, err
}

func (l failingListener) Accept() (net.Conn, error) {
	if l.c.left > 0 {
		l.c.left--
		l.c.failed++
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}
