package node

import (
	"slices"
	"testing"

	"cloakroom"
)

// A shard that gave no answer says nothing of where the others stand.
func TestAFailedShardLeavesTheOthersIndexes(t *testing.T) {
	var w write
	first := cloakroom.Index{Shard: 0, Generation: 1, Index: 7}
	for _, at := range []cloakroom.Index{first, {Shard: 2, Generation: 1, Index: 3}, {}} {
		w.reached(at)
	}
	if want := []cloakroom.Index{first, {Shard: 2, Generation: 1, Index: 3}}; !slices.Equal(w.at, want) {
		t.Errorf("the write answers %v, want %v", w.at, want)
	}
	later := cloakroom.Index{Shard: 0, Generation: 1, Index: 9}
	if w.reached(later); w.at[0] != later {
		t.Errorf("after a second try: %v", w.at[0])
	}
}
