package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/cluster/peer/peertest"
)

type handler = func(ctx context.Context, from Peer, method uint8, body []byte) ([]byte, error)

func handledBy(h handler) func(*Config) { return func(cfg *Config) { cfg.Handle = h } }

func TestCallsTellWhoAsks(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		b := r.start("b", handledBy(func(ctx context.Context, from Peer, method uint8, body []byte) ([]byte, error) {
			at, ok := ctx.Deadline()
			return fmt.Appendf(nil, "%s %s %v %d %s %v", from.Node, from.Life[28:], from.Admitted, method, body, ok && time.Until(at) <= 1500*time.Millisecond), nil
		}), func(cfg *Config) { cfg.Guests = []uint8{7} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := a.Call(ctx, "b", 200, []byte("hi"))
		if want := "a 0001 true 200 hi true"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		guest, err := Open(r.config("g")) // not registered
		if err != nil {
			t.Fatal(err)
		}
		defer guest.Close()
		got, who, err := guest.CallAt(ctx, b.Addr(), 7, []byte("join"))
		if want := "g 0003 false 7 join true"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if who.Key == [32]byte{} || who.Bound == [32]byte{} {
			t.Error("nothing is known of the other end's key, or of the connection")
		}
		if who.Key, who.Bound = [32]byte{}, [32]byte{}; who != (Peer{Node: "b", Life: fmt.Sprintf("%032x", 2)}) {
			t.Errorf("answered by %+v", who)
		}
		if _, _, err = guest.CallAt(ctx, b.Addr(), 1, nil); !errors.Is(err, cloakroom.ErrDenied) {
			t.Error("a guest may call what it likes:", err)
		}
		if _, err = guest.Call(ctx, "b", 7, nil); !errors.Is(err, ErrRefused) {
			t.Error("a stranger is let in:", err)
		}
		synctest.Wait()
		if got := b.Stats(); got.Connections != 1 || got.Served != 2 {
			t.Error("a guest's connection stays:", got)
		}
	})
}

// What Handle promises, the caller gets; all else is an unknown outcome.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		var answer error
		r.start("b", handledBy(func(context.Context, Peer, uint8, []byte) ([]byte, error) { return []byte("x"), answer }))
		known := []error{cloakroom.ErrUnavailable, cloakroom.ErrOverloaded, cloakroom.ErrMalformed, cloakroom.ErrDenied, cloakroom.ErrStarting}
		check := func(want error) {
			_, err := a.Call(t.Context(), "b", 1, nil)
			for _, sentinel := range append(known, cloakroom.ErrOutcomeUnknown) {
				if errors.Is(err, sentinel) != (sentinel == want) {
					t.Errorf("%v came as %v", answer, err)
				}
			}
			if errors.Is(err, ErrUnreachable) {
				t.Errorf("%v came as unreachable, it was reached: %v", answer, err)
			}
		}
		for _, sentinel := range known {
			answer = fmt.Errorf("wrapped: %w", sentinel)
			check(sentinel)
		}
		answer = ErrUnreachable // of a third
		check(cloakroom.ErrUnavailable)
		answer = fmt.Errorf("%w: %w", cloakroom.ErrUnavailable, cloakroom.ErrOutcomeUnknown)
		check(cloakroom.ErrOutcomeUnknown)
		answer = io.ErrShortWrite
		check(cloakroom.ErrOutcomeUnknown)
	})
}

func TestSizesHaveLimits(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.start("b", handledBy(func(_ context.Context, _ Peer, method uint8, body []byte) ([]byte, error) {
			if method == 2 {
				return append(body, 0), nil
			}
			return body, nil
		}))
		largest := make([]byte, MaxMessage)
		largest[MaxMessage-1] = 1
		if got, err := a.Call(t.Context(), "b", 1, largest); err != nil || !bytes.Equal(got, largest) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := a.Call(t.Context(), "b", 1, make([]byte, MaxMessage+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
			t.Error("a larger one:", err)
		}
		if _, _, err := a.CallAt(t.Context(), "b:1", 1, make([]byte, MaxMessage+1)); !errors.Is(err, cloakroom.ErrTooLarge) {
			t.Error("a larger one:", err)
		}
		way := a.way("b")
		if _, err := a.Call(t.Context(), "b", 2, largest); !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Error("a larger reply:", err)
		}
		if wellFor(t, a, "b"); a.way("b") != way {
			t.Error("a larger reply took the connection along")
		}
	})
}

// Nothing was sent in any of these.
func TestUnreachable(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.register("nobody", "nobody:1", fmt.Sprintf("%032x", 99))
		r.register("silent", "silent:1", fmt.Sprintf("%032x", 98))
		r.register("lifeless", "nobody:1", "")
		if _, err := r.carrier.Listen("silent:1"); err != nil {
			t.Fatal(err)
		}
		r.register("mute", "mute:1", fmt.Sprintf("%032x", 97))
		mute, err := r.carrier.Listen("mute:1")
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the connection
			if raw, err := mute.Accept(); err == nil {
				io.Copy(io.Discard, r.tlsServer(raw, "mute"))
			}
		}()
		soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		closed := r.start("closed")
		closed.Close()
		for _, test := range []struct {
			name, node string
			ctx        context.Context
			from       *Port
			took       time.Duration
		}{
			{"not registered", "stranger", t.Context(), a, 0},
			{"nobody listens", "nobody", t.Context(), a, 0},
			{"no life", "lifeless", t.Context(), a, 0},
			{"does not answer in the caller's time", "silent", soon, a, 300 * time.Millisecond},
			{"does not answer in its time", "silent", t.Context(), a, 1700 * time.Millisecond},
			{"says nothing after TLS", "mute", t.Context(), a, 2 * time.Second},
			{"the caller's time is over", "a", over, a, 0},
			{"this port is closed", "a", t.Context(), closed, 0},
		} {
			from := time.Now()
			_, err := test.from.Call(test.ctx, test.node, 1, nil)
			if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrRefused) || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Errorf("%s: %v", test.name, err)
			}
			if took := time.Since(from); took != test.took {
				t.Errorf("%s: took %v", test.name, took)
			}
			if test.ctx == soon && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	})
}

