package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloakroom/cluster/peer/peertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testCluster = [16]byte{0: 0xc1, 15: 0x0a}

// rig is a register of members and a network between them.
type rig struct {
	t   *testing.T
	net peertest.Network

	mu      sync.Mutex
	members []Member
	cut     map[string]bool // "a>b": a reaches b no more
	heard   map[string]int  // "a<b": a got an answer of b
	lives   int
}

func newRig(t *testing.T) *rig {
	t.Cleanup(func() { <-time.After(3 * time.Second) }) // run last: memberlist's last probes end
	return &rig{t: t, cut: map[string]bool{}, heard: map[string]int{}}
}

// member is a member that gossips.
type member struct {
	*Gossip
	self     Member
	listener net.Listener
	log      *strings.Builder
	conns    sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

// register makes a new life of a node.
func (r *rig) register(node string) Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives++
	m := Member{node, fmt.Sprintf("%032x", r.lives)}
	r.members = slices.DeleteFunc(r.members, func(other Member) bool { return other.Node == node })
	r.members = append(r.members, m)
	return m
}

func (r *rig) remove(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = slices.DeleteFunc(r.members, func(m Member) bool { return m.Node == node })
}

func (r *rig) all() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}

// sever cuts the way from a to b, or mends it.
func (r *rig) sever(a, b string, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut[a+">"+b] = is
}

func (r *rig) severed(a, b string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut[a+">"+b]
}

func (r *rig) answers(a, b string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard[a+"<"+b]
}

// start registers a node and lets it gossip.
func (r *rig) start(node string) *member {
	r.t.Helper()
	m := &member{self: r.register(node), log: &strings.Builder{}}
	dial := func(ctx context.Context, to string) (net.Conn, error) {
		if r.severed(node, to) {
			return nil, errors.New("cut")
		}
		conn, err := r.net.Dial(ctx, to)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write([]byte(node + "/")); err != nil {
			return nil, err
		}
		return &severable{conn, r, node, to}, nil
	}
	heard := func(other Member) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.heard[node+"<"+other.Node]++
	}
	g, err := New(Config{Self: m.self, Cluster: testCluster, Members: r.all, Dial: dial, Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: m.log}, nil)), Heard: heard})
	if err != nil {
		r.t.Fatal(err)
	}
	m.Gossip = g
	if m.listener, err = r.net.Listen(node); err != nil {
		r.t.Fatal(err)
	}
	m.conns.Go(m.accept)
	if err := g.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(m.stop)
	return m
}

// severable loses what is written once the way is cut.
type severable struct {
	net.Conn
	r        *rig
	from, to string
}

func (s *severable) Write(b []byte) (int, error) {
	if s.r.severed(s.from, s.to) {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

type lockedWriter struct {
	mu sync.Mutex
	w  *strings.Builder
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// accept stands for the port: it knows who calls.
func (m *member) accept() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.open = append(m.open, conn)
		m.mu.Unlock()
		m.conns.Go(func() {
			var node []byte
			for b := make([]byte, 1); ; node = append(node, b[0]) {
				if _, err := conn.Read(b); err != nil {
					return
				}
				if b[0] == '/' {
					break
				}
			}
			m.Serve(conn, Member{string(node), m.self.Life})
		})
	}
}

// stop ends the member as a crash would: nobody is told.
func (m *member) stop() {
	m.Close()
	m.listener.Close()
	m.mu.Lock()
	for _, conn := range m.open {
		conn.Close()
	}
	m.mu.Unlock()
	m.conns.Wait()
}

// within waits until a condition holds, on the bubble's clock.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !holds() {
		if time.Since(begun) > limit {
			t.Fatalf("after %s still not: %s", limit, what)
		}
		<-time.After(100 * time.Millisecond)
	}
	return time.Since(begun)
}

func TestMembersHearOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, b, c := r.start("a"), r.start("b"), r.start("c")
		all := []*member{a, b, c}
		within(t, 15*time.Second, "everybody knows everybody", func() bool {
			for _, m := range all {
				for _, other := range all {
					if m != other && !m.Alive(other.self) {
						return false
					}
				}
			}
			return true
		})
		within(t, 10*time.Second, "everybody has answered everybody", func() bool {
			return r.answers("a", "b") > 0 && r.answers("a", "c") > 0 && r.answers("b", "a") > 0 && r.answers("c", "b") > 0
		})
		if a.Alive(a.self) || a.Alive(Member{"b", a.self.Life}) {
			t.Error("alive is who was never spoken of")
		}

		b.stop()
		took := within(t, 20*time.Second, "b is missed by both", func() bool { return !a.Alive(b.self) && !c.Alive(b.self) })
		t.Logf("missed after %s", took)
		if !a.Alive(c.self) || a.Stats().Alive != 1 {
			t.Error("c is missed, too")
		}

		again := r.start("b")
		a.Look()
		within(t, 15*time.Second, "b is back as another life", func() bool {
			return a.Alive(again.self) && c.Alive(again.self) && again.Alive(a.self) && again.Alive(c.self)
		})
		if a.Alive(b.self) {
			t.Error("the life that is over is alive")
		}
	})
}

