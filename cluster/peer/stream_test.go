package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloakroom"
)

// place is where a replica of a test is.
type place struct{ node, addr, replica string }

type places map[string]place

func (p places) locate(virtualAddr string) (node, addr, replica string, ok bool) {
	at, ok := p[virtualAddr]
	return at.node, at.addr, at.replica, ok
}

func replicaConfig(replica string, at places) StreamConfig {
	return StreamConfig{Group: 4, Generation: 2, Replica: replica, Address: "v" + replica, Locate: at.locate}
}

func openStream(t *testing.T, p *Port, cfg StreamConfig) *Stream {
	t.Helper()
	s, err := p.Stream(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// connected returns both ends of a connection from one stream to another.
func connected(t *testing.T, from, to *Stream) (near, far net.Conn) {
	t.Helper()
	near, err := from.Dial(to.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = to.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestStreamsReachTheReplicaTheyName(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		at := places{"vb1": {"b", "b:1", "b1"}, "vb2": {"b", "b:1", "b2"}, "va1": {"a", "a:1", "a1"}}
		a1, b1, b2 := openStream(t, a, replicaConfig("a1", at)), openStream(t, b, replicaConfig("b1", at)), openStream(t, b, replicaConfig("b2", at))
		for _, to := range []*Stream{b1, b2} {
			near, far := connected(t, a1, to)
			if far.RemoteAddr().String() != "a1" || far.LocalAddr() != to.Addr() || near.RemoteAddr() != to.Addr() || near.LocalAddr() != a1.Addr() {
				t.Error(far.RemoteAddr(), far.LocalAddr(), near.RemoteAddr(), near.LocalAddr())
			}
			message := bytes.Repeat([]byte("raft"), 50_000)
			go near.Write(message) // ends when it was read
			got := make([]byte, len(message))
			if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, message) {
				t.Error("what was read is not what was written:", err)
			}
			near.Close()
			if _, err := far.Read(got); err != io.EOF {
				t.Error("after a close:", err)
			}
			if _, err := near.Read(got); err == nil {
				t.Error("read from a closed connection")
			}
		}
		near, far := connected(t, b2, a1)
		far.SetReadDeadline(time.Now().Add(time.Second))
		from := time.Now()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) != time.Second {
			t.Error("deadline:", err, time.Since(from))
		}
		far.SetDeadline(time.Time{})
		near.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := near.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a write that nobody reads:", err)
		}
	})
}

// The wrong destination must not get a byte: an empty replica under another's
// name would grant votes, and be credited with writes.
func TestStreamsToTheWrongReplicaAreRefused(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		r.register("removed", "removed:1", fmt.Sprintf("%032x", 77))
		at := places{
			"right":        {"b", "b:1", "b1"},
			"old replica":  {"b", "b:1", "b0"},
			"old node":     {"c", "b:1", "b1"},
			"nobody there": {"b", "x:1", "b1"},
			"picky":        {"b", "b:1", "picky"},
		}
		openStream(t, b, replicaConfig("b1", at))
		picky := replicaConfig("picky", at)
		picky.Admit = func(from Peer, replica string) error {
			switch {
			case replica == "old":
				return fmt.Errorf("boot %d: %w", from.Boot, ErrBoot)
			case from.Node != "a" || replica != "known":
				return errors.New("unknown")
			}
			return nil
		}
		openStream(t, b, picky)
		with := func(name string, change func(*StreamConfig)) *Stream {
			cfg := replicaConfig(name, at)
			change(&cfg)
			return openStream(t, a, cfg)
		}
		right := with("a1", func(*StreamConfig) {})
		for _, test := range []struct {
			from *Stream
			to   string
			want error
		}{
			{right, "right", nil},
			{right, "old replica", refusedReplica},
			{right, "old node", refusedNode},
			{with("a2", func(c *StreamConfig) { c.Group++ }), "right", refusedGroup},
			{with("a3", func(c *StreamConfig) { c.Generation++ }), "right", refusedGeneration},
			{right, "picky", refusedSource},
			{with("known", func(*StreamConfig) {}), "picky", nil},
			{with("old", func(*StreamConfig) {}), "picky", refusedBoot},
			{with("wary", func(c *StreamConfig) { c.Meet = func(Peer) error { return ErrBoot } }), "right", refusedBoot},
			{right, "nobody there", ErrUnreachable},
			{right, "not known", ErrUnreachable},
		} {
			conn, err := test.from.Dial(test.to, time.Second)
			if !errors.Is(err, test.want) {
				t.Errorf("%s, %q: got %v, want %v", test.from.Addr(), test.to, err, test.want)
			}
			if (err != nil) != (conn == nil) || err != nil && !errors.Is(err, ErrUnreachable) {
				t.Error(conn, err)
			}
		}
	})
}

func TestStreamConfigIsChecked(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		p := r.start("a")
		good := replicaConfig("a1", nil)
		for name, change := range map[string]func(*StreamConfig){
			"no replica":      func(c *StreamConfig) { c.Replica = "" },
			"a strange one":   func(c *StreamConfig) { c.Replica = "a 1" },
			"no address":      func(c *StreamConfig) { c.Address = "" },
			"nobody to reach": func(c *StreamConfig) { c.Locate = nil },
		} {
			cfg := good
			change(&cfg)
			if _, err := p.Stream(cfg); err == nil {
				t.Error(name, "is accepted")
			}
		}
		s := openStream(t, p, good)
		if _, err := p.Stream(good); err == nil {
			t.Error("two streams for one replica")
		}
		s.Close()
		openStream(t, p, good)
		p.Close()
		good.Replica = "a2"
		if _, err := p.Stream(good); !errors.Is(err, net.ErrClosed) {
			t.Error("on a closed port:", err)
		}
	})
}

