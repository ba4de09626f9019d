package cluster

import (
	"context"
	"encoding/binary"
	"fmt"

	"cloakroom"
	"cloakroom/cluster/command"
)

// simReading is a read of some subjects in one call.
type simReading struct {
	parts []Part
	of    [][]int // subjects by shard
	dst   command.Records
}

// reading lays out a read. One in three waits for a late write of each shard,
// one in thirty for an index of another generation, which counts for nothing.
func (c *simClient) reading(subjects []int) *simReading {
	r := &simReading{of: make([][]int, c.world.shards)}
	for _, s := range subjects {
		r.of[c.world.shardOf(s)] = append(r.of[c.world.shardOf(s)], s)
	}
	dice := c.draw.IntN(30)
	for shard, some := range r.of {
		if len(some) == 0 {
			continue
		}
		p := Part{Shard: cloakroom.ShardID(shard), Spans: make([]command.Span, 2*len(some))}
		switch {
		case dice < 10:
			p.Index, p.Generation = c.world.latest[shard].Load(), 1
		case dice == 10:
			p.Index, p.Generation = 1<<40, 2
		}
		for _, s := range some {
			p.Tokens = append(p.Tokens, subjectToken(s), fieldToken(s))
		}
		r.parts = append(r.parts, p)
	}
	return r
}

// read reads subjects in one call, and reports whether all shards answered.
func (c *simClient) read(ctx context.Context, l *simLife, level cloakroom.Level, subjects ...int) bool {
	r := c.reading(subjects)
	alone := l.node.alone.Load()
	call := c.world.history.now()
	l.serving.Load().ReadParts(ctx, level, r.parts, &r.dst)
	alone, answered := alone && l.node.alone.Load(), c.world.history.now()
	if !c.heard(l) {
		return false
	}
	all := true
	for i := range r.parts {
		p := &r.parts[i]
		if p.Err != nil {
			all = false
			continue
		}
		for j, s := range r.of[p.Shard] {
			state, fault := decodeRecords(&r.dst, p.Spans[2*j], p.Spans[2*j+1])
			if fault != "" {
				c.world.truth.violated("%v: subject %d: %s", l, s, fault)
				continue
			}
			c.known[s] = state
			note := c.name + " at " + l.String()
			if level == cloakroom.Linearizable {
				c.world.history.add(simOp{subject: s, state: state, call: call, note: note}, true)
				continue
			}
			look := simLook{subject: s, state: state, call: call, answered: answered, alone: alone, note: note, entry: c.world.truth.entryOf(state)}
			if p.Generation == 1 {
				look.after = p.Index
			}
			c.world.history.look(look)
		}
	}
	return all
}

// decodeRecords tells what a subject's two records say, and whether they agree.
func decodeRecords(dst *command.Records, subject, field command.Span) (simState, string) {
	bytes := func(s command.Span) []byte { return dst.Buf[s.Off : s.Off+s.Len] }
	if subject.Len == 0 {
		if field.Len > 0 {
			return 0, "a field without its subject"
		}
		return simAbsent, ""
	}
	record, err := command.DecodeSubject(bytes(subject))
	switch {
	case err != nil:
		return 0, "a subject record that can't be read"
	case record.Erased && field.Len > 0:
		return 0, "a value that was erased"
	case record.Erased:
		return simErased, ""
	case record.Expiry != 0 && uint64(record.Expiry)*1000 <= dst.Time:
		return 0, "expired an hour early"
	case field.Len < 8 || binary.BigEndian.Uint64(bytes(field)) != uint64(simStateOf(record.Version)):
		return 0, fmt.Sprintf("version %v with the value of another", record.Version)
	}
	return simStateOf(record.Version), ""
}
