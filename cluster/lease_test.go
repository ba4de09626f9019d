package cluster

import (
	"context"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
)

// awaitLeases waits until every replica of every node has a lease.
func (h *house) awaitLeases() {
	h.t.Helper()
	h.await("leases", func() (bool, string) {
		for _, name := range h.names() {
			n := h.node(name)
			for _, s := range *n.shards.Load() {
				if m := s.member.Load(); m != nil && n.uptime() >= m.lease.Until() {
					return false, name + " has none of " + s.id.String()
				}
			}
		}
		return true, ""
	})
}

// leaderOf returns the node that leads a shard, and the others.
func (h *house) leaderOf(shard cloakroom.ShardID) (leader string, others []string) {
	h.t.Helper()
	h.await("a leader", func() (bool, string) {
		leader, others = "", nil
		for _, name := range h.names() {
			if h.node(name).Leads(shard) {
				leader = name
			} else {
				others = append(others, name)
			}
		}
		return leader != "", "none"
	})
	return leader, others
}

// peek reads one subject at level lease.
func (n *resident) peek(ctx context.Context, shard cloakroom.ShardID, serial uint64) (string, error) {
	var got command.Records
	err := n.Read(ctx, shard, cloakroom.Lease, cloakroom.Index{}, []cloakroom.Token{put(serial, 0).Fields[0].Token}, &got)
	if err != nil {
		return "", err
	}
	return string(got.At(0)), nil
}

// Every replica answers from its own memory, and asks nobody.
func TestEveryReplicaAnswersUnderItsLease(t *testing.T) {
	h := newHouse(t, 3, 2, nil)
	for shard := range cloakroom.ShardID(2) {
		if err := h.node("n1").surely(t.Context(), shard, 1, "value"); err != nil {
			t.Fatal(err)
		}
	}
	h.awaitLeases()
	for _, name := range h.names() {
		n := h.node(name)
		h.await("the value everywhere", func() (bool, string) {
			a, _ := n.peek(t.Context(), 0, 1)
			b, _ := n.peek(t.Context(), 1, 1)
			return a == "value" && b == "value", name + " lacks it"
		})
		before := n.Traffic().Calls["read"]
		for range 100 {
			for shard := range cloakroom.ShardID(2) {
				if got, err := n.peek(t.Context(), shard, 1); err != nil || got != "value" {
					t.Fatalf("%s reads %q, %v", name, got, err)
				}
			}
		}
		if after := n.Traffic().Calls["read"]; after != before {
			t.Errorf("%s asked others %d times", name, after-before)
		}
	}
}

// What is settled is seen by every replica at once.
func TestSettledIsSeenEverywhere(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	h.awaitLeases()
	slowest := time.Duration(0)
	for serial := range uint64(50) {
		writer := h.node(h.names()[serial%3])
		if err := writer.surely(t.Context(), 0, serial+1, "value"); err != nil {
			t.Fatal(err)
		}
		erase := subject(serial+1, "")
		erase.Kind, erase.Fields[0].Record = command.Erase, nil
		_, index, err := writer.Propose(t.Context(), 0, []command.Command{erase})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := h.node(h.names()[(serial+1)%3]).Settle(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
		for _, name := range h.names() {
			if got, err := h.node(name).peek(t.Context(), 0, serial+1); err != nil || got != "" {
				t.Fatalf("%s reads %q, %v after the erasure was settled", name, got, err)
			}
		}
	}
	t.Logf("the slowest of 50 barriers took %v", slowest)
}