// A member that a third one reaches is not missed: that is what a rumour is
// worth beside this node's own calls.
func TestAMemberThatOthersReachIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, b, c := r.start("a"), r.start("b"), r.start("c")
		within(t, 15*time.Second, "all there", func() bool { return a.Alive(b.self) && a.Alive(c.self) && c.Alive(b.self) && b.Alive(a.self) })
		r.sever("a", "b", true)
		r.sever("b", "a", true)
		<-time.After(2 * time.Second)
		before := r.answers("a", "b")
		<-time.After(60 * time.Second)
		if got := r.answers("a", "b") - before; got != 0 {
			t.Errorf("b answered %d times over a way that is cut", got)
		}
		if !a.Alive(b.self) || !b.Alive(a.self) {
			t.Error("missed, although c reaches both")
		}
		r.sever("c", "b", true)
		within(t, 40*time.Second, "b is missed when nobody reaches it", func() bool { return !a.Alive(b.self) && !c.Alive(b.self) })
		for _, way := range []string{"a>b", "b>a", "c>b"} {
			r.sever(way[:1], way[2:], false)
		}
		within(t, 60*time.Second, "found again", func() bool { return a.Alive(b.self) && c.Alive(b.self) && b.Alive(a.self) })
	})
}

func TestWhoIsNotRegisteredIsNotSpokenOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, b := r.start("a"), r.start("b")
		within(t, 15*time.Second, "both there", func() bool { return a.Alive(b.self) && b.Alive(a.self) })
		r.remove("b")
		within(t, 20*time.Second, "the removed one is forgotten", func() bool { return !a.Alive(b.self) })
		<-time.After(30 * time.Second)
		if a.Alive(b.self) {
			t.Error("it came back")
		}
	})
}

func TestWhoLeavesIsMissedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, b := r.start("a"), r.start("b")
		within(t, 15*time.Second, "both there", func() bool { return a.Alive(b.self) && b.Alive(a.self) })
		if err := b.Leave(); err != nil {
			t.Error(err)
		}
		if took := within(t, 2*time.Second, "missed", func() bool { return !a.Alive(b.self) }); took > time.Second {
			t.Errorf("missed after %s", took)
		}
	})
}

// A peer that does not read, and one that floods, cost packets and nothing else.
func TestNobodyHoldsUpTheGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := r.start("a")
		silent := r.register("s")
		listener, err := r.net.Listen("s")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		big := make([]byte, maxPacket)
		for range 4 * laneQueue {
			if !a.transport.push(silent, big) {
				a.transport.dropped.Add(1)
			}
		}
		if a.Stats().Dropped == 0 {
			t.Error("a queue has no end")
		}
		b := r.start("b")
		flood, err := r.net.Dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		defer flood.Close()
		flood.Write([]byte("b/p"))
		for range 4 * arrivals {
			if _, err := flood.Write(appendPacket(nil, []byte("no packet of memberlist's"))); err != nil {
				t.Fatal(err)
			}
		}
		within(t, 30*time.Second, "a and b gossip", func() bool { return a.Alive(b.self) && b.Alive(a.self) })
	})
}

func TestLanesEndWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		cfg := Config{Self: r.register("a"), Members: r.all, Now: time.Now,
			Dial: func(ctx context.Context, node string) (net.Conn, error) { return r.net.Dial(ctx, node) }}
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		tr := newTransport(&cfg)
		defer tr.Shutdown()
		b := r.register("b")
		for range 3 {
			tr.push(b, []byte("x"))
		}
		<-time.After(idleTime / 2)
		lanes := func() int {
			synctest.Wait()
			tr.mu.Lock()
			defer tr.mu.Unlock()
			return len(tr.lanes)
		}
		if n := lanes(); n != 1 {
			t.Fatalf("%d lanes, want 1", n)
		}
		<-time.After(idleTime)
		if n := lanes(); n != 0 {
			t.Errorf("%d lanes after a minute of silence", n)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{Self: Member{"a/b", "12"}, Probe: -1})
	for _, want := range []string{"Self", "Members, Dial and Now", "Probe"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
