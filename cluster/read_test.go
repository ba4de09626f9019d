package cluster

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/wire"
)

// disturbed is a machine during whose reads something happens.
type disturbed struct {
	Machine
	during *func()
}

func (m disturbed) Read(tokens []cloakroom.Token, spans []command.Span, dst *command.Records) {
	m.Machine.Read(tokens, spans, dst)
	if *m.during != nil {
		(*m.during)()
	}
}

// Another node answered the first token of a part, the rest is read here, and
// the lead is lost during the copy: only the rest is asked for again, so only
// that may be forgotten. ClearedSpans: the answered record turned into none.
func TestALostLeadKeepsWhatAnotherNodeAnswered(t *testing.T) {
	var during func()
	c := open(t, func(cfg *Config, _ *rig) {
		inner := cfg.Machine
		cfg.Machine = func(id cloakroom.ShardID) (Machine, error) {
			m, err := inner(id)
			return disturbed{m, &during}, err
		}
	})
	g := c.group(1)
	m := g.member.Load()
	var dst command.Records
	parts := []Part{{Tokens: make([]cloakroom.Token, 2), Spans: dst.Extend(2)}}
	r := c.reads.get()
	r.begin(c.Cluster, c.ready.Load(), cloakroom.Linearizable, parts, &dst)
	r.fill(0, []command.Span{{Len: 5}}, 0)
	during = func() { g.member.Store(nil) }
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r.here(ctx, r.open)
	g.member.Store(m)
	if r.open != 1 || r.done[0] != 1 || parts[0].Spans[0].Len != 5 {
		t.Errorf("open %b, %d done, spans %v; want 1, 1 and the first of 5 bytes", r.open, r.done[0], parts[0].Spans)
	}
}

// A request that names one long record many times costs no more than the reply
// carries. ReadAmplified: all of it was copied, 782 MiB for 78 KiB.
func TestARequestCopiesNoMoreThanItsReply(t *testing.T) {
	r, _ := openReal(t, 64<<20)
	if _, _, err := r.Propose(t.Context(), 0, []command.Command{subject(1, strings.Repeat("x", 30_000))}); err != nil {
		t.Fatal(err)
	}
	tokens := make([]cloakroom.Token, 5000)
	for i := range tokens {
		tokens[i] = put(1, 0).Fields[0].Token
	}
	request := wire.ReadRequest{Parts: []wire.ReadPart{
		{Group: 1, Generation: 1, Tokens: tokens}, {Group: 2, Generation: 1, Tokens: tokens[:1]},
	}}
	body := request.Append(nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, err := r.serveRead(t.Context(), body)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d MiB allocated", got>>20)
	}
	var reply wire.ReadReply
	if err := reply.Decode(out); err != nil {
		t.Fatal(err)
	}
	first, second := reply.Parts[0], reply.Parts[1]
	if n := len(first.Spans); first.Code != wire.OK || n == 0 || n > wire.MaxReadBytes/30_000 || len(second.Spans) != 0 {
		t.Errorf("%d and %d tokens answered, code %v", n, len(second.Spans), first.Code)
	}
}

// What is more than one request may name, or one reply may carry, is asked for
// bit by bit, over several parts.
func TestALongReadFromAfar(t *testing.T) {
	h := newHouse(t, 3, 2, nil)
	for shard := range cloakroom.ShardID(2) {
		if err := h.node("n1").surely(t.Context(), shard, 1, strings.Repeat("x", 100)); err != nil {
			t.Fatal(err)
		}
	}
	tokens := make([]cloakroom.Token, 2*wire.MaxReadTokens+1)
	for i := range tokens {
		if i%2 == 0 {
			tokens[i] = put(1, 0).Fields[0].Token
		}
	}
	for _, name := range h.names() { // somebody is not the leader
		var dst command.Records
		parts := []Part{{Shard: 0, Tokens: tokens, Spans: make([]command.Span, len(tokens))},
			{Shard: 1, Tokens: tokens, Spans: make([]command.Span, len(tokens))}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		h.node(name).ReadParts(ctx, cloakroom.Linearizable, parts, &dst)
		cancel()
		for p := range parts {
			if parts[p].Err != nil {
				t.Fatalf("%s: %v", name, parts[p].Err)
			}
			for i, span := range parts[p].Spans {
				if want := uint32(100 * (1 - i%2)); span.Len != want {
					t.Fatalf("%s, part %d, token %d: %d bytes, want %d", name, p, i, span.Len, want)
				}
			}
		}
	}
}
