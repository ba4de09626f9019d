package cluster

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/lease"
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

// A lease waits for no time command, which followers hear of late: of three
// seconds some two are left nearly always, so that reads go on through an
// election.
func TestLeasesLastThroughTimes(t *testing.T) {
	h := newHouse(t, 3, 4, nil)
	h.awaitLeases()
	looks, short := 0, 0
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for begin := time.Now(); time.Since(begin) < 4*time.Second; <-ticks.C {
		for _, name := range h.names() {
			for _, s := range h.node(name).Status().Shards {
				looks++
				if s.Lease.Valid < 2*time.Second {
					short++
				}
			}
		}
	}
	if short*10 > looks {
		t.Errorf("in %d of %d looks there were less than 2 s left", short, looks)
	}
}

// A lease names the last entry that somebody was told of: a time only when the
// next one has come, and all there is after a snapshot.
func TestGrantsLeaveTheLastTimeOut(t *testing.T) {
	var m member
	machine := &sealedMachine{Machine: keepsNothing{}, written: &m.written,
		open: func(dst []byte, _, _ uint32, sealed []byte) ([]byte, error) { return append(dst, sealed...), nil }}
	timed := command.AppendBatch(nil, []command.Command{{Kind: command.Time, Value: 1}})
	wrote := command.AppendBatch(nil, []command.Command{{Kind: command.Time, Value: 1}, put(1, 1)})
	for i, step := range []struct {
		batch []byte
		want  uint64
	}{{timed, 0}, {timed, 1}, {wrote, 3}, {timed, 3}, {wrote, 5}, {timed, 5}, {timed, 6}, {nil, 8}, {timed, 8}} {
		if _, err := machine.Apply(uint64(i+1), step.batch); err != nil {
			t.Fatal(err)
		}
		if got := m.written.Load(); got != step.want {
			t.Errorf("after entry %d: written up to %d, want %d", i+1, got, step.want)
		}
	}
	if err := machine.Restore(nil); err != nil || m.written.Load() != 0 {
		t.Errorf("after a snapshot: written up to %d, %v", m.written.Load(), err)
	}
}

// keepsNothing is the state of a shard that is told and forgets.
type keepsNothing struct{ Machine }

func (keepsNothing) Apply(_ uint64, _ []byte, r []command.Result) ([]command.Result, error) {
	return r, nil
}
func (keepsNothing) Restore(io.Reader) error { return nil }

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

// aloneWithLease is a node with one shard whose replica has a lease by a clock
// moved by hand, and what happens during a copy out of it.
func aloneWithLease(t *testing.T) (r *rig, now *time.Duration, during *func()) {
	now, during = new(time.Duration), new(func())
	r = open(t, func(cfg *Config, _ *rig) {
		inner := cfg.Machine
		cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
			m, err := inner(id)
			return disturbed{m, during}, err
		}
		cfg.Uptime = func() time.Duration { return *now }
	})
	return r, now, during
}

// A lease counts as it was before the copy, and at the time after it.
func TestALeaseIsTakenBeforeTheCopyAndTheTimeAfter(t *testing.T) {
	r, now, during := aloneWithLease(t)
	m := r.group(1).member.Load()
	*now = 10
	for name, c := range map[string]struct {
		until time.Duration
		then  func()
		index uint64
		want  bool
	}{
		"fine":                           {until: 11, want: true},
		"over":                           {until: 10},
		"none":                           {},
		"over during the copy":           {until: 11, then: func() { *now = 11 }},
		"granted anew during the copy":   {until: 10, then: func() { m.lease.Extend(100) }},
		"an index that is not applied":   {until: 11, index: 1 << 40},
		"an index that has been applied": {until: 11, index: 1, want: true},
	} {
		*now, m.lease = 10, *new(lease.Holder)
		m.lease.Extend(c.until)
		*during = c.then
		var dst command.Records
		parts := []Part{{Tokens: make([]cloakroom.Token, 2), Spans: dst.Extend(2), Index: c.index, Generation: 1}}
		reading := r.reads.get()
		reading.begin(r.Cluster, r.ready.Load(), cloakroom.Lease, parts, &dst)
		reading.leased(reading.open)
		if got := reading.open == 0; got != c.want {
			t.Errorf("%s: answered %v, want %v", name, got, c.want)
		}
		*during = nil
		r.reads.put(reading)
	}
}

