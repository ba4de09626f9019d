package node

import (
	"context"
	"sync"

	"cloakroom"
	"cloakroom/cluster/command"
	"cloakroom/node/record"
)

// The scrub wipes fields that expired before their subject. A shard can't list
// them: when a field expires stands in the header of its sealed record, which
// only a node reads. So the node that leads a shard walks through its subjects,
// a part of them at every sweep, in about an hour once round.

const (
	scrubRounds = 360  // sweeps in which a shard is walked through once
	scrubLeast  = 256  // subjects looked at in one sweep of a shard, at least
	scrubMost   = 4096 // at most: then once round takes longer
)

// scrub is how far the walks have come.
type scrub struct {
	mu    sync.Mutex
	after [cloakroom.MaxShards]cloakroom.Token
}

func (s *scrub) at(shard cloakroom.ShardID) cloakroom.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.after[shard]
}

func (s *scrub) set(shard cloakroom.ShardID, after cloakroom.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after[shard] = after
}

// scrubShard looks at the next subjects of a shard that this node leads and
// wipes their fields that expired before.
func (n *Node) scrubShard(ctx context.Context, shard cloakroom.ShardID, before uint32) error {
	subjects := 0
	if all := n.cluster.Status().Shards; int(shard) < len(all) {
		subjects = all[shard].Subjects
	}
	for left := min(max(subjects/scrubRounds, scrubLeast), scrubMost); left > 0; left -= sweepBatch {
		if !n.cluster.Leads(shard) {
			return nil
		}
		tokens, err := n.cluster.Living(shard, n.scrub.at(shard), min(left, sweepBatch))
		if err != nil {
			return err
		}
		if len(tokens) == 0 { // once round
			n.scrub.set(shard, cloakroom.Token{})
			return nil
		}
		if err := n.scrubSome(ctx, shard, before, tokens); err != nil {
			return err
		}
		n.scrub.set(shard, tokens[len(tokens)-1])
	}
	return nil
}

// scrubSome wipes those fields of subjects that expired before. Whatever is
// written meanwhile wins: a subject's record is read before its fields, and
// its version must still hold.
func (n *Node) scrubSome(ctx context.Context, shard cloakroom.ShardID, before uint32, subjects []cloakroom.Token) error {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	var heads, fields command.Records
	if err := n.cluster.Read(ctx, shard, cloakroom.Lease, cloakroom.Index{}, subjects, &heads); err != nil {
		return err
	}
	rules := n.rulesNow()
	tokens, err := n.fieldTokens(rules, subjects)
	if err != nil {
		return err
	}
	// Never older than the heads, whoever answers: a value that replaced an
	// expired one must not be taken for it.
	if err := n.cluster.Read(ctx, shard, cloakroom.Linearizable, cloakroom.Index{}, tokens, &fields); err != nil {
		return err
	}
	var commands []command.Command
	columns := len(rules.declared)
	for i, subject := range subjects {
		head, err := command.DecodeSubject(heads.At(i))
		if err != nil || head.Erased || head.Alias {
			continue // gone since
		}
		c := command.Command{Kind: command.Expire, Flags: command.HasExpected, Expected: head.Version,
			Subject: subject, SchemaEpoch: rules.view.Schema.Epoch}
		for k := i * columns; k < (i+1)*columns; k++ {
			if expiredBefore(fields.At(k), before) {
				c.Fields = append(c.Fields, command.Field{Token: tokens[k]})
			}
		}
		if len(c.Fields) > 0 {
			c.SortFields()
			commands = append(commands, c)
		}
	}
	_, _, err = n.cluster.Propose(ctx, shard, commands)
	return err
}

// fieldTokens returns the tokens of every declared field of subjects, those of
// a subject side by side.
func (n *Node) fieldTokens(rules *rules, subjects []cloakroom.Token) ([]cloakroom.Token, error) {
	ids := make([]cloakroom.Pseudonym, len(subjects))
	for i, token := range subjects {
		var err error
		if ids[i], err = n.records.IDOf(cloakroom.SubjectField, token); err != nil {
			return nil, err
		}
	}
	columns := len(rules.declared)
	tokens, column := make([]cloakroom.Token, len(ids)*columns), make([]cloakroom.Token, len(ids))
	for c, number := range rules.declared {
		if err := n.records.Tokens(number, ids, column); err != nil {
			return nil, err
		}
		for i, token := range column {
			tokens[i*columns+c] = token
		}
	}
	return tokens, nil
}

// expiredBefore reports whether a sealed record, nil if there is none, expired
// at that time or earlier.
func expiredBefore(sealed []byte, before uint32) bool {
	if sealed == nil {
		return false
	}
	header, err := record.ParseHeader(sealed)
	return err == nil && header.Expiry != 0 && header.Expiry <= before
}
