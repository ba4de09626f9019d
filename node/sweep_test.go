package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloakroom"
)

// The sweep goes on with other shards when one has no leader any more.
func TestAShardWithoutAMajorityHoldsNoSweepUp(t *testing.T) {
	nodes := openMany(t, 3, nil)
	const text = "0b8c3a52-6f0e-4f7e-9d8b-3f3a5f6b7c8d"
	id, err := cloakroom.ParsePseudonym([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	shard := nodes[0].indexOf(nodes[0].call("PUT", "/v1/subjects/"+text, ada).want(t, 201, ""))[0].Shard
	for _, h := range nodes[1:] {
		if err := h.node.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	err = nodes[0].node.ScrubOne(ctx, shard, id)
	if !errors.Is(err, cloakroom.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("after the time of a whole sweep: %v", err)
	}
}