// A read that another node asked for, whose lease ran out during the copy, is
// read anew from the leader: what the limit of the reply cut off is whole then.
func TestACutOffPartIsWholeAgain(t *testing.T) {
	r, now, during := aloneWithLease(t)
	m := r.group(1).member.Load()
	m.lease.Extend(5)
	*during = func() { *now = 5 }
	var dst command.Records
	parts := []Part{{Tokens: make([]cloakroom.Token, 3), Spans: dst.Extend(3)}}
	reading := r.reads.get()
	reading.begin(r.Cluster, r.ready.Load(), cloakroom.Lease, parts, &dst)
	parts[0].Spans = parts[0].Spans[:1] // as a limit leaves it
	reading.forget(0)
	if len(parts[0].Spans) != 3 {
		t.Errorf("%d spans for 3 tokens", len(parts[0].Spans))
	}
	reading.leased(reading.open)
	if reading.open != 1 || len(dst.Buf) != 0 {
		t.Errorf("open %b, %d bytes kept", reading.open, len(dst.Buf))
	}
	r.reads.put(reading)
}

// A part whose index nobody has does not hold up the others.
func TestAPartThatWaitsHoldsUpNobody(t *testing.T) {
	h := newHouse(t, 3, 2, nil)
	for shard := range cloakroom.ShardID(2) {
		if err := h.node("n1").surely(t.Context(), shard, 1, "value"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range h.names() {
		h.await("the value", func() (bool, string) {
			got, _ := h.node(name).peek(t.Context(), 1, 1)
			return got == "value", "not at " + name
		})
		for _, level := range []cloakroom.Level{cloakroom.Lease, cloakroom.Linearizable} {
			var dst command.Records
			token := []cloakroom.Token{put(1, 0).Fields[0].Token}
			spans := dst.Extend(2)
			parts := []Part{{Shard: 0, Index: 1 << 40, Generation: 1, Tokens: token, Spans: spans[:1]},
				{Shard: 1, Index: 1 << 40, Generation: 9, Tokens: token, Spans: spans[1:]}}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			h.node(name).ReadParts(ctx, level, parts, &dst)
			cancel()
			if !errors.Is(parts[0].Err, cloakroom.ErrUnavailable) || dst.At(0) != nil {
				t.Errorf("%s, level %d: an index to come: %q, %v", name, level, dst.At(0), parts[0].Err)
			}
			if parts[1].Err != nil || string(dst.At(1)) != "value" {
				t.Errorf("%s, level %d: an index of another generation: %q, %v", name, level, dst.At(1), parts[1].Err)
			}
		}
	}
}

// A node whose replica of a shard is elsewhere reads from the leader, and when
// that dies from whoever has a lease.
func TestANodeWithoutAReplicaReads(t *testing.T) {
	h := newHouse(t, 4, 3, nil)
	view := h.node("n1").Directory()
	holders := map[string]bool{}
	for _, r := range view.Shards[0].Replicas {
		holders[r.Node] = true
	}
	outside := ""
	for _, name := range h.names() {
		if !holders[name] {
			outside = name
		}
	}
	if outside == "" {
		t.Skip("all four hold a replica")
	}
	if err := h.node(outside).surely(t.Context(), 0, 1, "value"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.node(outside).peek(t.Context(), 0, 1); err != nil || got != "value" {
		t.Fatalf("%q, %v", got, err)
	}
	h.await("leases", func() (bool, string) {
		for name := range holders {
			s := (*h.node(name).shards.Load())[0]
			if m := s.member.Load(); m == nil || h.node(name).uptime() >= m.lease.Until() {
				return false, name
			}
			if got, _ := h.node(name).peek(t.Context(), 0, 1); got == "" {
				return false, name + " lacks the value"
			}
		}
		return true, ""
	})
	leader, _ := h.leaderOf(0)
	h.kill(leader)
	begin := time.Now()
	got, err := h.node(outside).peek(t.Context(), 0, 1)
	if err != nil || got != "value" {
		t.Fatalf("without the leader: %q, %v", got, err)
	}
	t.Logf("without the leader: after %v", time.Since(begin))
}

// While no leader is there the replicas that are left go on answering.
func TestReadsGoOnWithoutALeader(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	if err := h.node("n1").surely(t.Context(), 0, 1, "value"); err != nil {
		t.Fatal(err)
	}
	h.awaitLeases()
	leader, others := h.leaderOf(0)
	for _, name := range others {
		h.await("the value", func() (bool, string) {
			got, err := h.node(name).peek(t.Context(), 0, 1)
			return err == nil && got == "value", name
		})
	}
	h.kill(leader)
	slowest := time.Duration(0)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for _, name := range others {
			begin := time.Now()
			if got, err := h.node(name).peek(t.Context(), 0, 1); err != nil || got != "value" {
				t.Fatalf("%s reads %q, %v", name, got, err)
			}
			slowest = max(slowest, time.Since(begin))
		}
	}
	if slowest > 500*time.Millisecond {
		t.Errorf("the slowest read took %v", slowest)
	}
}