// A failed dial stands for a moment, and no longer.
func TestDiallingIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counting := &countingCarrier{Carrier: &peertest.Network{}}
		r := newRig(t, counting)
		a := r.start("a")
		b := r.config("b")
		r.register("b", "b:1", b.Life)
		for range 1000 {
			if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrUnreachable) {
				t.Fatal(err)
			}
		}
		if n := counting.dials.Load(); n != 1 {
			t.Error(n, "dials")
		}
		p, err := Open(b)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		after(2 * dialPause)
		var done sync.WaitGroup
		for range 100 {
			done.Go(func() { wellFor(t, a, "b") })
		}
		done.Wait()
		if n := counting.dials.Load(); n != 2 {
			t.Error(n, "dials for", 100, "calls at once")
		}
	})
}

type countingCarrier struct {
	Carrier
	dials atomic.Int64
}

func (c *countingCarrier) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c.dials.Add(1)
	return c.Carrier.Dial(ctx, addr)
}

// Between "nothing was sent" and "it may have been done" lies whether a write
// may be tried again. Callers with little patience, a handler that takes its
// time, a peer that often does not read, connections that break: what is said
// to be unsent was never seen by the handler, and what was answered was seen
// once.
func TestUnreachableIsExact(t *testing.T) {
	for range 30 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { exactness(t, seed) })
	}
}

func exactness(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		net := &jammed{Network: &peertest.Network{Window: 2 << 10}, rnd: rand.New(rand.NewPCG(seed, 1))}
		r := newRig(t, net)
		a := r.start("a")
		var mu sync.Mutex
		seen := map[uint64]int{}
		b := r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			n := binary.BigEndian.Uint64(body)
			mu.Lock()
			seen[n]++
			mu.Unlock()
			after(time.Duration(n%7) * time.Millisecond)
			return body[:8], nil
		}))
		outcomes := make([]error, 400)
		rnd := rand.New(rand.NewPCG(seed, 2))
		var done sync.WaitGroup
		for n := range outcomes {
			patience := time.Duration(rnd.IntN(40)+1) * time.Millisecond
			size, pause := 8+rnd.IntN(3000), time.Duration(rnd.IntN(3))*time.Millisecond
			done.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				body := make([]byte, size)
				binary.BigEndian.PutUint64(body, uint64(n))
				got, err := a.Call(ctx, "b", 1, body)
				if outcomes[n] = err; err == nil && binary.BigEndian.Uint64(got) != uint64(n) {
					t.Errorf("call %d got the answer of %x", n, got)
				}
			})
			after(pause)
			if rnd.IntN(80) == 0 {
				b.breakAll()
			}
		}
		done.Wait()
		after(time.Minute) // what was on its way arrives, or never
		counts := map[string]int{}
		mu.Lock()
		defer mu.Unlock()
		for n, err := range outcomes {
			times := seen[uint64(n)]
			switch {
			case err == nil && times == 1:
				counts["answered"]++
			case errors.Is(err, ErrUnreachable) && !errors.Is(err, cloakroom.ErrOutcomeUnknown) && times == 0:
				counts["unsent"]++
			case errors.Is(err, cloakroom.ErrOutcomeUnknown) && !errors.Is(err, cloakroom.ErrUnavailable) && times <= 1:
				counts[fmt.Sprintf("unknown, seen %d times", times)]++
			default:
				t.Errorf("call %d was seen %d times, and ended with %v", n, times, err)
			}
		}
		t.Log(counts)
	})
}

// breakAll cuts all connections of a port as the network would.
func (p *Port) breakAll() {
	p.mu.Lock()
	links := p.openLinks()
	p.mu.Unlock()
	for _, l := range links {
		l.raw.Close()
	}
}

// jammed is a network whose readers stop now and then.
type jammed struct {
	*peertest.Network
	mu  sync.Mutex
	rnd *rand.Rand
}

func (j *jammed) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := j.Network.Dial(ctx, addr)
	return &jammedConn{conn, j}, err
}

func (j *jammed) Listen(addr string) (net.Listener, error) {
	l, err := j.Network.Listen(addr)
	return &jammedListener{l, j}, err
}

type jammedListener struct {
	net.Listener
	j *jammed
}

func (l *jammedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &jammedConn{conn, l.j}, nil
}

type jammedConn struct {
	net.Conn
	j *jammed
}

func (c *jammedConn) Read(b []byte) (int, error) {
	c.j.mu.Lock()
	jam := c.j.rnd.IntN(10) == 0
	c.j.mu.Unlock()
	if jam {
		after(20 * time.Millisecond)
	}
	return c.Conn.Read(b)
}
