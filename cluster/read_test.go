package cluster

import (
	"context"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
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
	r.begin(c.Cluster, c.ready.Load(), cloakroom.Linearizable, cloakroom.Index{}, parts, &dst)
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
