package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
	"cloakroom/cluster/peer/peertest"
)

// A slow answer is no silence: the peer is asked whether it is there, and is.
func TestASlowAnswerIsAwaited(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		b := r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			after(50 * time.Second)
			return body, ctx.Err()
		}))
		wellFor(t, a, "b")
		if b.Stats().Served != 1 {
			t.Error(b.Stats())
		}
	})
}

// The handler's time ends with the caller's, also when that has set none.
func TestDeadlinesTravel(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		took := make(chan time.Duration, 1)
		wait := handledBy(func(ctx context.Context, _ Peer, _ uint8, _ []byte) ([]byte, error) {
			from := time.Now()
			<-ctx.Done()
			took <- time.Since(from)
			return nil, cloakroom.ErrUnavailable
		})
		skewed := func(cfg *Config) { cfg.Now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) } }
		a, c := r.start("a"), r.start("c", skewed)
		r.start("b", wait)
		for _, test := range []struct {
			from       *Port
			give, want time.Duration
		}{{a, 1500 * time.Millisecond, 1500 * time.Millisecond}, {a, 0, MaxCall}, {a, 2 * time.Hour, MaxCall}, {c, time.Second, time.Second}} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if test.give > 0 {
				ctx, cancel = context.WithTimeout(ctx, test.give)
			}
			test.from.Call(ctx, "b", 1, nil)
			if got := <-took; got < test.want || got > min(test.want+500*time.Millisecond, MaxCall) {
				t.Errorf("of %v, %v came through, want %v", test.give, got, test.want)
			}
			cancel()
			after(230 * time.Millisecond) // not on a tick
		}
	})
}

// A handler that takes no notice holds up its caller for MaxCall at most.
func TestCallsEnd(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.start("b", handledBy(func(context.Context, Peer, uint8, []byte) ([]byte, error) {
			after(10 * time.Minute)
			return nil, nil
		}))
		from := time.Now()
		_, err := a.Call(t.Context(), "b", 1, nil)
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || time.Since(from) != MaxCall {
			t.Error(err, "after", time.Since(from))
		}
		after(10 * time.Minute)
	})
}

// A peer that is there and says nothing is cut off within Config.Stall, and
// the outcome of what it was asked is unknown. It delays nobody else.
func TestASilentPeerIsCutOff(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.start("b")
		cfg := r.config("s")
		r.register("s", "s:1", cfg.Life)
		you, _ := parseLife(cfg.Life)
		stop := r.impostor("s:1", r.ca.Node("s"), answer{life: you, node: "s"})
		defer stop()
		from := time.Now()
		failed := make(chan error, 1)
		go func() { _, err := a.Call(t.Context(), "s", 1, nil); failed <- err }() // ends with the call
		for range 20 {
			start := time.Now()
			wellFor(t, a, "b")
			if took := time.Since(start); took != 0 {
				t.Error("another peer's answer took", took)
			}
			after(100 * time.Millisecond)
		}
		err := <-failed
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || !errors.Is(err, errSilent) {
			t.Error(err)
		}
		if took := time.Since(from); took > 3500*time.Millisecond || took < 2500*time.Millisecond {
			t.Error("cut off after", took)
		}
	})
}

// unread is a carrier whose dialled connections stop reading when told to.
type unread struct {
	*peertest.Network
	stop atomic.Bool
}

func (u *unread) Listen(addr string) (net.Listener, error) {
	l, err := u.Network.Listen(addr)
	return &unreadListener{l, u}, err
}

type unreadListener struct {
	net.Listener
	u *unread
}

func (l *unreadListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &unreadConn{Conn: conn, u: l.u, closed: make(chan struct{})}, nil
}

type unreadConn struct {
	net.Conn
	u      *unread
	once   sync.Once
	closed chan struct{}
}

func (c *unreadConn) Read(b []byte) (int, error) {
	if c.u.stop.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Read(b)
}

