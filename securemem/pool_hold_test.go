package securemem

import (
	"context"
	"testing"
)

// TestRequestsDoNotWaitForEachOthersFirstBuffer: requests take large first
// buffers for as long as there are any, and then each wants another. Without
// room kept for those they would all hold their first one and wait.
func TestRequestsDoNotWaitForEachOthersFirstBuffer(t *testing.T) {
	p := newPool(make([]byte, 2<<20))
	now, cancel := context.WithCancel(t.Context())
	cancel() // so that nobody waits
	size := p.MaxBuffer()
	var firsts []*Buffer
	for {
		b, err := p.Get(now, size)
		if err != nil {
			break
		}
		firsts = append(firsts, b)
	}
	if got, want := len(firsts)*size, 1<<20; got != want {
		t.Errorf("first buffers take %d bytes of a pool of 2 MiB, want %d", got, want)
	}
	for _, first := range firsts {
		second, err := p.More(now, size)
		if err != nil {
			t.Fatalf("second buffer: %v", err)
		}
		second.Release()
		first.Release()
	}
	if s := p.Stats(); s.InUse != 0 || s.Waiting != 0 || p.firsts != 0 {
		t.Errorf("afterwards: %+v, %d bytes of first buffers", s, p.firsts)
	}
}

// TestWhoHoldsABufferIsServedFirst: a freed block goes to the request that can
// end with it.
func TestWhoHoldsABufferIsServedFirst(t *testing.T) {
	p := newPool(make([]byte, 64<<10))
	size := p.MaxBuffer()
	var all []*Buffer
	for range (64 << 10) / size {
		all = append(all, mustGet(t, p, size))
	}
	first := &waiter{order: p.order, first: true, leaf: none, ready: make(chan struct{})}
	further := &waiter{order: p.order, leaf: none, ready: make(chan struct{})}
	p.waiting, p.holding = append(p.waiting, first), append(p.holding, further)
	all[0].Release()
	if further.leaf == none || first.leaf != none {
		t.Errorf("the block went to leaf %d of the further and %d of the first buffer", further.leaf, first.leaf)
	}
}
