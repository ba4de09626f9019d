package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
)

// The first slice: what is deposited on any node is read on every node, the
// death of one changes nothing, and it comes back as a new life that votes.
func TestThreeNodes(t *testing.T) {
	h := newHouse(t, 3, 4, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	serial := uint64(0)
	wrote := map[uint64]cloakroom.ShardID{}
	round := func() {
		t.Helper()
		for _, name := range h.names() {
			for shard := range cloakroom.ShardID(4) {
				serial++
				if err := h.node(name).surely(ctx, shard, serial, fmt.Sprint("value ", serial)); err != nil {
					t.Fatalf("deposit on %s: %v", name, err)
				}
				wrote[serial] = shard
			}
		}
		for _, name := range h.names() {
			for s, shard := range wrote {
				got, err := h.node(name).look(ctx, shard, s)
				if err != nil || got != fmt.Sprint("value ", s) {
					t.Fatalf("read of %d on %s: %q, %v", s, name, got, err)
				}
			}
		}
	}
	round()
	for _, name := range []string{"n1", "n3", "n2"} {
		before := h.node(name).life
		h.kill(name)
		begin := time.Now()
		round()
		t.Logf("killed %s: all shards written and read after %v", name, time.Since(begin))
		n := h.start(name)
		if n.life == before {
			t.Fatal("the old life came back")
		}
		h.awaitTolerance(1)
		t.Logf("restarted: tolerates 1 after %v", time.Since(begin))
		round()
	}
}

// Two replicas of three are gone: nothing is done, and that is what is said.
func TestWithoutAQuorum(t *testing.T) {
	h := newHouse(t, 3, 2, nil)
	if err := h.node("n1").surely(t.Context(), 0, 1, "first"); err != nil {
		t.Fatal(err)
	}
	h.kill("n1")
	h.kill("n2")
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	n := h.node("n3")
	if _, err := n.look(soon(), 0, 1); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("read: got %v, want unavailable", err)
	}
	if err := n.deposit(soon(), 0, 2, "second"); !errors.Is(err, cloakroom.ErrUnavailable) || errors.Is(err, cloakroom.ErrOutcomeUnknown) {
		t.Errorf("deposit: got %v, want unavailable", err)
	}
	if _, err := n.NextSealingNumber(soon()); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("change of the directory: got %v, want unavailable", err)
	}
	if s := n.Status(); s.Ready || s.Shards[0].Tolerates != 0 || s.Shards[0].Majority || s.Directory.Majority || s.Shards[0].Leader != "" {
		t.Errorf("status: %s", describe(&s))
	}
	if v := n.Directory(); v.Epoch == 0 || len(v.Nodes) != 3 {
		t.Errorf("the view is gone: %+v", v)
	}
}

