package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/cluster/directory"
	"cloakroom/cluster/wire"
)

// attemptTime bounds one try of a read: a node that fell silent must not use
// up the time of a caller whom a new leader could answer.
const attemptTime = 1500 * time.Millisecond

// leaseAttempt bounds the first try of a read that any replica may answer: a
// leader that fell silent must not keep it from the others.
const leaseAttempt = 400 * time.Millisecond

// everywhere reads every part where its leader is, here or by one call for
// each other node, and looks for leaders again until all have answered or ctx
// ends.
func (r *reading) everywhere(ctx context.Context) {
	for try := 0; r.open != 0; try++ {
		var mine, its <-chan struct{}
		if try > 0 { // nearly always the first try does it, without bells
			mine, its = r.news()
		}
		if r.round(ctx, try) || try == 0 || r.open == 0 {
			continue
		}
		if over := r.c.pause(ctx, mine, its, try); over != nil {
			r.giveUp(over)
			return
		}
	}
}

// news returns the bells of the first part that has no answer.
func (r *reading) news() (mine, its <-chan struct{}) {
	for i := range r.open.each {
		return r.shards[i].news()
	}
	return nil, nil
}

// round asks once for every part that has no answer. It returns true if there
// is more to get at once: the rest of a part, or a hint to follow.
func (r *reading) round(ctx context.Context, try int) bool {
	if r.level == cloakroom.Lease {
		if r.leased(r.open); r.open == 0 {
			return false
		}
	}
	local := r.route(try)
	calls, cancel := ctx, context.CancelFunc(func() {})
	if len(r.asks) > 0 {
		limit := attemptTime
		if r.level == cloakroom.Lease && try == 0 {
			limit = leaseAttempt
		}
		calls, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	var others sync.WaitGroup
	own := len(r.asks)
	if local == 0 && own > 0 {
		own-- // the last one is called from here
	}
	for _, a := range r.asks[:own] {
		others.Go(func() { a.call(calls, r.c) }) // ends with calls, at the latest
	}
	for _, a := range r.asks[own:] {
		a.call(calls, r.c)
	}
	if local != 0 {
		r.here(ctx, local)
	}
	others.Wait()
	more := false
	for _, a := range r.asks {
		more = r.merge(a) || more
	}
	return more
}

// route deals the parts without an answer out: those led here, and one ask
// for each other node.
func (r *reading) route(try int) (local partSet) {
	r.asks = r.asks[:0]
	for i := range r.open.each {
		s := r.shards[i]
		if m, _ := s.lead(); m != nil {
			local |= 1 << i
		} else if node := r.c.whoLeads(&s.group, r.hints[i], try); node != "" {
			a, tokens := r.askOf(node), r.parts[i].Tokens[r.done[i]:]
			if a.left == 0 && len(tokens) > 0 {
				continue // asked next
			}
			tokens = tokens[:min(len(tokens), a.left)]
			a.left -= len(tokens)
			a.set |= 1 << i
			p := wire.ReadPart{Group: uint32(s.id), Generation: s.generation.Load(), Index: r.awaited(i), Tokens: tokens}
			if own := s.member.Load(); own != nil && own.serves() {
				p.Term, p.Replica = own.replica.Term(), own.id
			}
			a.request.Parts = append(a.request.Parts, p)
		}
		r.hints[i] = ""
	}
	return local
}

// ask is what one node is asked in one round, and what it answered.
type ask struct {
	node    string
	set     partSet
	left    int // tokens that the request may still take
	request wire.ReadRequest
	body    []byte // encoded request, used again
	reply   wire.ReadReply
	err     error
}

// askOf returns the ask of a node.
func (r *reading) askOf(node string) *ask {
	for _, a := range r.asks {
		if a.node == node {
			return a
		}
	}
	n := len(r.asks)
	if n == len(r.spare) {
		r.spare = append(r.spare, &ask{})
	}
	a := r.spare[n]
	r.asks = append(r.asks, a)
	a.node, a.set, a.left, a.err = node, 0, wire.MaxReadTokens, nil
	a.request.Level, a.request.Parts = r.level, a.request.Parts[:0]
	return a
}

// call asks the node.
func (a *ask) call(ctx context.Context, c *Cluster) {
	a.body = a.request.Append(a.body[:0])
	if a.err = c.net.ask(ctx, a.node, wire.Read, a.body, &a.reply); a.err != nil {
		a.body = nil // it may still be on its way
	} else if len(a.reply.Parts) != len(a.request.Parts) {
		a.err = fmt.Errorf("%s answered %d parts of %d: %w", a.node, len(a.reply.Parts), len(a.request.Parts), cloakroom.ErrUnavailable)
	}
}

// merge takes an answer into the read and drops what was lent. It returns true
// if asking again at once may get more.
func (r *reading) merge(a *ask) (more bool) {
	defer a.forget()
	if a.err != nil {
		return false
	}
	base := uint32(len(r.dst.Buf))
	r.dst.Buf = append(r.dst.Buf, a.reply.Buf...)
	at, answered := 0, 0
	for i := range a.set.each {
		answer := &a.reply.Parts[at]
		at++
		switch answer.Code {
		case wire.OK:
			answered += len(answer.Spans)
			more = r.fill(i, answer.Spans, base) || more
			if r.level == cloakroom.Linearizable { // else it may be any replica with a lease
				r.shards[i].remember(a.node)
			}
		case wire.NotLeader, wire.Unavailable, wire.Starting, wire.Unknown:
			if r.hints[i] = r.c.nodeOf(answer.Hint); r.hints[i] != "" && r.hints[i] != a.node && r.redirects < maxRedirects {
				more = true
			}
		default:
			r.parts[i].Err = fmt.Errorf("read shard %d: %w", r.parts[i].Shard, answer.Code.Err())
			clear(r.parts[i].Spans)
			r.open &^= 1 << i
		}
	}
	if more {
		r.redirects++
	}
	// Whoever filled a request or a reply may have left whole parts out.
	full := a.left == 0 || len(a.reply.Buf) > wire.MaxReadBytes-command.MaxRecordBytes
	more = more || answered > 0 && full
	r.dst.Time, r.dst.Schema = max(r.dst.Time, a.reply.Time), max(r.dst.Schema, a.reply.Schema)
	return more
}

// fill notes the spans of a part's next tokens. It returns true if some are
// left to ask for.
func (r *reading) fill(i int, spans []command.Span, base uint32) (more bool) {
	p := &r.parts[i]
	to := p.Spans[r.done[i]:]
	if len(spans) > len(to) {
		return false
	}
	for j, s := range spans {
		if s.Len > 0 {
			s.Off += base
		}
		to[j] = s
	}
	r.done[i] += len(spans)
	if r.done[i] == len(p.Tokens) {
		r.open &^= 1 << i
		return false
	}
	return len(spans) > 0
}

// forget drops what belongs to others.
func (a *ask) forget() {
	clear(a.request.Parts)
	a.reply.Buf = nil
}

// reachAll returns when every shard has a leader that answers.
func (c *Cluster) reachAll(ctx context.Context, shards []*shard) error {
	parts := make([]Part, len(shards))
	for i, s := range shards {
		parts[i].Shard = s.shard
	}
	r := c.reads.get()
	defer c.reads.put(r)
	r.begin(c, &shards, cloakroom.Linearizable, parts, &command.Records{})
	r.everywhere(ctx)
	for i := range parts {
		if parts[i].Err != nil {
			return parts[i].Err
		}
	}
	return nil
}

// serving is the working memory of answering a read of another node.
type serving struct {
	request wire.ReadRequest
	parts   []Part
	asked   []int // part → position in request.Parts
	records command.Records
	reply   wire.ReadReply
}

// maxKept bounds the memory for records that is kept for the next read.
const maxKept = 2 * wire.MaxReadBytes

// serveRead answers with the records of those groups that this node leads.
func (c *Cluster) serveRead(ctx context.Context, body []byte) ([]byte, error) {
	s, _ := c.servings.Get().(*serving)
	if s == nil {
		s = &serving{}
	}
	defer c.keepServing(s)
	if err := s.request.Decode(body); err != nil {
		return nil, err
	}
	s.begin(c)
	r := c.reads.get()
	r.begin(c, c.shards.Load(), s.request.Level, s.parts, &s.records)
	r.limit = wire.MaxReadBytes
	for i, at := range s.asked {
		p := &s.request.Parts[at]
		r.votes[i] = vote{p.Replica, p.Term}
	}
	if r.level == cloakroom.Lease {
		r.leased(r.open)
	}
	r.here(ctx, r.open)
	r.giveUp(errMoved)
	for i, at := range s.asked {
		s.answer(&s.reply.Parts[at], &s.parts[i], r.shards[i])
	}
	c.reads.put(r)
	s.reply.Time, s.reply.Schema, s.reply.Buf = s.records.Time, s.records.Schema, s.records.Buf
	s.reply.Limit()
	return s.reply.Append(nil), nil
}

// begin lays the parts of a request out for a read. A group that is not here
// is answered at once.
func (s *serving) begin(c *Cluster) {
	asked := s.request.Parts
	s.parts, s.asked = s.parts[:0], s.asked[:0]
	s.records.Reset()
	s.reply.Parts = grown(s.reply.Parts, len(asked))
	tokens := 0
	for i := range asked {
		tokens += len(asked[i].Tokens)
	}
	spans := s.records.Extend(tokens)
	for i := range asked {
		p := &asked[i]
		mine := spans[:len(p.Tokens):len(p.Tokens)]
		spans = spans[len(p.Tokens):]
		shard, err := c.shardOf(directory.GroupID(p.Group), p.Generation)
		if err != nil {
			s.reply.Parts[i] = wire.ReadAnswer{Code: wire.CodeOf(err)}
			continue
		}
		s.parts = append(s.parts, Part{Shard: shard.shard, Index: p.Index, Generation: p.Generation, Tokens: p.Tokens, Spans: mine})
		s.asked = append(s.asked, i)
	}
}

// answer fills one part of the reply.
func (s *serving) answer(to *wire.ReadAnswer, p *Part, shard *shard) {
	switch {
	case p.Err == nil:
		*to = wire.ReadAnswer{Code: wire.OK, Spans: p.Spans}
	case errors.Is(p.Err, errMoved):
		*to = wire.ReadAnswer{Code: wire.NotLeader, Hint: shard.leaderHint()}
	default:
		*to = wire.ReadAnswer{Code: wire.CodeOf(p.Err)}
	}
}

// keepServing keeps working memory for the next read.
func (c *Cluster) keepServing(s *serving) {
	if cap(s.records.Buf) <= maxKept {
		c.servings.Put(s)
	}
}
