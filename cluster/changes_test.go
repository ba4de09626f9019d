package cluster

import (
	"testing"

	"cloakroom"
	"cloakroom/cluster/wire"
)

// An entry that an answer has no room for is a gap, told at once: cut off or
// sent, it would be asked for again for ever.
func TestAnEntryTooLargeForAnAnswerIsAGap(t *testing.T) {
	h := newHouse(t, 1, 2, func(_ string, cfg *Config) {
		cfg.Changes = func(shard cloakroom.ShardID, after uint64, limit int) ([]LoggedChange, uint64, bool, bool) {
			if shard == 0 {
				return make([]LoggedChange, limit-1), after + 1, false, false
			}
			return make([]LoggedChange, wire.MaxChanges-limit+changesBudget), after + 1, false, false
		}
	})
	n := h.node("n1")
	var request wire.ChangesRequest
	for _, s := range *n.shards.Load() {
		request.Parts = append(request.Parts, wire.ChangesPart{Group: uint32(s.id), Generation: s.generation.Load(), After: 7})
	}
	body, err := n.serveChanges(request.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	var reply wire.ChangesReply
	if err := reply.Decode(body); err != nil {
		t.Fatalf("the answer can't be read: %v", err)
	}
	first, second := &reply.Parts[0], &reply.Parts[1]
	if len(first.Changes) != changesBudget-1 || first.Gap {
		t.Errorf("the first shard: %d changes, gap %v", len(first.Changes), first.Gap)
	}
	if len(second.Changes) != 0 || !second.Gap || second.Reach != 8 {
		t.Errorf("the second shard: %d changes, gap %v, reach %d", len(second.Changes), second.Gap, second.Reach)
	}
}