// Closing a stream ends all that belongs to its replica, at both ends, and
// nothing else.
func TestStreamCloseCutsItsConnections(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		at := places{"vb1": {"b", "b:1", "b1"}, "vb2": {"b", "b:1", "b2"}, "va1": {"a", "a:1", "a1"}}
		a1, b1, b2 := openStream(t, a, replicaConfig("a1", at)), openStream(t, b, replicaConfig("b1", at)), openStream(t, b, replicaConfig("b2", at))
		out, in := connected(t, b1, a1)
		out2, in2 := connected(t, a1, b1)
		queued, err := a1.Dial("vb1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		other, otherFar := connected(t, a1, b2)
		accepted := make(chan error, 1)
		synctest.Wait()
		go func() { b1.Accept(); _, err := b1.Accept(); accepted <- err }() // ends with b1
		synctest.Wait()
		b1.Close()
		b1.Close()
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		for i, conn := range []net.Conn{out, in, out2, in2, queued} {
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("connection %d is open: %v", i, err)
			}
		}
		if _, err := b1.Dial("va1", time.Second); !errors.Is(err, ErrUnreachable) {
			t.Error("dialled from a closed stream:", err)
		}
		if _, err := a1.Dial("vb1", time.Second); !errors.Is(err, refusedReplica) {
			t.Error("dialled a closed stream:", err)
		}
		go other.Write([]byte("x")) // ends when it was read
		if n, err := otherFar.Read(make([]byte, 1)); n != 1 {
			t.Error("another replica's connection:", err)
		}
		wellFor(t, a, "b")
	})
}

// A replica that does not accept, or does not read, holds up nobody.
func TestAStuckReplicaHoldsUpNoOther(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		at := places{"vb1": {"b", "b:1", "b1"}, "vb2": {"b", "b:1", "b2"}}
		a1, b1, b2 := openStream(t, a, replicaConfig("a1", at)), openStream(t, b, replicaConfig("b1", at)), openStream(t, b, replicaConfig("b2", at))
		unread, _ := connected(t, a1, b1)
		var stuck sync.WaitGroup
		stuck.Go(func() { io.Copy(unread, endless{}) }) // ends when it is closed
		for range maxQueued + 20 {
			if _, err := a1.Dial("vb1", time.Second); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := b.Stats().Connections; got != maxQueued+1 {
			t.Error(got, "connections")
		}
		near, far := connected(t, a1, b2)
		go near.Write([]byte("x")) // ends when it was read
		from := time.Now()
		if n, err := far.Read(make([]byte, 1)); n != 1 || time.Since(from) != 0 {
			t.Error("another replica's connection:", err)
		}
		wellFor(t, a, "b")
		unread.Close()
		stuck.Wait()
	})
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// What the directory no longer knows is cut when it says so.
func TestReviewCutsWhoIsGone(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		c := r.start("c")
		at := places{"vb1": {"b", "b:1", "b1"}}
		b1 := openStream(t, b, replicaConfig("b1", at))
		gone, goneFar := connected(t, openStream(t, a, replicaConfig("a1", at)), b1)
		stays, staysFar := connected(t, openStream(t, c, replicaConfig("c1", at)), b1)
		wellFor(t, a, "b")
		wellFor(t, c, "b")
		wellFor(t, b, "a")
		r.remove("a")
		b.Review()
		for _, conn := range []net.Conn{gone, goneFar} {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a removed node's connection is open")
			}
		}
		synctest.Wait()
		if n := b.Stats().Connections; n != 2 {
			t.Error(n, "connections")
		}
		go stays.Write([]byte("x")) // ends when it was read
		if n, err := staysFar.Read(make([]byte, 1)); n != 1 {
			t.Error("a member's connection:", err)
		}
		wellFor(t, c, "b")
		if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrRefused) {
			t.Error("a removed node is let in:", err)
		}
		if _, err := b.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrUnreachable) {
			t.Error("a removed node is called:", err)
		}
	})
}

// A node that starts anew is another: calls to the old life do not reach it,
// and the new one is found as soon as it is registered.
func TestANewLifeIsAnother(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		wellFor(t, a, "b")
		_, old, _ := r.resolve("b")
		b.Close()
		synctest.Wait()
		r.start("b")
		_, life, _ := r.resolve("b")
		r.register("b", "b:1", old)
		if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, refusedLife) {
			t.Error("the old life:", err)
		}
		r.register("b", "b:1", life)
		wellFor(t, a, "b")
		r.register("b", "b:2", life) // moved, while a connection is open
		if _, err := a.Call(t.Context(), "b", 1, nil); !errors.Is(err, ErrUnreachable) || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			t.Error("a wrong address:", err)
		}
		r.register("b", "b:1", life)
		wellFor(t, a, "b")
		synctest.Wait()
		if n := a.Stats().Connections; n != 1 {
			t.Error(n, "connections")
		}
	})
}

// One node has a bounded number of connections, and the newest counts.
func TestOneNodeHasFewConnections(t *testing.T) {
	bubbled(t, func(t *testing.T, r *rig) {
		a, b := r.start("a"), r.start("b")
		_, life, _ := r.resolve("a")
		var conns []net.Conn
		for range maxPerNode {
			conns = append(conns, r.admitted("a", life, "b", "b:1"))
		}
		wellFor(t, a, "b")
		synctest.Wait()
		if n := b.Stats().Connections; n != maxPerNode {
			t.Error(n, "connections")
		}
		if took := hungUp(t, conns[0]); took != 0 {
			t.Error("the oldest was cut after", took)
		}
		wellFor(t, a, "b")
	})
}