func (c *unreadConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A peer that stops reading holds up no caller beyond its deadline, and is cut
// off; callers of others notice nothing.
func TestAPeerThatNeverReadsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := &unread{Network: &peertest.Network{}}
		r := newRig(t, deaf.Network)
		a := r.start("a")
		r.start("b")
		r.start("deaf", func(cfg *Config) { cfg.Carrier = deaf })
		wellFor(t, a, "deaf")
		deaf.stop.Store(true)
		big := make([]byte, 1<<20)
		var done sync.WaitGroup
		outcomes := make([]error, 40)
		for i := range outcomes {
			done.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				from := time.Now()
				_, outcomes[i] = a.Call(ctx, "deaf", 1, big)
				if took := time.Since(from); took > 500*time.Millisecond {
					t.Errorf("call %d was held up for %v", i, took)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		wellFor(t, a, "b")
		if took := time.Since(start); took != 0 {
			t.Error("another peer's answer took", took)
		}
		done.Wait()
		unsent := 0
		for i, err := range outcomes {
			if errors.Is(err, ErrUnreachable) {
				unsent++
			} else if !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if unsent < 30 {
			t.Error("only", unsent, "of 40 are known to be unsent")
		}
		after(4 * time.Second)
		a.mu.Lock()
		_, still := a.routes["deaf"]
		a.mu.Unlock()
		if still {
			t.Error("not cut off")
		}
	})
}

// Somebody who asks and never reads the answers is cut off, and what he asked
// stays within bounds until then.
func TestACallerThatNeverReadsIsCutOff(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		r.start("d")
		_, life, _ := r.resolve("d")
		var handling, most atomic.Int64
		b := r.start("b", handledBy(func(ctx context.Context, from Peer, _ uint8, body []byte) ([]byte, error) {
			if n := handling.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer handling.Add(-1)
			after(time.Millisecond)
			if from.Life != life {
				return body, nil
			}
			return make([]byte, 32<<10), nil
		}))
		deaf := r.admitted("d", life, "b", "b:1")
		from, asked := time.Now(), 0
		for id := uint32(1); ; id++ {
			f := frame{id: id, kind: request, detail: 1, millis: 60_000}
			if _, err := deaf.Write(f.append(nil, make([]byte, 100))); err != nil {
				break
			}
			asked++
		}
		if took := time.Since(from); took > 4*time.Second {
			t.Error("cut off after", took)
		}
		if most.Load() > maxInFlight || asked > 20_000 {
			t.Error(most.Load(), "calls handled at once,", asked, "taken")
		}
		wellFor(t, a, "b")
		synctest.Wait()
		if n := b.Stats().Connections; n != 1 {
			t.Error(n, "connections")
		}
	})
}

// Answers that are not read are not kept without end.
func TestUnreadAnswersAreBounded(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		r.start("a")
		b := r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			return make([]byte, 32<<10), nil
		}), func(cfg *Config) { cfg.backlog = 1 << 20 })
		_, life, _ := r.resolve("a")
		deaf := r.admitted("a", life, "b", "b:1")
		from := time.Now()
		for id, err := uint32(1), error(nil); err == nil; id++ {
			_, err = deaf.Write((&frame{id: id, kind: request, detail: 1, millis: 60_000}).append(nil, nil))
		}
		synctest.Wait()
		if n := b.Stats().Connections; n != 0 || time.Since(from) != 0 {
			t.Errorf("%d connections after %v", n, time.Since(from))
		}
	})
}

// Bodies of calls that are being answered stay within a bound, and come in as
// others are done.
func TestBodiesAreBounded(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		r.start("a")
		_, life, _ := r.resolve("a")
		var held, most atomic.Int64
		r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			if n := held.Add(int64(len(body))); n > most.Load() {
				most.Store(n)
			}
			after(10 * time.Millisecond)
			held.Add(-int64(len(body)))
			return nil, nil
		}), func(cfg *Config) { cfg.bodies = 1 << 20 })
		conn := r.admitted("a", life, "b", "b:1")
		from := time.Now()
		go func() { // ends when it was read
			for id := range uint32(20) {
				conn.Write((&frame{id: id + 1, kind: request, millis: 60_000}).append(nil, make([]byte, 256<<10)))
			}
		}()
		if _, err := io.ReadFull(conn, make([]byte, 20*frameHead)); err != nil {
			t.Error(err)
		}
		if n, took := most.Load(), time.Since(from); n != 1<<20 || took != 50*time.Millisecond {
			t.Errorf("%d bytes at once, took %v", n, took)
		}
	})
}

// While answers are not read, no more is asked; when they are, all goes on.
func TestReadingGoesOn(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		r.start("a")
		_, life, _ := r.resolve("a")
		var handled atomic.Int64
		r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			handled.Add(1)
			return make([]byte, 10_000), nil
		}), func(cfg *Config) { cfg.bodies = 1 << 20 })
		conn := r.admitted("a", life, "b", "b:1")
		const asked = 1000
		go func() { // ends when it was read
			for id := range uint32(asked) {
				conn.Write((&frame{id: id + 1, kind: request, millis: 60_000}).append(nil, nil))
				after(100 * time.Microsecond)
			}
		}()
		after(2 * time.Second)
		if n := handled.Load(); n > 200 {
			t.Error(n, "handled with nobody reading")
		}
		if _, err := io.ReadFull(conn, make([]byte, asked*(10_000+frameHead))); err != nil {
			t.Error(err)
		}
	})
}