// Numbers are handed out once, whichever node is asked, and the node that
// changed the directory sees the change.
func TestTheDirectoryIsChangedFromAnyNode(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	var mu sync.Mutex
	seen := make(map[cloakroom.SealingNumber]bool)
	var wg sync.WaitGroup
	for _, name := range h.names() {
		n := h.node(name)
		wg.Go(func() {
			for range 20 {
				number, err := n.NextSealingNumber(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if shown := n.Directory().SealingNumber; shown < number {
					t.Errorf("%s got number %d and sees %d", n.name, number, shown)
				}
				mu.Lock()
				if seen[number] {
					t.Errorf("number %d was handed out twice", number)
				}
				seen[number] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	result, err := h.node("n2").ProposeDirectory(t.Context(), &directory.Command{SetSchema: &directory.SetSchema{ExpectedEpoch: 5}})
	if err != nil || !errors.Is(result.Err(), cloakroom.ErrConflict) {
		t.Errorf("a refusal from afar: %+v, %v", result, err)
	}
}

// An orderly end hands its leads over: writes go on without an election. The
// machine may be too busy for that to show at once.
func TestCloseHandsOver(t *testing.T) {
	h := newHouse(t, 3, 4, nil)
	for range 5 {
		from := h.node(h.names()[0]).Status().Shards[0].Leader
		h.end(from, (*Cluster).Close)
		begin := time.Now()
		for shard := range cloakroom.ShardID(4) {
			if err := h.node(h.names()[0]).surely(t.Context(), shard, uint64(shard)+1, "after"); err != nil {
				t.Errorf("shard %d: %v", shard, err)
			}
		}
		if time.Since(begin) < 400*time.Millisecond { // less than any election takes
			return
		}
		h.start(from)
		h.awaitTolerance(1)
	}
	t.Error("writes stopped for an election")
}

// More nodes than voters: the others forward, and learn of the directory.
func TestFiveNodes(t *testing.T) {
	h := newHouse(t, 5, 3, nil)
	view := h.node("n5").Directory()
	for g := range view.Groups() {
		info, _ := view.Group(g)
		voters := 0
		for _, r := range info.Replicas {
			if r.State == directory.Voter {
				voters++
			}
		}
		if voters != 3 {
			t.Errorf("%s has %d voters: %+v", g, voters, info.Replicas)
		}
	}
	for i, name := range h.names() {
		for shard := range cloakroom.ShardID(3) {
			serial := uint64(i*10) + uint64(shard) + 1
			if err := h.node(name).surely(t.Context(), shard, serial, name); err != nil {
				t.Fatal(err)
			}
			for _, other := range h.names() {
				if got, err := h.node(other).look(t.Context(), shard, serial); err != nil || got != name {
					t.Errorf("%s wrote, %s reads %q, %v", name, other, got, err)
				}
			}
		}
	}
}

// A batch that does not fit into one call goes in pieces, and a page whose
// records do not fit into one answer is asked for in pieces.
func TestLargePagesComeInPieces(t *testing.T) {
	h := newHouse(t, 3, 2, nil)
	const each = 60
	dst := &command.Records{}
	parts := make([]Part, 2)
	for shard := range parts {
		var cmds []command.Command
		p := &parts[shard]
		p.Shard = cloakroom.ShardID(shard)
		for i := range each {
			c := subject(uint64(shard*each+i+1), string(bytes.Repeat([]byte{byte(i + 1)}, 60_000)))
			cmds = append(cmds, c)
			p.Tokens = append(p.Tokens, c.Fields[0].Token, cloakroom.Token{byte(i), 9})
		}
		_, _, err := h.node("n2").Propose(t.Context(), p.Shard, cmds)
		for errors.Is(err, cloakroom.ErrOutcomeUnknown) {
			_, _, err = h.node("n2").Propose(t.Context(), p.Shard, cmds)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spans := dst.Extend(4 * each)
	parts[0].Spans, parts[1].Spans = spans[:2*each], spans[2*each:]
	h.node("n2").ReadParts(t.Context(), cloakroom.Linearizable, parts, dst)
	for shard := range parts {
		if parts[shard].Err != nil {
			t.Fatal(parts[shard].Err)
		}
		for i := range each {
			at := 2 * (shard*each + i)
			if got := dst.At(at); len(got) != 60_000 || got[0] != byte(i+1) || got[59_999] != byte(i+1) {
				t.Fatalf("record %d of shard %d: %d bytes", i, shard, len(got))
			}
			if dst.At(at+1) != nil {
				t.Fatal("a record that was never deposited")
			}
		}
	}
	if dst.Time == 0 {
		t.Error("no shard time")
	}
}

// A read at an index waits for it on the leader, also when asked from afar.
func TestReadFromAfarWaitsForItsIndex(t *testing.T) {
	h := newHouse(t, 3, 1, nil)
	c := subject(1, "value")
	_, index, err := h.node("n3").Propose(t.Context(), 0, []command.Command{c})
	if err != nil || index.Index == 0 {
		t.Fatal(index, err)
	}
	var got command.Records
	if err := h.node("n2").Read(t.Context(), 0, cloakroom.Lease, index, []cloakroom.Token{c.Fields[0].Token}, &got); err != nil || string(got.At(0)) != "value" {
		t.Fatalf("%q, %v", got.At(0), err)
	}
	index.Index += 1000
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := h.node("n2").Read(ctx, 0, cloakroom.Lease, index, nil, &got); !errors.Is(err, cloakroom.ErrUnavailable) {
		t.Errorf("an index to come: %v", err)
	}
}
