package node

import (
	"sync"

	"cloakroom/cluster/wire"
)

// turned remembers which node was last turned away in which life for what, so
// that one that asks every second is written down once.
type turned struct {
	mu   sync.Mutex
	last map[string]refused // by node
}

type refused struct {
	life    string
	verdict wire.Verdict
}

// maxTurned bounds the nodes that are remembered; all have certificates.
const maxTurned = 1 << 10

// news reports whether that is another refusal than the last of this node.
func (t *turned) news(node, life string, verdict wire.Verdict) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := refused{life: life, verdict: verdict}
	if t.last[node] == now {
		return false
	}
	if t.last == nil || len(t.last) >= maxTurned {
		t.last = make(map[string]refused)
	}
	t.last[node] = now
	return true
}
