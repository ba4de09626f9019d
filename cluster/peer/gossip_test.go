package peer

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

type heard struct {
	conn net.Conn
	from Peer
}

// gossips is a node that hands out what reaches its Gossip.
func (r *rig) gossips(node string) (*Port, chan heard) {
	arrived := make(chan heard, maxPerNode+1)
	return r.start(node, func(c *Config) {
		c.Gossip = func(conn net.Conn, from Peer) { arrived <- heard{conn, from} }
	}), arrived
}

func TestGossipReachesTheNodeAndLifeThatWasMeant(t *testing.T) {
	r := newRig(t, nil)
	a, _ := r.gossips("a")
	b, arrived := r.gossips("b")
	out, err := a.DialGossip(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("rumour")); err != nil {
		t.Fatal(err)
	}
	in := <-arrived
	got := make([]byte, 6)
	if _, err := io.ReadFull(in.conn, got); err != nil || string(got) != "rumour" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, life, _ := r.resolve("a"); in.from != (Peer{Node: "a", Life: life, Admitted: true, Key: in.from.Key, Bound: in.from.Bound}) {
		t.Errorf("from %+v", in.from)
	}
	if out.RemoteAddr().String() != "b" || in.conn.RemoteAddr().String() != "a" {
		t.Error("addresses are not the nodes' names:", out.RemoteAddr(), in.conn.RemoteAddr())
	}

	// Of another life there is no news.
	r.register("b", b.Addr(), r.newLife())
	if _, err := a.DialGossip(t.Context(), "b"); !errors.Is(err, ErrRefused) {
		t.Error("another life was dialled:", err)
	}
	if _, err := a.DialGossip(t.Context(), "nobody"); !errors.Is(err, ErrUnreachable) {
		t.Error("a node that is not registered was dialled:", err)
	}
}

func TestGossipEndsWithMembership(t *testing.T) {
	r := newRig(t, nil)
	a, _ := r.gossips("a")
	b, arrived := r.gossips("b")
	out, err := a.DialGossip(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	in := <-arrived
	r.remove("a")
	b.Review()
	in.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error("the connection of a removed node:", err)
	}
	r.remove("b")
	a.Review()
	if _, err := out.Write([]byte("x")); err == nil {
		t.Error("wrote to a node that is not registered")
	}
	if _, err := a.DialGossip(t.Context(), "b"); err == nil {
		t.Error("a removed node was dialled")
	}
}

// A stranger to gossip does not cost calls their connection, nor the other way
// round, and one node can't pile them up.
func TestGossipHasItsOwnSeats(t *testing.T) {
	r := newRig(t, nil)
	a, _ := r.gossips("a")
	_, arrived := r.gossips("b")
	if _, err := a.Call(t.Context(), "b", 1, []byte("x")); err != nil {
		t.Fatal(err)
	}
	first, err := a.DialGossip(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	in := <-arrived // of the first, whatever the order of the others
	for range maxPerNode {
		if _, err := a.DialGossip(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	in.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error("the oldest of too many connections stays:", err)
	}
	first.Close()
	if got := a.Stats().Calls; got != 1 {
		t.Fatal(got, "calls")
	}
	before := a.Stats().Connections
	if _, err := a.Call(t.Context(), "b", 1, []byte("x")); err != nil || a.Stats().Connections != before {
		t.Error("gossip cost the calls their connection:", err)
	}
}

func TestWhoDoesNotGossipIsNotGossipedWith(t *testing.T) {
	r := newRig(t, nil)
	a := r.start("a")
	r.start("b")
	if _, err := a.DialGossip(t.Context(), "b"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}