// More calls than a connection carries wait for their turn, or for their
// deadline; then nothing of them was sent.
func TestCallsWaitForTheirTurn(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		var handling, most atomic.Int64
		r.start("b", handledBy(func(ctx context.Context, _ Peer, _ uint8, body []byte) ([]byte, error) {
			n := handling.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			defer handling.Add(-1)
			after(time.Second)
			return body, nil
		}))
		var done sync.WaitGroup
		for range 2 * maxInFlight {
			done.Go(func() {
				if _, err := a.Call(t.Context(), "b", 1, nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for range 100 { // their turn would come after two seconds
			done.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
				defer cancel()
				if _, err := a.Call(ctx, "b", 1, nil); !errors.Is(err, ErrUnreachable) {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if n := most.Load(); n != maxInFlight {
			t.Error(n, "at once")
		}
	})
}

// A peer that answers pings and never a call is cut off too.
func TestAPeerThatOwesTooMuchIsCutOff(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		cfg := r.config("s")
		you, _ := parseLife(cfg.Life)
		r.register("s", "s:1", cfg.Life)
		stop := r.misbehaving("s:1", "s", you, func(f frame, conn io.Writer) {
			if f.kind == ping {
				conn.Write((&frame{kind: pong}).append(nil, nil))
			}
		})
		defer stop()
		var done sync.WaitGroup
		for range maxGhosts + 1 {
			done.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err := a.Call(ctx, "s", 1, nil)
				if !errors.Is(err, cloakroom.ErrOutcomeUnknown) {
					t.Error(err)
				}
			})
		}
		done.Wait()
		after(4 * time.Second)
		if n := a.Stats().Connections; n != 0 {
			t.Error(n, "connections")
		}
	})
}

// misbehaving answers the handshake as it should, and frames as it is told.
func (r *rig) misbehaving(addr, node string, me life, answerTo func(frame, io.Writer)) (stop func()) {
	r.t.Helper()
	l, err := r.carrier.Listen(addr)
	if err != nil {
		r.t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	conns.Go(func() { // ends with stop
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, raw)
			mu.Unlock()
			conns.Go(func() { r.misbehave(raw, node, me, answerTo) })
		}
	})
	return func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		conns.Wait()
	}
}

func (r *rig) misbehave(raw net.Conn, node string, me life, answerTo func(frame, io.Writer)) {
	conn := r.tlsServer(raw, node)
	if _, err := readHello(conn); err != nil {
		return
	}
	conn.Write((&answer{life: me, node: node}).append(nil))
	for {
		head := make([]byte, frameHead)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		f, err := parseFrame(head, true)
		if err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, conn, int64(f.size)); err != nil {
			return
		}
		answerTo(f, conn)
	}
}

// Frames that break the rules end the connection, and only that.
func TestBrokenFramesEndTheConnection(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		_, life, _ := r.resolve("a")
		claim := binary.BigEndian.AppendUint32(nil, minFrame+MaxMessage+1)
		for name, bytes := range map[string][]byte{
			"garbage":            bytes.Repeat([]byte{0xff}, 64),
			"an answer":          (&frame{id: 1, kind: reply}).append(nil, nil),
			"an endless message": append(claim, (&frame{id: 1, kind: request, millis: 1}).append(nil, nil)[4:]...),
		} {
			conn := r.admitted("a", life, "b", "b:1")
			conn.Write(bytes)
			if took := hungUp(t, conn); took != 0 {
				t.Errorf("%s: cut after %v", name, took)
			}
		}
		synctest.Wait()
		if n := b.Stats().Connections; n != 0 {
			t.Error(n, "connections")
		}
		wellFor(t, a, "b")
	})
}

// An answer to a question that was not asked, or asked and answered, ends the
// connection: ids are how answers find their callers.
func TestUnaskedAnswersEndTheConnection(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a := r.start("a")
		cfg := r.config("s")
		you, _ := parseLife(cfg.Life)
		r.register("s", "s:1", cfg.Life)
		for name, reply := range map[string]func(frame, io.Writer){
			"another id": func(f frame, w io.Writer) { w.Write((&frame{id: f.id + 1, kind: reply}).append(nil, nil)) },
			"a request":  func(f frame, w io.Writer) { w.Write(f.append(nil, nil)) },
			"garbage":    func(f frame, w io.Writer) { w.Write([]byte(strings.Repeat("garbage", 10))) },
			"hangs up":   func(f frame, w io.Writer) { w.(io.Closer).Close() },
		} {
			stop := r.misbehaving("s:1", "s", you, reply)
			from := time.Now()
			_, err := a.Call(t.Context(), "s", 1, nil)
			if !errors.Is(err, cloakroom.ErrOutcomeUnknown) || errors.Is(err, cloakroom.ErrUnavailable) || time.Since(from) != 0 {
				t.Errorf("%s: %v after %v", name, err, time.Since(from))
			}
			synctest.Wait()
			if n := a.Stats().Connections; n != 0 {
				t.Errorf("%s: %d connections", name, n)
			}
			stop()
		}
		twice := r.misbehaving("s:1", "s", you, func(f frame, w io.Writer) {
			two := (&frame{id: f.id, kind: reply}).append(nil, []byte("1"))
			w.Write((&frame{id: f.id, kind: reply}).append(two, []byte("2")))
		})
		defer twice()
		if got, err := a.Call(t.Context(), "s", 1, nil); err != nil || string(got) != "1" {
			t.Errorf("got %q, %v", got, err)
		}
		synctest.Wait()
		if n := a.Stats().Connections; n != 0 {
			t.Errorf("two answers: %d connections", n)
		}
	})
}
